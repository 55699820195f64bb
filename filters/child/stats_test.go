package child_test

import (
	"maps"
	"sync"
	"testing"
)

// replies counts what milters say.
type replies struct {
	mu sync.Mutex
	n  map[string]int
}

func (r *replies) MilterReply(milter, stage, reply string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n[milter+" "+stage+" "+reply]++
}

func TestRepliesAreCounted(t *testing.T) {
	c, counted := newScript(t, at("R", reply("550 5.7.1 no"))), &replies{n: make(map[string]int)}
	cfg := c.config()
	cfg.Name, cfg.Stats = "opendkim", counted
	m, _ := multiplexer(t, named{"c", cfg})
	s := session(t, m)
	s.greet()
	s.mail("a@example.net")
	s.rcpt("r1@example.com")
	counted.mu.Lock()
	defer counted.mu.Unlock()
	want := map[string]int{"opendkim connect continue": 1, "opendkim helo continue": 1, "opendkim mail continue": 1, "opendkim rcpt reject": 1}
	if !maps.Equal(counted.n, want) {
		t.Errorf("counted %v, want %v", counted.n, want)
	}
}
