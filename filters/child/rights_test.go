package child_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/filters/child"
	"gatepost/internal/mail"
	"gatepost/milter/wire"

	gomilter "github.com/emersion/go-milter"
)

// every kind of change.
func everyChange() []byte {
	return join(
		add("X-New", " 1"), change(1, "Subject", " new"), change(1, "X-Old", ""),
		wire.Envelope{Address: "<b@example.net>", Args: []string{"SIZE=1"}}.Append(nil, 'e'),
		wire.AppendText(nil, '+', "<more@example.com>"), wire.Envelope{Address: "<par@example.com>", Args: []string{"NOTIFY=NEVER"}}.Append(nil, '2'),
		wire.AppendText(nil, '+', "<r@example.com>"), // is there
		wire.AppendText(nil, '-', "<R@example.com>"),
		wire.Append(nil, 'b', []byte("bare\nlf\r")), wire.Append(nil, 'b', []byte("end")),
		cont)
}

func TestChanges(t *testing.T) {
	c := newScript(t, at("E", everyChange()))
	m, _ := multiplexer(t, named{"c", c.config()})
	s := session(t, m)
	s.greet()
	v := s.send("Subject: old\nX-Old: 1\n\nbody\n")
	want(t, "message", v, mail.Accept, "")
	if got, want := s.outcome(v), "Received: ours\nSubject: new\nX-New: 1\n\nbare\nlf\nend\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	env, _ := mail.Apply(s.tx.Envelope, s.tx.Message, v.Edits)
	got := env.Sender.String()
	for _, r := range env.Recipients {
		got += " " + r.String() + strings.Join(r.Args, ",")
	}
	if want := "b@example.net more@example.com par@example.comNOTIFY=NEVER"; got != want {
		t.Errorf("envelope %q, want %q", got, want)
	}
}

// Where an MTA asks us, its own Received field is not in the message, and
// counts nevertheless.
func TestChangesBehindAnMTA(t *testing.T) {
	c := newScript(t, at("E", join(insert(1, "X-One", " 1"), insert(0, "X-Zero", " 0"), change(1, "Received", " changed"), cont)))
	m, _ := multiplexer(t, named{"c", c.config()})
	s := session(t, m)
	s.base.Via = mail.ViaMilter
	s.greet()
	v := s.send("Received: theirs\nSubject: s\n\nbody\n")
	if got, want := s.outcome(v), "X-Zero: 0\nX-One: 1\nReceived: changed\nSubject: s\n\nbody\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got, want := c.log("L"), "L Received= theirs; L Subject= s"; got != want {
		t.Errorf("it saw %q, want %q", got, want)
	}
}

// A right that it doesn't have is not offered; one that it takes is a failure.
func TestRights(t *testing.T) {
	for _, tt := range []struct {
		name    string
		changes []child.Change
		offered gomilter.OptAction
	}{
		{"none", nil, gomilter.OptSetSymList},
		{"headers", []child.Change{child.Headers}, gomilter.OptSetSymList | gomilter.OptAddHeader | gomilter.OptChangeHeader},
		{"body, quarantine", []child.Change{child.Body, child.Quarantine}, gomilter.OptSetSymList | gomilter.OptChangeBody | gomilter.OptQuarantine},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newScript(t, at("E", everyChange()))
			cfg := c.config()
			cfg.Changes = tt.changes
			m, _ := multiplexer(t, named{"c", cfg})
			s := session(t, m)
			s.greet()
			want(t, "message", s.send("Subject: old\nX-Old: 1\n\nbody\n"), mail.TempFail, failedReply)
			// It asks for more than is offered.
			c.mu.Lock()
			c.neg.Actions = tt.offered
			c.mu.Unlock()
			c.does(nil)
			want(t, "within its rights", s.send(plain), mail.Accept, "")
		})
	}
	c := newScript(t, at("E", join(add("X-Good", " 1"), cont)))
	cfg := c.config()
	cfg.Headers = []string{"x-good"}
	m, _ := multiplexer(t, named{"c", cfg})
	s := session(t, m)
	s.greet()
	want(t, "its own field", s.send(plain), mail.Accept, "")
	for name, edit := range map[string][]byte{
		"add": add("Subject", " x"), "insert": insert(0, "X-Other", " x"), "change": change(1, "From", " x"), "delete": change(1, "From", ""),
	} {
		c.does(at("E", join(edit, cont)))
		v := s.send(plain)
		want(t, name, v, mail.TempFail, failedReply)
		c.does(nil)
		want(t, "after "+name, s.send(plain), mail.Accept, "")
	}
}

const failedReply = "451 4.7.1 Message could not be checked, please try again later"

// A milter that can't change runs beside its neighbours, one that can in its
// place.
func TestWhoRunsBesideWhom(t *testing.T) {
	both := make(chan struct{}, 2)
	meet := func(e string) []byte {
		if e != "E" {
			return nil
		}
		both <- struct{}{}
		for deadline := time.Now().Add(60 * time.Second); len(both) < 2 && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		}
		if len(both) < 2 {
			return reject
		}
		return nil
	}
	c1, c2 := newScript(t, meet), newScript(t, meet)
	one, two := c1.config(), c2.config()
	one.Changes, two.Changes = []child.Change{child.Quarantine}, nil
	m, _ := multiplexer(t, named{"c1", one}, named{"c2", two})
	s := session(t, m)
	s.greet()
	want(t, "side by side", s.send(plain), mail.Accept, "")

	c1.does(at("E", join(change(1, "Subject", " c1"), cont)))
	c2.does(nil)
	c2.forget()
	m, _ = multiplexer(t, named{"c1", c1.config()}, named{"c2", c2.config()})
	s = session(t, m)
	s.greet()
	s.send(plain)
	if got := c2.log("L"); !strings.Contains(got, "L Subject= c1") {
		t.Errorf("c2 did not see the edit of c1: %s", got)
	}
}

func TestBudgets(t *testing.T) {
	c := newScript(t, nil)
	cfg := c.config()
	cfg.MaxEdits, cfg.MaxEditSize = 3, 1000
	m, _ := multiplexer(t, named{"c", cfg})
	s := session(t, m)
	s.greet()
	for _, tt := range []struct {
		name   string
		edits  []byte
		action mail.Action
	}{
		{"as many as allowed", bytes.Repeat(add("X-C", " 1"), 3), mail.Accept},
		{"one too many", bytes.Repeat(add("X-C", " 1"), 4), mail.TempFail},
		{"a body too large", wire.Append(nil, 'b', bytes.Repeat([]byte("x"), 1001)), mail.TempFail},
		{"one that fits", wire.Append(nil, 'b', bytes.Repeat([]byte("x"), 900)), mail.Accept},
	} {
		c.does(at("E", join(tt.edits, cont)))
		if v := s.send(plain); v.Action != tt.action {
			t.Errorf("%s: %s (%s), want %s", tt.name, v.Action, v.Reason, tt.action)
		}
	}
}

// The time of a message is that of all its stages.
func TestTimeIsPerMessage(t *testing.T) {
	slow := func(e string) []byte {
		if strings.HasPrefix(e, "R") {
			time.Sleep(500 * time.Millisecond) // the milter's own slowness
		}
		return nil
	}
	c := newScript(t, slow)
	cfg := c.config()
	cfg.Timeout = 1500 * time.Millisecond
	m, _ := multiplexer(t, named{"c", cfg})
	s := session(t, m)
	s.greet()
	for range 2 {
		s.mail("a@example.net")
		var last mail.Verdict
		for i := range 4 {
			if last = s.rcpt("r@example.com"); last.Action >= mail.TempFail && i < 1 {
				t.Fatalf("recipient %d: %s", i, last.Reason)
			}
		}
		want(t, "the recipient beyond the time", last, mail.TempFail, failedReply)
		want(t, "the message", s.data(plain), mail.TempFail, failedReply)
	}
	c.does(nil)
	want(t, "next message", s.send(plain), mail.Accept, "")
}

// A child that breaks the protocol is out of this message, and fails by its
// policy; the next message finds it again.
func TestHazardP4HostileChild(t *testing.T) {
	for name, answer := range map[string][]byte{
		"length 0":                   {0, 0, 0, 0},
		"length 4 GB":                {0xff, 0xff, 0xff, 0xff},
		"2 MB packet":                {0, 0x20, 0, 0, 'b'},
		"unknown code":               wire.Append(nil, 'Z'),
		"skip where none can be":     wire.Append(nil, 's', []byte("x")),
		"250 as a reply":             reply("250 2.0.0 fine"),
		"-50 as a reply":             reply("-50 no"),
		"reply without text":         wire.Append(nil, 'y'),
		"quits inside a packet":      {0, 0, 0, 9, 'i', 0},
		"line end in a name":         wire.Append(nil, 'h', []byte("X\nY\x00v\x00")),
		"blank in a name":            add("X Y", " v"),
		"no name":                    wire.Append(nil, 'h', []byte("\x00v\x00")),
		"three strings":              wire.Append(nil, 'h', []byte("X\x00v\x00w\x00")),
		"recipient that is none":     join(wire.AppendText(nil, '+', "<a@b@c>"), cont),
		"recipient with a new line":  join(wire.AppendText(nil, '+', "<a@b.example\r\nDATA>"), cont),
		"sender that is none":        join(wire.Envelope{Address: "<a b>"}.Append(nil, 'e'), cont),
		"field of 300 kB":            join(add("X", strings.Repeat("x", 300_000)), cont),
		"a million changes":          bytes.Repeat(add("X", "v"), 1_000_000/10),
		"connection failed":          wire.Append(nil, 'f'),
		"progress for ever":          bytes.Repeat(wire.Append(nil, 'p'), 1000),
		"hangs up without an answer": closing,
	} {
		t.Run(name, func(t *testing.T) {
			c, other := newScript(t, at("E", answer)), newScript(t, nil)
			cfg := c.config()
			cfg.Timeout, cfg.OnError = time.Second, filters.Continue
			m, log := multiplexer(t, named{"c", cfg}, named{"other", other.config()})
			s := session(t, m)
			s.greet()
			v := s.send(plain)
			want(t, "message", v, mail.Accept, "")
			if !strings.HasPrefix(s.found(), "c/failed=continue") {
				t.Errorf("found %q, log %s", s.found(), log)
			}
			if got, want := s.outcome(v), "Received: ours\n"+plain; got != want {
				t.Errorf("it changed the message to\n%s", got)
			}
			if got := other.log("E"); got != "E" {
				t.Errorf("the next one saw %q", got)
			}
			c.does(at("E", reject))
			want(t, "next message", s.send(plain), mail.Reject, "")
		})
	}
}

// What is written into fields stays one field.
func TestHazardH1ValuesFromAChild(t *testing.T) {
	c := newScript(t, at("E", join(add("X-C", " a\r\nBcc: x@example.com\r\n\r\nbody\rmore"), cont)))
	m, _ := multiplexer(t, named{"c", c.config()})
	s := session(t, m)
	s.greet()
	v := s.send(plain)
	_, out := mail.Apply(s.tx.Envelope, s.tx.Message, v.Edits)
	if n := len(out.Header); n != 4 || out.Header.Count("Bcc") != 0 || bytes.Contains(bytes.ReplaceAll(out.Header.Bytes(), []byte("\r\n"), nil), []byte("\r")) {
		t.Errorf("%d fields:\n%q", n, out.Header.Bytes())
	}
}

// Two answers to one question: the second belongs to nobody.
func TestHazardP4AnswersTwice(t *testing.T) {
	c := newScript(t, at("M", join(cont, reject)))
	m, _ := multiplexer(t, named{"c", c.config()})
	s := session(t, m)
	s.greet()
	s.mail("a@example.net")
	want(t, "next question", s.rcpt("r@example.com"), mail.TempFail, failedReply)
}

func TestHazardP4Negotiation(t *testing.T) {
	for name, neg := range map[string]wire.Negotiation{
		"version 1":   {Version: 1},
		"version 7":   {Version: 7},
		"not offered": {Version: 6, Protocol: 1 << 30},
	} {
		c := newScript(t, nil)
		c.neg = neg
		m, _ := multiplexer(t, named{"c", c.config()})
		s := session(t, m)
		want(t, name, s.greet(), mail.TempFail, failedReply)
	}
}
