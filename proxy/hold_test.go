package proxy

import (
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// What is held for an MTA: copies with the same body are one record, a replaced
// body has its own, and nothing in either can be taken for a line end that is
// none.
func TestHold(t *testing.T) {
	sp, err := spool.Open(spool.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := sp.Close(); err != nil {
			t.Error(err)
		}
	}()
	text := "Subject: caf\xe9 a\rb\r\n\r\nbody\n.\r\nRCPT\r"
	m, err := mail.ReadMessage(strings.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	rcpt := func(local string) []mail.Path {
		return []mail.Path{{Address: mail.Address{Local: local, Domain: "b.example"}}}
	}
	tx := &mail.Transaction{ID: mail.NewID(time.Now()), Message: m, Session: &mail.Session{Listener: "main", Client: netip.MustParseAddrPort("192.0.2.1:25")}}
	queue := &fakeQueue{}
	err = Hold(t.Context(), sp, queue, nil, tx, []Held{
		{rcpt("plain"), mail.Verdict{Action: mail.Quarantine, Reason: "why"}},
		{rcpt("ours"), mail.Verdict{Action: mail.Accept}},
		{rcpt("body"), mail.Verdict{Action: mail.Quarantine, Edits: []mail.Edit{mail.ReplaceBody{Body: strings.NewReader("new\n"), Size: 4}}}},
		{rcpt("field"), mail.Verdict{Action: mail.Quarantine, Edits: []mail.Edit{mail.InsertHeader{At: 1, Field: mail.NewField("X-A", "1")}}}},
		{rcpt("nobody"), mail.Verdict{Edits: []mail.Edit{mail.DeleteRecipient{Recipient: rcpt("nobody")[0].Address}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"ours":  "Subject: caf\xe9 a b\r\n\r\nbody\r\n.\r\nRCPT\r\n",
		"plain": "Subject: caf\xe9 a b\r\n\r\nbody\r\n.\r\nRCPT\r\n",
		"body":  "Subject: caf\xe9 a b\r\n\r\nnew\r\n",
		"field": "Subject: caf\xe9 a b\r\nX-A: 1\r\n\r\nbody\r\n.\r\nRCPT\r\n",
	}
	for e := range sp.All() {
		to := e.Envelope.Recipients[0].Local
		state := spool.Hold
		if to == "ours" {
			state = spool.Queue
			if ids := queue.all(); len(ids) != 1 || ids[0] != e.ID {
				t.Errorf("the queue was told of %v, want %s", ids, e.ID)
			}
		}
		if e.Entry.State != state || e.Origin != spool.FromMilter || e.Listener != "main" || e.Group != tx.ID || e.Client != "unknown[192.0.2.1]" {
			t.Errorf("%s: held as %+v", to, e.Entry)
		}
		c, err := sp.Open(e.ID)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(io.NewSectionReader(c, 0, c.Size()))
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		if w := "X-Gatepost-ID: " + e.ID + "\r\n" + want[to]; string(got) != w {
			t.Errorf("%s:\n got %q\nwant %q", to, got, w)
		}
		delete(want, to)
	}
	if len(want) > 0 {
		t.Errorf("not held: %v", want)
	}
}
