package integration

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-msgauth/dkim"

	"gatepost/internal/testkit"
)

// TestMTAWithChildren: an MTA, Gatepost as its milter, and behind that opendkim,
// a filter on libmilter and clamd, all real. The message as it arrives is
// compared byte for byte with what the edits say, and opendkim's signature,
// which covers what the filter before it changed, verifies.
func TestMTAWithChildren(t *testing.T) {
	needRoot(t)
	source, err := os.ReadFile("testdata/filter.c")
	if err != nil {
		t.Fatal(err)
	}
	dir := testkit.Dir(t)
	filter := testkit.Up(t, testkit.NewLibMilter(dir, string(source)))
	signer := testkit.Up(t, testkit.NewOpenDKIM(dir))
	clamd := testkit.Up(t, testkit.NewClamd(dir))
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			s := &mtaSetup{T: t, sink: testkit.Up(t, testkit.NewSink())}
			s.gateway = newGateway(t, binaries.race, s.sink.Addr)
			s.gateway.Config.Set("filter.changer", "kind", `"milter"`)
			s.gateway.Config.Set("filter.changer", "address", `"`+filter.Socket()+`"`)
			s.gateway.Config.Set("filter.signer", "kind", `"milter"`)
			s.gateway.Config.Set("filter.signer", "address", `"`+signer.Socket()+`"`)
			s.gateway.UseClamd("unix:"+clamd.Socket, "tempfail")
			address := milterSocket(t, s.gateway, "unix")
			testkit.Up(t, s.gateway)
			s.mta = testkit.Up(t, kind.make(testkit.Dir(t), s.sink.Addr, "unix", address))
			for range 2 { // of one session the second as well as the first
				childrenEdit(s, signer)
			}
			t.Run("refused by a child", func(t *testing.T) {
				l := letter(testkit.Message("1", "x", "x"))
				l.To = []string{"childno@example.com"}
				res := testkit.Send(s.Address(), l)
				if got := withoutAddress(res.Reply); res.Stage != "RCPT" || got != "550 5.7.1 the child says no" {
					t.Errorf("got %v", res)
				}
				sendWant(t, s.Address(), letter(testkit.Message("e", "e", testkit.EICAR())), testkit.Dot, 554)
			})
		})
	}
}

func childrenEdit(s *mtaSetup, signer *testkit.OpenDKIM) {
	s.Helper()
	const before, after = "X-Remove: 1\r\nFrom: Sender <s@sender.test>\r\nX-Spam-Flag: forged\r\nSubject: as it was sent\r\nX-Remove: 2\r\n",
		"To: u@example.com\r\nMessage-ID: <1@sender.test>\r\nDate: Sat, 21 Nov 2026 10:00:00 +0000\r\n"
	n := len(s.sink.Mails())
	l := letter([]byte(before + after + "\r\nbody\r\n.\r\nlast line\r\n"))
	l.To = []string{"u@example.com", "gone@example.com"}
	sendWant(s.T, s.Address(), l, testkit.Dot, 250)
	got := s.arrive(n)
	want := strings.NewReplacer("Subject: as it was sent", "Subject: changed by a child", "X-Remove: 2\r\n", "", "X-Spam-Flag: forged\r\n", "").Replace(before) +
		after + "X-Child-End: end\r\n" + "\r\nbody\r\n.\r\nlast line\r\n"
	fields := splitFields(added(s.T, got.Data, []byte(want)))
	var names []string
	for _, f := range fields {
		name, _, _ := strings.Cut(f, ":")
		names = append(names, name)
	}
	order := []string{"Received", "X-Gatepost-ID", "X-Virus-Scanned", "DKIM-Signature", "X-Child-Top"}
	if !slices.Equal(names, order) {
		s.Errorf("added %q, want %q:\n%s", names, order, strings.Join(fields, ""))
	}
	if last := fields[len(fields)-1]; last != "X-Child-Top: one\r\n\ttwo\r\n" {
		s.Errorf("the folded field came as %q", last)
	}
	to := strings.Join(got.To, " ")
	if len(got.To) != 2 || !strings.Contains(to, "<u@example.com>") || !strings.Contains(to, "<added@example.com>") {
		s.Errorf("recipients = %q", got.To)
	}
	found, err := dkim.VerifyWithOptions(bytes.NewReader(got.Data), &dkim.VerifyOptions{
		LookupTXT: func(string) ([]string, error) { return []string{signer.Record}, nil },
	})
	if err != nil || len(found) != 1 || found[0].Err != nil {
		s.Errorf("signature: %+v, %v\n%s", found, err, got.Data)
	}
}
