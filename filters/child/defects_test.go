package child_test

import (
	"strings"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/filters/child"
	"gatepost/internal/mail"
)

// The defects that were observed in a milter multiplexer, each with the right
// answer.

func TestDefectAHangingChildDoesNotHideTheNext(t *testing.T) {
	c1, c2 := newScript(t, at("E", hang)), newScript(t, at("E", reject))
	slow := c1.config()
	slow.Timeout = 300 * time.Millisecond
	for _, onError := range []filters.OnError{filters.Continue, filters.TempFail, filters.Quarantine} {
		slow.OnError = onError
		m, _ := multiplexer(t, named{"c1", slow}, named{"c2", c2.config()})
		s := session(t, m)
		s.greet()
		want(t, string(onError), s.send(plain), mail.Reject, "")
	}
}

func TestDefectA2HangingChildDoesNotUndoEdits(t *testing.T) {
	c1, c2 := newScript(t, at("E", join(add("X-C1", " 1"), cont))), newScript(t, at("E", hang))
	slow := c2.config()
	slow.Timeout, slow.OnError = 300*time.Millisecond, filters.Continue
	m, _ := multiplexer(t, named{"c1", c1.config()}, named{"c2", slow})
	s := session(t, m)
	s.greet()
	v := s.send(plain)
	want(t, "message", v, mail.Accept, "")
	if got := s.outcome(v); !strings.Contains(got, "X-C1: 1\n") {
		t.Errorf("the edit of c1 is lost:\n%s", got)
	}
}

func TestDefectBSecondMessageBeginsClean(t *testing.T) {
	for name, answer := range map[string][]byte{"reject": reject, "tempfail": tempfail} {
		t.Run(name, func(t *testing.T) {
			c1, c2 := newScript(t, at("E", answer)), newScript(t, nil)
			m, _ := multiplexer(t, named{"c1", c1.config()}, named{"c2", c2.config()})
			s := session(t, m)
			s.greet()
			if v := s.send(plain); v.Action < mail.TempFail {
				t.Fatalf("first message: %s", v.Action)
			}
			c1.does(nil)
			s.h.Abort(s.tx)
			want(t, "second message", s.send(plain), mail.Accept, "")
			if n := len(s.tx.Findings); n != 0 {
				t.Errorf("%d findings of the first message in the second: %s", n, s.found())
			}
			if c1.connections() != 1 || c2.connections() != 1 {
				t.Errorf("%d and %d connections, want one each for the session", c1.connections(), c2.connections())
			}
		})
	}
}

func TestDefectCInsertionsKeepTheirOrder(t *testing.T) {
	c1 := newScript(t, at("E", join(insert(0, "DKIM-Signature", " B"), cont)))
	c2 := newScript(t, at("E", join(
		insert(1, "ARC-Seal", " i=2"), insert(2, "ARC-Message-Signature", " i=2"), insert(3, "ARC-Authentication-Results", " i=2"), cont)))
	m, _ := multiplexer(t, named{"c1", c1.config()}, named{"c2", c2.config()})
	s := session(t, m)
	s.greet()
	v := s.send("ARC-Seal: i=1\nARC-Message-Signature: i=1\nDKIM-Signature: A\nFrom: a@example.net\n\nbody\n")
	const wanted = "DKIM-Signature: B\nARC-Seal: i=2\nARC-Message-Signature: i=2\nARC-Authentication-Results: i=2\nReceived: ours\n" +
		"ARC-Seal: i=1\nARC-Message-Signature: i=1\nDKIM-Signature: A\nFrom: a@example.net\n\nbody\n"
	if got := s.outcome(v); got != wanted {
		t.Errorf("got\n%s\nwant\n%s", got, wanted)
	}
	for _, e := range v.Edits {
		if _, ok := e.(mail.InsertHeader); !ok {
			t.Errorf("edit %T; all were insertions", e)
		}
	}
	if got, want := c2.log("L"), "L DKIM-Signature= B; L ARC-Seal= i=1; L ARC-Message-Signature= i=1; L DKIM-Signature= A; L From= a@example.net"; got != want {
		t.Errorf("c2 saw %s, want %s", got, want)
	}
}

func TestDefectDShadowDoesNotActForOthers(t *testing.T) {
	c1 := newScript(t, at("E", reject))
	c2 := newScript(t, func(e string) []byte {
		if e != "E" {
			return nil
		}
		eventually(t, "the shadow has the message", func() bool { return c1.log("E") == "E" })
		return reply("550 5.7.1 c2 says no")
	})
	shadow := c1.config()
	shadow.Vote = child.Vote{Mode: child.Shadow}
	m, log := multiplexer(t, named{"c1", shadow}, named{"c2", c2.config()})
	s := session(t, m)
	s.greet()
	want(t, "message", s.send(plain), mail.Reject, "550 5.7.1 c2 says no")
	eventually(t, "the shadow is recorded", func() bool { return strings.Contains(log.String(), "finding=child-reject") })
}

func TestDefectEChildThatIsDownFailsByItsPolicy(t *testing.T) {
	c2 := newScript(t, nil)
	down := configFor("unix:/nonexistent/m.sock")
	m, _ := multiplexer(t, named{"c1", down}, named{"c2", c2.config()})
	s := session(t, m)
	want(t, "connect", s.greet(), mail.TempFail, "451 4.7.1 Message could not be checked, please try again later")
	want(t, "message", s.send(plain), mail.TempFail, "451 4.7.1 Message could not be checked, please try again later")

	down.OnError = filters.Continue
	m, _ = multiplexer(t, named{"c1", down}, named{"c2", c2.config()})
	s = session(t, m)
	want(t, "connect, continue", s.greet(), mail.Accept, "")
	want(t, "message, continue", s.send(plain), mail.Accept, "")
	if got := c2.log("E"); got != "E" {
		t.Errorf("c2 saw %q, want the message", got)
	}
}

func TestDefectLHangingShadowHidesNobody(t *testing.T) {
	c1, c2 := newScript(t, at("E", hang)), newScript(t, at("E", reject))
	shadow := c1.config()
	shadow.Vote = child.Vote{Mode: child.Shadow}
	m, _ := multiplexer(t, named{"c1", shadow}, named{"c2", c2.config()})
	s := session(t, m)
	s.greet()
	start := time.Now()
	want(t, "message", s.send(plain), mail.Reject, "")
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("the shadow held the verdict for %v", took)
	}
}

// Our own Received is known by the message's ID, wherever it stands.
func TestOwnReceivedBelowAnother(t *testing.T) {
	c1, c2 := newScript(t, at("E", join(insert(0, "Received", " a child's"), cont))), newScript(t, nil)
	m, _ := multiplexer(t, named{"c1", c1.config()}, named{"c2", c2.config()})
	s := session(t, m)
	s.greet()
	s.id = "ours;"
	s.send("Received: theirs\n" + plain)
	if got, want := c2.log("L"), "L Received= a child's; L Received= theirs"; strings.HasPrefix(got, want) {
		t.Errorf("an ID that is not there was found: %s", got)
	}
	c2.forget()
	s.id = "ours"
	s.send("Received: theirs\n" + plain)
	if got, want := c2.log("L"), "L Received= a child's; L Received= theirs"; !strings.HasPrefix(got, want) {
		t.Errorf("c2 saw %q, want %q", got, want)
	}
}

// H: a bad socket is refused before anything runs; the configuration's own
// tests see that the daemon doesn't start.
func TestDefectHBadSocketIsRefused(t *testing.T) {
	for _, address := range []string{"", "inet:8891", "tcp:127.0.0.1:1", "unix:relative", "inet:99999@127.0.0.1"} {
		if _, err := child.New(configFor(address)); err == nil {
			t.Errorf("%q is taken", address)
		}
	}
}
