package integration

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/emersion/go-msgauth/dkim"

	"gatepost/internal/testkit"
)

// A listener's handler may be any milter: the signature of a real opendkim is
// over the message as the next hop gets it, our Received included, and the
// client's words arrive as they were.
func TestHandlerSigns(t *testing.T) {
	signer := testkit.Up(t, testkit.NewOpenDKIM(testkit.Dir(t)))
	sink := testkit.Up(t, testkit.NewSink())
	g := newGateway(t, binaries.race, sink.Addr)
	g.Config.Set("listener.mx", "handler", fmt.Sprintf("%q", signer.Socket()))
	testkit.Up(t, g)
	d := testkit.Connect(t, g.Addr)
	d.Do("EHLO client.test", 250)
	for i, l := range []testkit.Letter{
		letter(testkit.Message("1", "signed", "An ordinary note.\r\n.leading dot\r\nlast")),
		letter(append([]byte("X-Spam-Flag: NO forged\r\nX-Fold: a\r\n\tb\r\n"), testkit.Message("2", "signed, too", testkit.Filler(300_000))...)),
	} {
		if res := d.Deliver(l); res.Err != nil || res.Code != 250 {
			t.Fatalf("message %d: %v", i+1, res)
		}
		got := waitMails(t, sink, i+1)[i]
		sent := bytes.TrimPrefix(l.Data, []byte("X-Spam-Flag: NO forged\r\n"))
		if head := added(t, got.Data, sent); field(head, "DKIM-Signature") == "" || field(head, "Received") == "" {
			t.Errorf("message %d: added %q", i+1, head)
		}
		found, err := dkim.VerifyWithOptions(bytes.NewReader(got.Data), &dkim.VerifyOptions{
			LookupTXT: func(string) ([]string, error) { return []string{signer.Record}, nil },
		})
		if err != nil || len(found) != 1 || found[0].Err != nil {
			t.Errorf("message %d: signature: %+v, %v\n%.2000s", i+1, found, err, got.Data)
		}
	}
}

// A real rspamd as a milter: as the handler of a listener, as a filter behind
// the proxy, and as a filter behind an MTA's milter entry. It refuses GTUBE in
// its own words, and in none of the places anything else.
func TestRspamd(t *testing.T) {
	needRoot(t)
	rspamd := testkit.Up(t, testkit.NewRspamd(testkit.Dir(t)))
	asFilter := func(g *testkit.Gateway) {
		g.Config.Set("filter.rspamd", "kind", `"milter"`)
		g.Config.Set("filter.rspamd", "address", fmt.Sprintf("%q", rspamd.Socket()))
	}
	for _, tt := range []struct {
		name  string
		start func(*testing.T, *testkit.Gateway, *testkit.Sink) (address string)
	}{
		{"handler of a listener", func(t *testing.T, g *testkit.Gateway, _ *testkit.Sink) string {
			g.Config.Set("listener.mx", "handler", fmt.Sprintf("%q", rspamd.Socket()))
			return testkit.Up(t, g).Addr
		}},
		{"filter behind the proxy", func(t *testing.T, g *testkit.Gateway, _ *testkit.Sink) string {
			asFilter(g)
			return testkit.Up(t, g).Addr
		}},
		{"filter behind Postfix", func(t *testing.T, g *testkit.Gateway, sink *testkit.Sink) string {
			asFilter(g)
			socket := milterSocket(t, g, "unix")
			testkit.Up(t, g)
			return testkit.Up(t, testkit.NewMilterPostfix(testkit.Dir(t), sink.Addr, "unix:"+socket)).Addr
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sink := testkit.Up(t, testkit.NewSink())
			g := newGateway(t, binaries.race, sink.Addr)
			d := testkit.Connect(t, tt.start(t, g, sink))
			d.Do("EHLO client.test", 250)
			clean := letter(testkit.Message("1", "clean", "An ordinary note."))
			for i, l := range []testkit.Letter{clean, letter(testkit.Message("2", "gtube", testkit.GTUBE())), clean} {
				res := d.Deliver(l)
				want := "250 "
				if i == 1 {
					want = "554 5.7.1 Gtube pattern"
				}
				if res.Err != nil || res.Stage != testkit.Dot || !strings.HasPrefix(res.Reply.String(), want) {
					t.Fatalf("message %d: got %v, want %s", i+1, res, want)
				}
			}
			for _, m := range waitMails(t, sink, 2) {
				added(t, m.Data, clean.Data)
			}
		})
	}
}
