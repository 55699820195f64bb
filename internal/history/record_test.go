package history

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"gatepost/internal/mail"
)

// What was decided on comes back as it was, so that it can be decided again.
func TestTransaction(t *testing.T) {
	tx, v, a := sample(t, 100)
	tx.Findings = append(tx.Findings, mail.Finding{Filter: "greylist", Name: mail.FindingReturned, Rcpt: tx.Envelope.Recipients[0].Address})
	r := Make(tx, v, a, nil, tx.Start.Add(time.Second))
	c, err := newCodec()
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	packed, err := c.pack(&r)
	if err != nil {
		t.Fatal(err)
	}
	back, err := c.unpack(packed)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(back.keys(), r.keys()) {
		t.Errorf("keys of what is kept: %q, want %q", back.keys(), r.keys())
	}
	got := back.Transaction()
	if !bytes.Equal(got.Message.Header.Bytes(), tx.Message.Header.Bytes()) || got.Message.Size() != tx.Message.Size() {
		t.Errorf("message of %d bytes:\n%s\nwant %d:\n%s", got.Message.Size(), got.Message.Header.Bytes(), tx.Message.Size(), tx.Message.Header.Bytes())
	}
	if _, err := io.ReadAll(got.Message.Body()); !errors.Is(err, ErrNoBody) {
		t.Errorf("reading the body: %v, want that it is not kept", err)
	}
	got.Message, tx.Message = nil, nil
	for _, w := range []struct {
		name      string
		got, want any
	}{
		{"session", got.Session, tx.Session}, {"envelope", got.Envelope, tx.Envelope}, {"findings", got.Findings, tx.Findings},
		{"asked", got.Asked, tx.Asked}, {"inside", got.Inside, tx.Inside}, {"ID", got.ID, tx.ID}, {"stage", got.Stage, tx.Stage}, {"start", got.Start, tx.Start},
	} {
		if !reflect.DeepEqual(w.got, w.want) {
			t.Errorf("%s: got %+v, want %+v", w.name, w.got, w.want)
		}
	}
	if len(packed) > 1500 {
		t.Errorf("a record of %d bytes", len(packed))
	}
	if gaps := back.Unknown(); !slices.Equal(gaps, []Gap{GapBody}) {
		t.Errorf("unknown: %v", gaps)
	}
}

func TestMake(t *testing.T) {
	rcpts := []mail.Path{{Address: parsed(t, "a@example.com")}, {Address: parsed(t, "b@example.com")}}
	tests := []struct {
		name  string
		make  func(tx *mail.Transaction) Record
		check func(r Record) bool
	}{
		{"decoded fields", func(tx *mail.Transaction) Record { _, v, a := sample(t, 5); return Make(tx, v, a, nil, epoch) }, func(r Record) bool {
			return r.Subject == "Grüße invoice number 5" && r.From == "André <author5@example.net>" && r.MessageID == "<mid.5@example.org>"
		}},
		{"one verdict for all", func(tx *mail.Transaction) Record {
			tx.Envelope.Recipients = rcpts
			return Make(tx, mail.Verdict{Action: mail.Accept}, mail.Answer{Stage: mail.StageMessage, Action: mail.Accept}, nil, epoch)
		}, func(r Record) bool {
			return len(r.Recipients) == 2 && r.Recipients[1].Action == "accept"
		}},
		{"different verdicts", func(tx *mail.Transaction) Record {
			tx.Envelope.Recipients = rcpts
			v := mail.Verdict{Action: mail.Quarantine, Recipients: []mail.Verdict{{Action: mail.Accept}, {Action: mail.Quarantine, Reason: "spam", Edits: []mail.Edit{mail.DeleteHeader{At: 3}}}}}
			return Make(tx, v, mail.Answer{Stage: mail.StageMessage, Action: mail.Quarantine}, nil, epoch)
		}, func(r Record) bool {
			return r.Recipients[0].Action == "accept" && r.Recipients[1].Action == "quarantine" && r.Recipients[1].Reason == "spam" &&
				len(r.Recipients[1].Edits) == 1 && strings.HasPrefix(r.Recipients[1].Edits[0], "remove To: rcpt5@")
		}},
		{"refused for all after different verdicts", func(tx *mail.Transaction) Record {
			tx.Envelope.Recipients = rcpts
			v := mail.Verdict{Action: mail.TempFail, Recipients: []mail.Verdict{{Action: mail.Accept}, {Action: mail.TempFail}}}
			return Make(tx, v, mail.Answer{Stage: mail.StageMessage, Action: mail.TempFail}, nil, epoch)
		}, func(r Record) bool { return r.Recipients[0].Action == "tempfail" }},
		{"refused at RCPT", func(tx *mail.Transaction) Record {
			a := mail.Answer{Stage: mail.StageRcpt, Action: mail.Reject, Reply: mail.Reply{Code: 550, Detail: "1.1", Text: "unknown"}, About: "c@example.com"}
			tx.Message = nil
			return Make(tx, mail.Verdict{}, a, []Refused{{a.About, a}}, epoch)
		}, func(r Record) bool {
			return len(r.Recipients) == 2 && r.Recipients[0].Action == "" && r.Recipients[1].Stage == "rcpt" && r.Recipients[1].Reply == "550 5.1.1 unknown" &&
				len(r.Transaction().Envelope.Recipients) == 1 && r.Unknown()[0] == GapMessage
		}},
		{"refused at connect has an ID", func(*mail.Transaction) Record {
			return Make(&mail.Transaction{}, mail.Verdict{}, mail.Answer{Stage: mail.StageConnect, Action: mail.Reject}, nil, epoch)
		}, func(r Record) bool { return mail.ValidID(r.ID) && r.Stage == "connect" }},
		{"a header too long", func(tx *mail.Transaction) Record {
			for range 40 {
				tx.Message.Header = append(tx.Message.Header, mail.NewField("X-Long", strings.Repeat("x", 4000)))
			}
			return Make(tx, mail.Verdict{}, mail.Answer{Stage: mail.StageMessage}, nil, epoch)
		}, func(r Record) bool {
			return r.HeaderCut && len(r.Header) <= longestHeader && slices.Contains(r.Unknown(), GapHeader) && r.Transaction().Message.Size() == r.Size
		}},
		{"M2 parts without end", func(tx *mail.Transaction) Record {
			tx.Inside.Parts = make([]mail.Part, 5000)
			return Make(tx, mail.Verdict{}, mail.Answer{Stage: mail.StageMessage}, nil, epoch)
		}, func(r Record) bool { return len(r.Inside.Parts) == mostParts && slices.Contains(r.Unknown(), GapParts) }},
		{"W8 no line ends in what is shown", func(tx *mail.Transaction) Record {
			tx.Message.Header = mail.Header{mail.NewField("Subject", "=?utf-8?q?a=0D=0Ab=1B[2J?=")}
			return Make(tx, mail.Verdict{}, mail.Answer{Stage: mail.StageMessage}, nil, epoch)
		}, func(r Record) bool { return r.Subject == "a  b [2J" }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tx, _, _ := sample(t, 5)
			if r := tt.make(tx); !tt.check(r) {
				t.Errorf("got %+v", r)
			}
		})
	}
}

// A record does not change with what it was made of.
func TestMakeShares(t *testing.T) {
	tx, v, a := sample(t, 5)
	r := Make(tx, v, a, nil, epoch)
	c, err := newCodec()
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	one, err := c.pack(&r)
	if err != nil {
		t.Fatal(err)
	}
	tx.Session.Helo, tx.Session.Macros["j"], tx.Findings[0].Value, tx.Envelope.Recipients[0].Address.Local = "x", "x", "x", "x"
	tx.Session.TLS.Version, tx.Envelope.Sender.Args[0] = "x", "x"
	if two, _ := c.pack(&r); !bytes.Equal(one, two) {
		t.Error("the record changed")
	}
}

// FuzzUnpack: whatever a damaged file holds, it is an error or a record.
func FuzzUnpack(f *testing.F) {
	c, err := newCodec()
	if err != nil {
		f.Fatal(err)
	}
	r := sampleRecord(f, 1)
	packed, err := c.pack(&r)
	if err != nil {
		f.Fatal(err)
	}
	for _, b := range [][]byte{packed, packed[:len(packed)/2], nil, {0x28, 0xb5, 0x2f, 0xfd}, c.enc.EncodeAll([]byte("\xff\xff\xff\xff\x0f{}"), nil)} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := c.unpack(b); err == nil {
			r.keys()
			r.Transaction()
			r.Unknown()
		}
	})
}
