package testkit

import (
	"bytes"
	"crypto/tls"
	"strings"
	"testing"
	"time"
)

func TestSinkKeepsWhatTheClientSends(t *testing.T) {
	bodies := []struct {
		name string
		data string
	}{
		{"plain", "Subject: x\r\n\r\nhello\r\n"},
		{"dots at the beginnings of lines", "Subject: x\r\n\r\n.\r\n..\r\n...x\r\n.\r\n"},
		{"first line is a dot", ".\r\n"},
		{"line longer than the buffer", "Subject: x\r\n\r\n" + strings.Repeat("y", 200_000) + "\r\n"},
		{"CRLF across the buffer's end", strings.Repeat("y", 64<<10-1) + "\r\n.z\r\n"},
		{"bare line ends are no line ends", "a\n.\nb\r.\rc\n.\r\n"},
		{"empty", ""},
	}
	s := Up(t, NewSink())
	for i, tt := range bodies {
		t.Run(tt.name, func(t *testing.T) {
			res := Send(s.Addr, Letter{From: "a@sender.test", To: []string{"u@example.com", "v@example.com"}, Data: []byte(tt.data), Args: "BODY=8BITMIME"})
			if !res.Accepted() {
				t.Fatal(res)
			}
			got := s.Mails()
			if len(got) != i+1 {
				t.Fatalf("%d messages, want %d", len(got), i+1)
			}
			m := got[i]
			if !bytes.Equal(m.Data, []byte(tt.data)) {
				t.Errorf("data = %.80q, want %.80q", m.Data, tt.data)
			}
			if m.From != "<a@sender.test> BODY=8BITMIME" || len(m.To) != 2 || m.To[1] != "<v@example.com>" || m.Helo != "client.test" {
				t.Errorf("envelope = %q %q helo %q", m.From, m.To, m.Helo)
			}
		})
	}
}

func TestSinkAnswersAsTold(t *testing.T) {
	letter := Letter{From: "a@sender.test", To: []string{"u@example.com"}, Data: []byte("x\r\n")}
	tests := []struct {
		name         string
		verb, answer string
		want         string // beginning of the result
		taken        int
	}{
		{"greeting", Banner, "554 no", "BANNER: 554 no", 0},
		{"sender", "MAIL", "451 later", "MAIL: 451 later", 0},
		{"recipient", "RCPT", "550 5.1.1 who?", "RCPT: 550 5.1.1 who?", 0},
		{"data", "DATA", "421 bye", "DATA: 421 bye", 0},
		{"message", Dot, "554 two\n554 lines", ".: 554 two lines", 0},
		{"message taken with other words", Dot, "250 mine", ".: 250 mine", 1},
		{"dropped before the reply", Dot, Drop, ".: testkit: client: read reply", 0},
		{"taken and dropped", Dot, TakeAndDrop, ".: testkit: client: read reply", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := Up(t, NewSink())
			s.Script(tt.verb, tt.answer)
			if got := Send(s.Addr, letter).String(); !strings.HasPrefix(got, tt.want) {
				t.Errorf("result = %q, want %q…", got, tt.want)
			}
			if got := len(s.Mails()); got != tt.taken {
				t.Errorf("%d messages, want %d", got, tt.taken)
			}
			if res := Send(s.Addr, letter); !res.Accepted() {
				t.Errorf("the second time: %v", res)
			}
		})
	}
}

func TestSinkRefusesSomeRecipientsAlways(t *testing.T) {
	s := NewSink()
	s.Rule = func(verb, arg string) string {
		if verb == "RCPT" && strings.Contains(arg, "gone") {
			return "550 5.1.1 gone"
		}
		return ""
	}
	Up(t, s)
	res := Send(s.Addr, Letter{To: []string{"gone@example.com", "u@example.com"}, Data: []byte("x\r\n")})
	if !res.Accepted() || res.Refused["gone@example.com"].Code != 550 {
		t.Errorf("result = %v, refused %v", res, res.Refused)
	}
	if got := s.Mails()[0].To; len(got) != 1 {
		t.Errorf("recipients = %q", got)
	}
}

func TestSinkHangsUntilItStops(t *testing.T) {
	s := Up(t, NewSink())
	s.Script("EHLO", Hang)
	d := Connect(t, s.Addr)
	d.Timeout = 50 * time.Millisecond
	if r, err := d.Cmd("EHLO x"); err == nil {
		t.Fatalf("got %v, want no answer", r)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := Dial(s.Addr); err == nil {
		t.Error("the sink still listens")
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	Connect(t, s.Addr).Do("EHLO x", 250)
}

func TestSinkSpeaksTLS(t *testing.T) {
	cert, err := NewCertificate(Dir(t), "sink.test")
	if err != nil {
		t.Fatal(err)
	}
	s := NewSink()
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert.Pair}}
	Up(t, s)
	d := Connect(t, s.Addr)
	if r := d.Do("EHLO x", 250); !strings.Contains(r.Text(), "STARTTLS") {
		t.Errorf("STARTTLS is not offered: %v", r)
	}
	d.Do("STARTTLS", 220)
	if err := d.StartTLS(&tls.Config{RootCAs: cert.Pool, ServerName: "sink.test"}); err != nil {
		t.Fatal(err)
	}
	if r := d.Do("EHLO x", 250); strings.Contains(r.Text(), "STARTTLS") {
		t.Errorf("STARTTLS is offered again: %v", r)
	}
	if res := d.Deliver(Letter{To: []string{"u@example.com"}, Data: []byte("x\r\n")}); !res.Accepted() {
		t.Fatal(res)
	}
	if m := s.Mails(); len(m) != 1 || !m[0].TLS {
		t.Errorf("mails = %+v", m)
	}
}

func TestConfigText(t *testing.T) {
	var c Config
	c.Set("policy", "tag", "5.0")
	c.Set("", "hostname", `"a"`)
	c.Set("filter.clamav", "timeout", `"1s"`)
	c.Set("policy", "tag", "6.0")
	c.Drop("filter.clamav")
	if got, want := c.Text(), "hostname = \"a\"\n\n[policy]\ntag = 6.0\n"; got != want {
		t.Errorf("text = %q, want %q", got, want)
	}
}

func TestExpandLeavesNoPlaceholder(t *testing.T) {
	got := string(Expand([]byte("Date: @DATE@\n\n@EICAR@\n@GTUBE@\r\n@EICAR-ZIP@\n")))
	if strings.Contains(got, "@EICAR") || strings.Contains(got, "@DATE") || !strings.Contains(got, EICAR()+"\r\n"+GTUBE()+"\r\nUEs") {
		t.Errorf("expanded = %q", got)
	}
	if strings.Contains(strings.ReplaceAll(got, "\r\n", ""), "\n") {
		t.Error("bare LF")
	}
}
