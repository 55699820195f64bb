package integration

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// M1 to M12: of the messages that hide a program none reaches the next hop,
// through either entry; what is ordinary does.
func TestHiddenPrograms(t *testing.T) {
	all := testkit.HostileMail(testkit.EICAR())
	clamd := testkit.Up(t, testkit.NewClamd(testkit.Dir(t)))
	for _, entry := range []string{"proxy", "milter"} {
		t.Run(entry, func(t *testing.T) {
			sink := testkit.Up(t, testkit.NewSink())
			g := newGateway(t, binaries.race, sink.Addr)
			g.UseClamd("unix:"+clamd.Socket, "tempfail")
			g.Config.Set("filter.attachments", "deny", `[{name="programs", standard=true}]`)
			addr, step := g.Addr, 4 // internal/mime walks them all
			if entry == "milter" {
				needRoot(t)
				socket := milterSocket(t, g, "unix")
				g.Config.Set("milter.main", "quarantine", `"hold"`)
				g.Config.Set("milter.main", "reinject", fmt.Sprintf("%q", "smtp://"+sink.Addr))
				testkit.Up(t, g)
				addr = testkit.Up(t, testkit.NewMilterPostfix(testkit.Dir(t), sink.Addr, "unix:"+socket)).Addr
				step = 11
			} else {
				testkit.Up(t, g)
			}
			var letters []testkit.Hostile
			for i := 0; i < len(all); i += step {
				letters = append(letters, all[i])
			}
			sendWant(t, addr, letter(testkit.Message("before", "before", "ordinary")), testkit.Dot, 250)
			passed := sendHostile(t, addr, letters)
			sendWant(t, addr, letter(testkit.Message("behind", "behind", "ordinary")), testkit.Dot, 250)
			for _, m := range waitMails(t, sink, 2) {
				if !strings.Contains(string(m.Data), "ordinary") {
					t.Errorf("this arrived:\n%s", m.Data)
				}
			}
			held := inState(t, g, "hold")
			t.Logf("%d messages: %d refused, %d held", len(letters), len(letters)-len(passed), len(held))
			if len(held) != len(passed) {
				t.Errorf("%d messages were taken and %d are held", len(passed), len(held))
			}
		})
	}
}

// sendHostile sends all, some at a time, and returns the names of those that
// were taken.
func sendHostile(t *testing.T, addr string, all []testkit.Hostile) []string {
	t.Helper()
	var mu sync.Mutex
	var passed []string
	var senders sync.WaitGroup
	next := make(chan testkit.Hostile)
	for range 6 {
		senders.Go(func() {
			for h := range next {
				switch res := testkit.Send(addr, letter([]byte(h.Raw))); {
				case res.Err != nil || res.Code < 250 || res.Code/100 == 4:
					t.Errorf("%s: %v", h.Name, res)
				case res.Accepted():
					mu.Lock()
					passed = append(passed, h.Name)
					mu.Unlock()
				}
			}
		})
	}
	for _, h := range all {
		next <- h
	}
	close(next)
	senders.Wait()
	return passed
}

// What [policy] ambiguous says is done, and an ordinary letter is not touched.
func TestAmbiguousMail(t *testing.T) {
	const twice = "From: a@sender.test\r\nSubject: twice\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=a; boundary=b\r\n\r\n--a\r\n\r\none\r\n--a--\r\n--b\r\n\r\ntwo\r\n--b--\r\n"
	for _, tt := range []struct {
		word          string
		code          int
		held, arrives bool
	}{
		{"", 250, true, false},
		{"quarantine", 250, true, false},
		{"tag", 250, false, true},
		{"continue", 250, false, true},
		{"reject", 550, false, false},
	} {
		t.Run("policy "+tt.word, func(t *testing.T) {
			sink := testkit.Up(t, testkit.NewSink())
			g := newGateway(t, binaries.race, sink.Addr)
			g.Config.Set("filter.attachments", "deny", `[{name="programs", standard=true}]`)
			if tt.word != "" {
				g.Config.Set("policy", "ambiguous", fmt.Sprintf("%q", tt.word))
			}
			testkit.Up(t, g)
			res := sendWant(t, g.Addr, letter([]byte(twice)), testkit.Dot, tt.code)
			if tt.code == 550 && !strings.Contains(res.String(), "boundary") {
				t.Errorf("the reply does not say why: %v", res)
			}
			if held := inState(t, g, "hold"); len(held) == 1 != tt.held {
				t.Errorf("held: %v", held)
			}
			if tt.arrives {
				m := waitMails(t, sink, 1)[0]
				if got := strings.Contains(string(m.Data), "X-Gatepost-Ambiguous: boundary"); got != (tt.word == "tag") {
					t.Errorf("tagged is %v:\n%s", got, m.Data)
				}
			}
			sendWant(t, g.Addr, letter(testkit.Message("plain", "plain", "x")), testkit.Dot, 250)
			arrived := 1
			if tt.arrives {
				arrived++
			}
			testkit.Eventually(t, 30*time.Second, "an ordinary letter arrives", func() bool { return len(sink.Mails()) == arrived })
		})
	}
}
