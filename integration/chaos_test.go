package integration

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// mixed is one of the messages of TestScannersComeAndGo.
type mixed struct {
	id     string
	kind   string // "clean", "large", "gtube", "eicar", "foreign"
	letter testkit.Letter
	kept   int // how often the gateway said 250
}

func newMixed(i int) *mixed {
	m := &mixed{id: fmt.Sprintf("mixed%03d", i), kind: []string{"clean", "large", "gtube", "clean", "eicar", "clean", "foreign"}[i%7]}
	text := "An ordinary note."
	switch m.kind {
	case "large":
		text = testkit.Filler(300_000)
	case "gtube":
		text = testkit.GTUBE()
	case "eicar":
		text = testkit.EICAR()
	}
	m.letter = letter(testkit.Message(m.id, m.id, text))
	if m.kind == "foreign" {
		m.letter.To = []string{"u@elsewhere.test"}
	}
	return m
}

// Two hundred messages over 20 connections while clamd and spamd are killed and
// restarted: every 250 is delivered or held, nothing else is.
func TestScannersComeAndGo(t *testing.T) {
	dir := testkit.Dir(t)
	clamd := testkit.Up(t, testkit.NewClamd(dir))
	spamd := testkit.Up(t, testkit.NewSpamd(dir))
	sink := testkit.Up(t, testkit.NewSink())
	g := newGateway(t, binaries.race, sink.Addr)
	g.UseClamd("unix:"+clamd.Socket, "tempfail")
	g.UseSpamd("tcp:"+spamd.Addr, "quarantine") // so that something is held
	g.Config.Set("filter.spamassassin", "max_size", `"20kB"`)
	testkit.Up(t, g)

	stop := make(chan struct{})
	var chaos sync.WaitGroup
	kills := [2]int{}
	chaos.Go(func() { kills[0] = comeAndGo(t, clamd, 4*time.Second, stop) })
	chaos.Go(func() { kills[1] = comeAndGo(t, spamd, 5*time.Second, stop) })
	all := sendMixed(t, g.Addr, 200, 20)
	close(stop)
	chaos.Wait()

	testkit.Eventually(t, 30*time.Second, "an empty queue", func() bool { return len(inState(t, g, "queue")) == 0 })
	delivered, held := map[string]int{}, map[string]int{}
	for _, m := range sink.Mails() {
		delivered[field(string(m.Data), "Subject")]++
	}
	for _, m := range inState(t, g, "hold") {
		held[fmt.Sprint(m["subject"])]++
	}
	accepted, refused := 0, 0
	for _, m := range all {
		got := delivered[m.id] + held[m.id]
		if got != m.kept {
			t.Errorf("%s (%s): answered 250 %d times, delivered %d, held %d", m.id, m.kind, m.kept, delivered[m.id], held[m.id])
		}
		if delivered[m.id] > 0 && (m.kind == "gtube" || m.kind == "eicar" || m.kind == "foreign") {
			t.Errorf("%s (%s) was delivered", m.id, m.kind)
		}
		if m.kept > 0 {
			accepted++
		} else {
			refused++
		}
	}
	if len(delivered)+len(held) > accepted {
		t.Errorf("%d delivered, %d held, only %d accepted", len(delivered), len(held), accepted)
	}
	if len(delivered) == 0 || kills[0] == 0 || kills[1] == 0 {
		t.Errorf("no proof: %d delivered, clamd killed %d times, spamd %d times", len(delivered), kills[0], kills[1])
	}
	t.Logf("%d accepted (%d delivered, %d held), %d refused; clamd killed %d times, spamd %d times",
		accepted, len(delivered), len(held), refused, kills[0], kills[1])
}

// mortal is a server that can be killed.
type mortal interface {
	testkit.Server
	Kill()
}

// comeAndGo lets a server live for a while, kills it and starts it again, until
// stop is closed. It leaves it running.
func comeAndGo(t *testing.T, s mortal, life time.Duration, stop <-chan struct{}) (kills int) {
	for {
		select {
		case <-stop:
			return kills
		case <-time.After(life/2 + rand.N(life)):
		}
		s.Kill()
		kills++
		select {
		case <-stop:
		case <-time.After(rand.N(time.Second)):
		}
		if err := s.Start(); err != nil {
			t.Errorf("start again: %v", err)
			return kills
		}
	}
}

// sendMixed sends n messages over several connections at a time. What is
// answered 4xx is sent again later, as an MTA does.
func sendMixed(t *testing.T, addr string, n, connections int) []*mixed {
	all := make([]*mixed, n)
	todo := make(chan *mixed, n)
	for i := range all {
		all[i] = newMixed(i)
		todo <- all[i]
	}
	close(todo)
	var wg sync.WaitGroup
	for range connections {
		wg.Go(func() {
			for m := range todo {
				sendUntilDecided(t, addr, m)
				time.Sleep(rand.N(2 * time.Second)) // so that there is mail at all times, not a burst
			}
		})
	}
	wg.Wait()
	return all
}

func sendUntilDecided(t *testing.T, addr string, m *mixed) {
	deadline := time.Now().Add(90 * time.Second)
	for {
		res := testkit.Send(addr, m.letter)
		switch {
		case res.Err != nil:
			t.Errorf("%s: %v", m.id, res) // the gateway itself never goes away
			return
		case res.Accepted():
			m.kept++
			return
		case res.Code/100 == 5:
			if m.kind == "clean" || m.kind == "large" {
				t.Errorf("%s (%s) refused: %v", m.id, m.kind, res)
			}
			return
		case time.Now().After(deadline):
			t.Errorf("%s (%s): still %v", m.id, m.kind, res)
			return
		}
		if strings.HasPrefix(m.kind, "foreign") {
			t.Errorf("%s: relay to elsewhere got %v, want 5xx", m.id, res)
			return
		}
		time.Sleep(time.Duration(200+rand.IntN(700)) * time.Millisecond)
	}
}
