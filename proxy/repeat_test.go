package proxy

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"gatepost/internal/mail"
)

// from connects from an address of loopback and sends one message, without a
// word after its dot.
func (g *gate) from(local, envelope, text string) *client {
	g.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(local)}}
	conn, err := d.Dial("tcp", g.srv.Addr().String())
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { _ = conn.Close() })
	c := newClient(g.t, conn)
	c.expect("220")
	c.do("EHLO client.example", "250")
	c.transaction(envelope, text)
	return c
}

func (c *client) transaction(envelope, text string) {
	c.t.Helper()
	for _, line := range strings.Split(envelope, "\n") {
		c.do(line, "250")
	}
	c.do("DATA", "354")
	c.send(text + ".\r\n")
}

// idle waits until no session is left: what it knew is then in the memory.
func (g *gate) idle() {
	g.t.Helper()
	poll(g.t, "the end of all sessions", func() bool {
		g.srv.mu.Lock()
		defer g.srv.mu.Unlock()
		return len(g.srv.sessions) == 0
	})
}

const oneEnvelope = "MAIL FROM:<s@a.example>\nRCPT TO:<u@b.example>\nRCPT TO:<v@b.example>"

// A client that may not have read its 250 and comes again is told 250 again,
// and nothing else happens. Whoever has read it means what he sends.
func TestRepeat(t *testing.T) {
	hangUp := func(c *client) { c.expect("250"); _ = c.conn.Close() }
	reset := func(c *client) {
		c.expect("250")
		_ = c.conn.(*net.TCPConn).SetLinger(0)
		_ = c.conn.Close()
	}
	quit := func(c *client) { c.expect("250"); c.do("QUIT", "221") }
	swapped := "MAIL FROM:<s@a.example>\nRCPT TO:<v@b.example>\nRCPT TO:<u@b.example>"
	tests := []struct {
		name     string
		first    func(*client)
		local    string
		envelope string
		text     string
		kept     int
	}{
		{"cut after the 250", hangUp, "127.0.0.1", oneEnvelope, simple, 1},
		{"reset after the 250", reset, "127.0.0.1", oneEnvelope, simple, 1},
		{"from another host of the network", hangUp, "127.0.0.77", oneEnvelope, simple, 1},
		{"recipients in another order", hangUp, "127.0.0.1", swapped, simple, 1},
		{"QUIT after the 250", quit, "127.0.0.1", oneEnvelope, simple, 2},
		{"any command after the 250", func(c *client) { c.expect("250"); c.do("NOOP", "250"); _ = c.conn.Close() }, "127.0.0.1", oneEnvelope, simple, 2},
		{"from another network", hangUp, "127.0.1.1", oneEnvelope, simple, 2},
		{"another text", hangUp, "127.0.0.1", oneEnvelope, simple + "more\r\n", 2},
		{"one recipient less", hangUp, "127.0.0.1", strings.TrimSuffix(oneEnvelope, "\nRCPT TO:<v@b.example>"), simple, 2},
		{"another sender", hangUp, "127.0.0.1", strings.Replace(oneEnvelope, "s@a", "t@a", 1), simple, 2},
		{"an argument more", hangUp, "127.0.0.1", strings.Replace(oneEnvelope, "u@b.example>", "u@b.example> NOTIFY=NEVER", 1), simple, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := start(t, nil)
			tt.first(g.from("127.0.0.1", oneEnvelope, simple))
			g.idle()
			r := g.from(tt.local, tt.envelope, tt.text).expect("250")
			kept := g.store.messages()
			if len(kept) != tt.kept {
				t.Fatalf("%d messages kept, want %d", len(kept), tt.kept)
			}
			repeat := tt.kept == 1
			if repeat != strings.HasSuffix(r, kept[0].ID) {
				t.Errorf("the second answer is %q, the first message is %s", r, kept[0].ID)
			}
			if n := g.stats.get("message accept repeat"); (n == 1) != repeat {
				t.Errorf("%d repeats counted", n)
			}
			if repeat && g.handler.count("message") != 1 {
				t.Error("a repeat was judged")
			}
			if repeat && !strings.Contains(g.log.String(), "taken as "+kept[0].ID) {
				t.Error("the log does not say what it repeats")
			}
		})
	}
}

// What a client sent before it could see the 250 does not show that it did.
func TestRepeatPipelined(t *testing.T) {
	for _, behind := range []string{"QUIT\r\n", "RSET\r\nNOOP\r\n"} {
		g := start(t, nil)
		c := g.hello()
		for _, line := range strings.Split(oneEnvelope, "\n") {
			c.do(line, "250")
		}
		c.do("DATA", "354")
		c.send(simple + ".\r\n" + behind)
		_ = c.conn.Close()
		g.idle()
		g.from("127.0.0.1", oneEnvelope, simple).expect("250")
		if n := len(g.store.messages()); n != 1 {
			t.Errorf("%q: %d messages kept, want 1", behind, n)
		}
	}
}

// In one session the same message may come as often as its sender likes.
func TestNoRepeatInOneSession(t *testing.T) {
	g := start(t, nil)
	c := g.from("127.0.0.1", oneEnvelope, simple)
	c.expect("250")
	for range 2 {
		c.transaction(oneEnvelope, simple)
		c.expect("250")
	}
	// and beside it
	d := g.from("127.0.0.1", oneEnvelope, simple)
	d.expect("250")
	c.do("QUIT", "221")
	d.do("QUIT", "221")
	if n := len(g.store.messages()); n != 4 {
		t.Errorf("%d messages kept, want 4", n)
	}
}

// A repeat whose answer is lost, too, is one all the same; once it is read, the
// next one is a message.
func TestRepeatOfARepeat(t *testing.T) {
	g := start(t, nil)
	for range 3 {
		c := g.from("127.0.0.1", oneEnvelope, simple)
		c.expect("250")
		_ = c.conn.Close()
		g.idle()
	}
	c := g.from("127.0.0.1", oneEnvelope, simple)
	c.expect("250")
	c.do("QUIT", "221")
	if n := len(g.store.messages()); n != 1 {
		t.Fatalf("%d messages kept, want 1", n)
	}
	g.from("127.0.0.1", oneEnvelope, simple).expect("250")
	if n := len(g.store.messages()); n != 2 {
		t.Errorf("%d messages kept, want 2", n)
	}
}

// A client that is gone before the answer is not answered: its message is not
// kept, and comes as the first one.
func TestCutBeforeTheAnswer(t *testing.T) {
	g := start(t, nil)
	judged := make(chan struct{})
	g.handler.message = func(context.Context, *mail.Transaction) mail.Verdict {
		<-judged
		return mail.Verdict{Action: mail.Accept}
	}
	c := g.from("127.0.0.1", oneEnvelope, simple)
	_ = c.conn.Close()
	poll(t, "the question", func() bool { return g.handler.count("message") == 1 })
	close(judged)
	g.idle()
	g.from("127.0.0.1", oneEnvelope, simple).expect("250")
	if n := len(g.store.messages()); n != 1 || g.stats.get("message accept repeat") != 0 {
		t.Errorf("%d messages kept, %d repeats", n, g.stats.get("message accept repeat"))
	}
}

func TestRepeatsSwitchedOff(t *testing.T) {
	g := start(t, func(c *Config, _ *gate) { c.Limits.RepeatMemory = 0 })
	for range 2 {
		c := g.from("127.0.0.1", oneEnvelope, simple)
		c.expect("250")
		_ = c.conn.Close()
		g.idle()
	}
	if n := len(g.store.messages()); n != 2 {
		t.Errorf("%d messages kept, want 2", n)
	}
}

func TestRepeatsAreForgotten(t *testing.T) {
	l := Limits{RepeatMemory: 3 * repeatCost, RepeatWindow: time.Hour}
	now := time.Now()
	var r repeats
	for i := range 5 {
		r.add(answered{key: repeatKey{byte(i)}, id: fmt.Sprint(i), at: now.Add(time.Duration(i) * time.Second)}, l)
	}
	for i, want := range []bool{false, false, true, true, true} {
		if id, ok := r.find(repeatKey{byte(i)}, now.Add(time.Minute), now.Add(time.Minute), l); ok != want || ok && id != fmt.Sprint(i) {
			t.Errorf("%d: %q, %v, want %v", i, id, ok, want)
		}
	}
	if _, ok := r.find(repeatKey{4}, now.Add(time.Hour+4*time.Second), now.Add(time.Hour+4*time.Second), l); ok {
		t.Error("known after an hour")
	}
	r.add(answered{key: repeatKey{9}, at: now.Add(time.Hour + 3*time.Second)}, l)
	if r.order.Len() != 2 || len(r.places) != 2 {
		t.Errorf("%d and %d are left, want 2: what is too old goes", r.order.Len(), len(r.places))
	}
	r.add(answered{key: repeatKey{1}, id: "open", at: now, open: true}, l)
	if _, ok := r.find(repeatKey{1}, now.Add(time.Second), now.Add(time.Second), l); ok {
		t.Error("a client that has just been answered, on a connection that lives, counts as silent")
	}
	if _, ok := r.find(repeatKey{1}, now.Add(time.Second), now.Add(silentFor), l); !ok {
		t.Error("a silent client is not known")
	}
	if _, ok := r.find(repeatKey{1}, now, now.Add(silentFor), l); ok {
		t.Error("a message that began before the answer is its repeat")
	}
	r.read(repeatKey{1}, "another")
	r.lost(repeatKey{1}, "open")
	if _, ok := r.find(repeatKey{1}, now.Add(time.Second), now.Add(time.Second), l); !ok {
		t.Error("a lost connection does not count")
	}
	r.read(repeatKey{1}, "open")
	if _, ok := r.find(repeatKey{1}, now.Add(time.Second), now.Add(time.Second), l); ok {
		t.Error("known though it was read")
	}
}
