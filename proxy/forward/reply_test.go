package forward

import (
	"bufio"
	"strings"
	"testing"

	"gatepost/internal/mail"
)

func TestReadReply(t *testing.T) {
	tests := []struct {
		in   string
		want mail.Reply
		err  string
	}{
		{in: "250 ok\r\n", want: mail.Reply{Code: 250, Text: "ok"}},
		{in: "250\r\n", want: mail.Reply{Code: 250}},
		{in: "250 \r\n", want: mail.Reply{Code: 250}},
		{in: "250 ok\n", want: mail.Reply{Code: 250, Text: "ok"}},
		{in: "550 5.7.1 no\r\n", want: mail.Reply{Code: 550, Detail: "7.1", Text: "no"}},
		{in: "550 4.7.1 no\r\n", want: mail.Reply{Code: 550, Text: "4.7.1 no"}},
		{in: "550-5.7.1 one\r\n550-5.7.1 two\r\n550 5.7.1 three\r\n", want: mail.Reply{Code: 550, Detail: "7.1", Text: "one\ntwo\nthree"}},
		{in: "250-one\r\n250\r\n", want: mail.Reply{Code: 250, Text: "one\n"}},
		{in: "250-one\r\n251 two\r\n", err: "both 250 and 251"},
		{in: "250-one\r\n", err: "EOF"},
		{in: "250 no end", err: "EOF"},
		{in: "", err: "EOF"},
		{in: "\r\n", err: "not a reply"},
		{in: "25 ok\r\n", err: "not a reply"},
		{in: "2500 ok\r\n", err: "not a reply"},
		{in: "250_ok\r\n", err: "not a reply"},
		{in: "150 ok\r\n", err: "not a reply"},
		{in: "650 ok\r\n", err: "not a reply"},
		{in: " 250 ok\r\n", err: "not a reply"},
		{in: "２50 ok\r\n", err: "not a reply"},
		{in: "+25 ok\r\n", err: "not a reply"},
		{in: strings.Repeat("250-x\r\n", 99) + "250 x\r\n", want: mail.Reply{Code: 250, Text: strings.Repeat("x\n", 99) + "x"}},
		{in: strings.Repeat("250-x\r\n", 100) + "250 x\r\n", err: "endless"},
		{in: "250 " + strings.Repeat("x", maxReplyLine) + "\r\n", err: "endless"},
	}
	for _, tt := range tests {
		got, err := readReply(bufio.NewReaderSize(strings.NewReader(tt.in), maxReplyLine))
		if tt.err == "" && (err != nil || got != tt.want) || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%.40q: got %+v, %v; want %+v, %s", tt.in, got, err, tt.want, tt.err)
		}
	}
}

// FuzzReadReply: whatever comes, what is read is bounded, is a reply, and leaves
// what is behind it.
func FuzzReadReply(f *testing.F) {
	for _, s := range []string{
		"250 ok\r\n", "250-a\r\n250-SIZE 10\r\n250 b\r\n354 go\r\n", "550 5.7.1 no\r\n", "421\n",
		"250-a\r\n550 b\r\n", "\xff\x00\x1b\r\n", "250-5.0.0\r\n250 5.0.0 x\r\n", "220-" + strings.Repeat("x", 5000),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		in := bufio.NewReaderSize(strings.NewReader(s), maxReplyLine)
		r, err := readReply(in)
		if err != nil {
			if r != (mail.Reply{}) {
				t.Fatalf("both %+v and %v", r, err)
			}
			return
		}
		if r.Code < 200 || r.Code > 599 || len(r.Text) > maxReplySize || strings.Count(r.Text, "\n") >= maxReplyLines {
			t.Fatalf("read %+v", r)
		}
		if b := bounded(r); len(b.Text) > maxReplyText+3 {
			t.Fatalf("kept %d bytes", len(b.Text))
		}
		if wire := string(r.Wire()); strings.Count(wire, "\r\n") != strings.Count(wire, "\n") {
			t.Fatalf("printed as %q", wire)
		}
		_ = parseExtensions(r.Text)
	})
}
