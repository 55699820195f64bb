package recipients

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/state"
)

// TestHarvest: the answers to one client, one guess after the other.
func TestHarvest(t *testing.T) {
	list := file(t, "file", "alice\nbob\n")
	synctest.Test(t, func(t *testing.T) {
		n := &counts{}
		c := load(t, configOf(list), Deps{Stats: n})
		s := client("192.0.2.1")
		for i := range 60 {
			begun := time.Now()
			v := rcpt(t, c, s, fmt.Sprintf("guess%d@example.com", i))
			took := time.Since(begun)
			wantTook, want := time.Duration(0), "550 5.1.1"
			switch {
			case i >= 20:
				want = "421 4.7.0"
			case i >= 5:
				wantTook = min(time.Duration(i-4)*time.Second, 10*time.Second)
			}
			if !strings.HasPrefix(short(v), want) || took != wantTook || v.Close != (want == "421 4.7.0") {
				t.Errorf("guess %d: %s after %v, close %v; want %s after %v", i, short(v), took, v.Close, want, wantTook)
			}
		}
		if got := short(rcpt(t, c, s, "alice@example.com")); !strings.HasPrefix(got, "421") {
			t.Errorf("sent away, and then: %s", got)
		}
		if got := short(rcpt(t, c, s, "postmaster@example.com")); got != "accept" {
			t.Errorf("postmaster: %s", got)
		}
		if got := short(rcpt(t, c, client("192.0.2.2"), "guess@example.com")); !strings.HasPrefix(got, "550") {
			t.Errorf("its neighbour: %s", got)
		}
		time.Sleep(21 * time.Minute)
		if got := short(rcpt(t, c, s, "alice@example.com")); got != "accept" {
			t.Errorf("after the window: %s", got)
		}
		if n.of("delayed") != 15 || n.of("closed") != 1 {
			t.Errorf("%v", n.m)
		}
	})
}

// TestOneHarvestManyGateways: guesses count for the network, wherever they are
// made.
func TestOneHarvestManyGateways(t *testing.T) {
	list := file(t, "file", "alice\n")
	synctest.Test(t, func(t *testing.T) {
		store := state.NewMemory(nil)
		cfg := configOf(list)
		cfg.Harvest.SlowAfter = 0
		for i := range 30 { // a gateway each
			v := rcpt(t, load(t, cfg, Deps{Store: store}), client("2001:db8::"+fmt.Sprint(i+1)), fmt.Sprintf("guess%d@example.com", i))
			if v.Close != (i >= 20) {
				t.Errorf("guess %d: %s", i, short(v))
			}
		}
	})
}

// TestNotHarvest: who is never counted, and who is excused.
func TestNotHarvest(t *testing.T) {
	var names strings.Builder
	for i := range 200 {
		fmt.Fprintf(&names, "user%d\n", i)
	}
	list := file(t, "file", names.String())
	for _, tt := range []struct {
		name string
		s    *mail.Session
	}{
		{"trusted", &mail.Session{Via: mail.ViaSMTP, Trusted: true, Client: netip.MustParseAddrPort("192.0.2.1:1")}},
		{"logged in", &mail.Session{Via: mail.ViaSMTP, User: "alice", Client: netip.MustParseAddrPort("192.0.2.1:1")}},
		{"with a window", &mail.Session{Via: mail.ViaSMTP, Window: true, Client: netip.MustParseAddrPort("192.0.2.1:1")}},
		{"over a unix socket", &mail.Session{Via: mail.ViaSMTP}},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := load(t, configOf(list), Deps{})
			begun := time.Now()
			for i := range 100 {
				if got := short(rcpt(t, c, tt.s, fmt.Sprintf("gone%d@example.com", i))); got != "550 5.1.1 User unknown" || time.Since(begun) > 0 {
					t.Fatalf("%s: %s after %v", tt.name, got, time.Since(begun))
				}
			}
		})
	}
	synctest.Test(t, func(t *testing.T) { // a large site that writes to many of us
		c, s := load(t, configOf(list), Deps{}), client("192.0.2.1")
		begun := time.Now()
		for i := range 100 {
			rcpt(t, c, s, fmt.Sprintf("user%d@example.com", i))
			if got := short(rcpt(t, c, s, fmt.Sprintf("gone%d@example.com", i))); got != "550 5.1.1 User unknown" {
				t.Fatal(i, got)
			}
		}
		for range 100 { // the same again and again is one guess
			rcpt(t, c, s, "gone1@example.com")
		}
		if time.Since(begun) > 0 {
			t.Errorf("slowed: %v", time.Since(begun))
		}
	})
	synctest.Test(t, func(t *testing.T) { // one name that is known is no excuse for all
		c, s := load(t, configOf(list), Deps{}), client("192.0.2.1")
		away := 0
		for i := range 40 {
			rcpt(t, c, s, "user1@example.com")
			if v := rcpt(t, c, s, fmt.Sprintf("gone%d@example.com", i)); v.Close {
				away++
			}
		}
		if away < 15 { // 40 guesses, 20 and the one excused are answered
			t.Errorf("sent away %d times", away)
		}
	})
}

// TestWaitingIsBounded: not more than so many answers are late at a time.
func TestWaitingIsBounded(t *testing.T) {
	list := file(t, "file", "alice\n")
	synctest.Test(t, func(t *testing.T) {
		cfg := configOf(list)
		cfg.Harvest.MaxWaiting, cfg.Harvest.CloseAfter = 3, 0
		n := &counts{}
		c := load(t, cfg, Deps{Stats: n})
		var all sync.WaitGroup
		for i := range 20 {
			s := client(fmt.Sprintf("192.0.2.%d", i+1))
			for j := range 5 {
				rcpt(t, c, s, fmt.Sprintf("guess%d@example.com", j))
			}
			all.Go(func() { rcpt(t, c, s, "last@example.com") })
		}
		all.Wait()
		if n.of("delayed") != 3 || n.of("closed") != 17 {
			t.Errorf("%v", n.m)
		}
	})
}
