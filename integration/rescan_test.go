package integration

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// scannerAway is a gateway whose clamd is away until back is called.
func scannerAway(t *testing.T, binary func() (string, error), clamd *testkit.Clamd, sink *testkit.Sink) (g *testkit.Gateway, back func()) {
	t.Helper()
	g = newGateway(t, binary, sink.Addr)
	socket := filepath.Join(g.Dir, "clamd.ctl")
	g.UseClamd("unix:"+socket, "hold")
	return g, func() {
		t.Helper()
		if err := os.Symlink(clamd.Socket, socket); err != nil {
			t.Fatal(err)
		}
	}
}

// What comes while the scanner is away is taken and kept, and nothing of it is
// delivered. When it is back each message is judged, and goes its way as if it
// had been judged at once.
func TestScanLater(t *testing.T) {
	clamd := testkit.Up(t, testkit.NewClamd(testkit.Dir(t)))
	sink := testkit.Up(t, testkit.NewSink())
	g, back := scannerAway(t, binaries.race, clamd, sink)
	testkit.Up(t, g)
	clean := testkit.Message("1", "clean", ".dot\r\nbody\r\n")
	forged := append([]byte("X-Virus-Scanned: by nobody\r\n"), clean...)
	large := testkit.Message("2", "large", testkit.Filler(300_000))
	sendWant(t, g.Addr, letter(forged), testkit.Dot, 250)
	sendWant(t, g.Addr, letter(testkit.Message("3", "virus", testkit.EICAR())), testkit.Dot, 250)
	sendWant(t, g.Addr, letter(large), testkit.Dot, 250)

	held := inState(t, g, "hold")
	if len(held) != 3 {
		t.Fatalf("%d messages held, want 3", len(held))
	}
	for _, m := range held {
		if reason, _ := m["reason"].(string); !strings.Contains(reason, "not scanned yet, waits for clamav") {
			t.Errorf("held because of %q", reason)
		}
	}
	res := command(t, g, 66, "queue", "release", held[0]["id"].(string))
	if !strings.Contains(res.Stderr, "--unscanned") {
		t.Errorf("release says %q", res.Stderr)
	}
	if err := g.Stop(); err != nil { // it is still waited for after a restart
		t.Fatal(err)
	}
	testkit.Up(t, g)
	if n := len(sink.Mails()); n != 0 {
		t.Fatalf("%d messages delivered unscanned", n)
	}

	back()
	for _, m := range waitMails(t, sink, 2) {
		want := clean
		if !bytes.HasSuffix(m.Data, clean) {
			want = large
		}
		head := added(t, m.Data, want)
		if got := field(head, "X-Virus-Scanned"); got == "" || strings.Contains(head, "nobody") || strings.Count(head, "X-Gatepost-ID:") != 1 {
			t.Errorf("added: %q", head)
		}
	}
	testkit.Eventually(t, 60*time.Second, "the virus alone, held for what it is", func() bool {
		left := inState(t, g, "hold")
		if len(left) != 1 {
			return false
		}
		reason, _ := left[0]["reason"].(string)
		return strings.Contains(reason, "Eicar") && len(inState(t, g, "queue")) == 0
	})
	_, page, err := g.Get("/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`gatepost_rescans_total{result="released"} 2`, `gatepost_rescans_total{result="quarantined"} 1`} {
		if !strings.Contains(page, want) {
			t.Errorf("no %s", want)
		}
	}
	sendWant(t, g.Addr, letter(testkit.Message("4", "virus", testkit.EICAR())), testkit.Dot, 554)
}

// kill -9 at each step of putting a judged message into the place of the one
// that waited: it arrives, once.
func TestScanLaterKilled(t *testing.T) {
	clamd := testkit.Up(t, testkit.NewClamd(testkit.Dir(t)))
	for _, step := range []string{"rescan.judged", "rescan.committed", "rescan.replaced", "rescan.released"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			sink := testkit.Up(t, testkit.NewSink())
			g, back := scannerAway(t, binaries.failpoint, clamd, sink)
			g.Env = []string{"GATEPOST_FAILPOINTS=" + step + "=kill"}
			testkit.Watch(t, g)
			if err := g.Start(); err != nil {
				t.Fatal(err)
			}
			sendWant(t, g.Addr, letter(testkit.Message("1", "x", "x")), testkit.Dot, 250)
			back()
			if !g.Exited(60 * time.Second) {
				t.Fatal("it was not killed")
			}
			g.Env = nil
			if err := g.Start(); err != nil {
				t.Fatal(err)
			}
			waitMails(t, sink, 1)
			testkit.Eventually(t, 60*time.Second, "an empty spool", func() bool {
				q, err := g.Queue()
				return err == nil && len(q) == 0
			})
			if n := len(sink.Mails()); n != 1 {
				t.Errorf("%d copies", n)
			}
		})
	}
}

// What waits for too long: who is one of ours is told; what strangers sent stays
// in the hold.
func TestScanNever(t *testing.T) {
	sink := testkit.Up(t, testkit.NewSink())
	g, _ := scannerAway(t, binaries.race, nil, sink)
	g.Config.Set("queue", "unscanned_max_age", `"1s"`)
	testkit.Up(t, g)
	ours := letter(testkit.Message("1", "ours", "x"))
	ours.From, ours.Client = "sender@example.com", "127.0.0.9"
	sendWant(t, g.Addr, ours, testkit.Dot, 250)
	stranger := letter(testkit.Message("2", "stranger", "x"))
	stranger.From = "victim@example.com"
	sendWant(t, g.Addr, stranger, testkit.Dot, 250)

	dsn := waitMails(t, sink, 1)[0]
	for _, want := range []string{"could not be checked", "clamav did not answer", "Final-Recipient: rfc822; u@example.com", "Message-ID: <1@sender.test>"} {
		if !bytes.Contains(dsn.Data, []byte(want)) {
			t.Errorf("the notification has no %q:\n%s", want, dsn.Data)
		}
	}
	testkit.Eventually(t, 60*time.Second, "the stranger's message, held for good", func() bool {
		q, err := g.Queue()
		if err != nil || len(q) != 1 {
			return false
		}
		reason, _ := q[0]["reason"].(string)
		return q[0]["state"] == "hold" && strings.Contains(reason, "never scanned: clamav could not tell")
	})
	if n := len(sink.Mails()); n != 1 {
		t.Errorf("%d messages at the next hop", n)
	}
	id := inState(t, g, "hold")[0]["id"].(string)
	command(t, g, 66, "queue", "release", id)
	command(t, g, 0, "queue", "release", "--unscanned", id)
	waitMails(t, sink, 2)
}
