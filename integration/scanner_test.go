package integration

import (
	"strings"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// What happens to mail while clamd is away is what on_error says.
func TestClamdAway(t *testing.T) {
	for _, tt := range []struct {
		onError string
		stage   string
		code    int
		arrives bool
		held    bool
	}{
		{"tempfail", testkit.Dot, 451, false, false},
		{"continue", testkit.Dot, 250, true, false},
		{"quarantine", testkit.Dot, 250, false, true},
	} {
		t.Run(tt.onError, func(t *testing.T) {
			clamd := testkit.Up(t, testkit.NewClamd(testkit.Dir(t)))
			sink := testkit.Up(t, testkit.NewSink())
			g := newGateway(t, binaries.race, sink.Addr)
			g.UseClamd("unix:"+clamd.Socket, tt.onError)
			testkit.Up(t, g)
			sendWant(t, g.Addr, letter(testkit.Message("before", "before", "x")), testkit.Dot, 250)
			waitMails(t, sink, 1)

			clamd.Kill()
			arrived := 1
			for range 5 { // enough to make the breaker open
				sendWant(t, g.Addr, letter(testkit.Message("away", "away", "x")), tt.stage, tt.code)
			}
			if tt.arrives {
				arrived += 5
				for _, m := range waitMails(t, sink, arrived)[1:] {
					if strings.Contains(string(m.Data), "X-Virus-Scanned:") {
						t.Error("X-Virus-Scanned on a message that was not scanned")
					}
				}
			}
			if held := inState(t, g, "hold"); tt.held != (len(held) == 5) {
				t.Errorf("held: %v", held)
			}

			if err := clamd.Start(); err != nil {
				t.Fatal(err)
			}
			flowsAgain(t, g, sink, arrived)
			sendWant(t, g.Addr, letter(testkit.Message("eicar", "eicar", testkit.EICAR())), testkit.Dot, 5)
			if tt.held {
				release(t, g, sink)
			}
		})
	}
}

// flowsAgain: within seconds of the scanner's return a clean message arrives.
func flowsAgain(t *testing.T, g *testkit.Gateway, sink *testkit.Sink, arrived int) {
	t.Helper()
	began := time.Now()
	testkit.Eventually(t, 60*time.Second, "clean mail flows again", func() bool {
		n := len(sink.Mails())
		if res := testkit.Send(g.Addr, letter(testkit.Message("again", "again", "x"))); !res.Accepted() {
			return false
		}
		return len(sink.Wait(n+1, time.Second)) > arrived && strings.Contains(string(sink.Mails()[n].Data), "X-Virus-Scanned:")
	})
	t.Logf("flowed again %v after clamd was back", time.Since(began).Round(time.Millisecond))
}

// release lets everything go that is held, which then arrives.
func release(t *testing.T, g *testkit.Gateway, sink *testkit.Sink) {
	t.Helper()
	held := inState(t, g, "hold")
	before := len(sink.Mails())
	for _, m := range held {
		command(t, g, 0, "queue", "release", m["id"].(string))
	}
	waitMails(t, sink, before+len(held))
	if left := inState(t, g, "hold"); len(left) != 0 {
		t.Errorf("still held: %v", left)
	}
}

// inState lists the messages in that state.
func inState(t *testing.T, g *testkit.Gateway, state string) []map[string]any {
	t.Helper()
	all, err := g.Queue()
	if err != nil {
		t.Fatal(err)
	}
	var in []map[string]any
	for _, m := range all {
		if m["state"] == state {
			in = append(in, m)
		}
	}
	return in
}

// What clamd can't look into is held, as policy.unscanned says by default, and
// never called clean.
func TestEncryptedArchiveIsNotClean(t *testing.T) {
	clamd := testkit.Up(t, testkit.NewClamd(testkit.Dir(t), "AlertEncrypted yes", "AlertExceedsMax yes", "MaxFileSize 1M", "MaxScanSize 1M"))
	for _, tt := range []struct {
		name string
		data []byte
	}{
		{"encrypted zip", testkit.WithAttachment("1", "locked", "a.zip", encrypted(testkit.Zip("a.txt", []byte("secret"))))},
		{"over clamd's limits", testkit.WithAttachment("2", "large", "a.bin", []byte(testkit.Filler(3_000_000)))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sink := testkit.Up(t, testkit.NewSink())
			g := newGateway(t, binaries.race, sink.Addr)
			g.UseClamd("unix:"+clamd.Socket, "tempfail")
			testkit.Up(t, g)
			sendWant(t, g.Addr, letter(tt.data), testkit.Dot, 250)
			sendWant(t, g.Addr, letter(testkit.Message("after", "after", "x")), testkit.Dot, 250)
			if m := waitMails(t, sink, 1)[0]; field(string(m.Data), "Subject") != "after" {
				t.Errorf("delivered: %.400s", m.Data)
			}
			if held := inState(t, g, "hold"); len(held) != 1 {
				t.Errorf("held: %v, want the one message", held)
			}
		})
	}
}

// encrypted sets the flag that says "encrypted" in both headers of the one file
// of an archive.
func encrypted(zip []byte) []byte {
	for _, h := range []struct {
		magic string
		flags int
	}{{"PK\x03\x04", 6}, {"PK\x01\x02", 8}} {
		i := strings.Index(string(zip), h.magic)
		zip[i+h.flags] |= 1
	}
	return zip
}
