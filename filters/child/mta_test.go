package child_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/filters/child"
	"gatepost/internal/mail"
	"gatepost/milter"
	"gatepost/milter/wire"

	gomilter "github.com/emersion/go-milter"
)

// draft keeps a message in memory.
type draft struct{ bytes.Buffer }

func (d *draft) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(d.Bytes()).ReadAt(p, off)
}
func (d *draft) Size() int64 { return int64(d.Len()) }
func (d *draft) Discard()    {}

// mta is a scripted MTA that asks the multiplexer over the milter protocol.
type mta struct {
	t  *testing.T
	c  net.Conn
	in wire.Reader
}

// ask starts a milter server in front of m and connects to it.
func ask(t *testing.T, m *filters.Multiplexer) *mta {
	t.Helper()
	cfg := milter.DefaultConfig()
	socket := filepath.Join(t.TempDir(), "gw.sock")
	cfg.Name, cfg.Socket, cfg.Hostname = "main", "unix:"+socket, "gw.example.org"
	s, err := milter.New(cfg, milter.Deps{
		NewHandler: m.Handler, NewDraft: func(string) milter.Draft { return &draft{} }, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	a := &mta{t: t, c: c, in: wire.Reader{R: c}}
	// All is answered, but the content before its end.
	a.say(wire.Negotiation{Version: 6, Actions: wire.AllActions, Protocol: wire.AllProtocol}.Append(nil))
	return a
}

// say sends a command and returns the answer, after those that are changes.
func (a *mta) say(command []byte) (changes []string, answer string) {
	a.t.Helper()
	if _, err := a.c.Write(command); err != nil {
		a.t.Fatal(err)
	}
	for {
		p, err := a.in.Next()
		if err != nil {
			a.t.Fatal(err)
		}
		text := string(p.Code)
		if h, err := wire.DecodeIndexedHeader(p.Data); (p.Code == 'i' || p.Code == 'm') && err == nil {
			text += strconv.Itoa(int(h.Index)) + " " + h.Name + ":" + h.Value
		} else {
			text += strings.ReplaceAll(strings.TrimRight(string(p.Data), "\x00"), "\x00", ":")
		}
		switch {
		case p.Code == 'p':
		case bytes.IndexByte([]byte("him+-eb2q"), p.Code) < 0:
			return changes, text
		case !strings.Contains(text, "X-Gatepost-ID"):
			changes = append(changes, text)
		}
	}
}

// answer is say for commands that nothing may be changed at.
func (a *mta) answer(command []byte) string {
	a.t.Helper()
	changes, answer := a.say(command)
	if len(changes) > 0 {
		a.t.Errorf("changes %q", changes)
	}
	return answer
}

func (a *mta) greet() string {
	a.t.Helper()
	if got := a.answer(wire.Connect{Host: "client.example.net", Family: '4', Port: 4025, Address: "192.0.2.1"}.Append(nil)); got != "c" {
		return got
	}
	return a.answer(wire.AppendText(nil, 'H', "helo.example.net"))
}

func (a *mta) mail() string {
	a.t.Helper()
	return a.answer(wire.Envelope{Address: "<a@example.net>"}.Append(nil, 'M'))
}

func (a *mta) rcpt(to string) string {
	a.t.Helper()
	return a.answer(wire.Envelope{Address: to}.Append(nil, 'R'))
}

// content sends the message; it is only answered at its end.
func (a *mta) content() (changes []string, answer string) {
	a.t.Helper()
	return a.say(join(
		wire.Header{Name: "DKIM-Signature", Value: " A"}.Append(nil, 'L'), wire.Header{Name: "Subject", Value: " hi"}.Append(nil, 'L'),
		wire.Append(nil, 'N'), wire.Append(nil, 'B', []byte("body\r\n")), wire.Append(nil, 'E')))
}

// send is a whole message.
func (a *mta) send() (changes []string, answer string) {
	a.t.Helper()
	if got := a.mail(); got != "c" {
		return nil, got
	}
	if got := a.rcpt("<r@example.com>"); got != "c" {
		return nil, got
	}
	return a.content()
}

// The observed defects once more, from one protocol to the other.
func TestDefectsBehindAnMTA(t *testing.T) {
	c1, c2 := newScript(t, nil), newScript(t, nil)
	soon := c1.config()
	soon.Timeout = 300 * time.Millisecond
	lenient := soon
	lenient.OnError = filters.Continue
	shadow := c1.config()
	shadow.Vote = child.Vote{Mode: child.Shadow}
	down := configFor("unix:/nonexistent/m.sock")
	for _, tt := range []struct {
		name        string
		first       child.Config
		says1       func(string) []byte
		says2       func(string) []byte
		greet, want string
		changes     string
	}{
		{"A: c1 hangs, c2 rejects", lenient, at("E", hang), at("E", reject), "c", "r", ""},
		{"A, tempfail: c1 hangs, c2 rejects", soon, at("E", hang), at("E", reject), "c", "r", ""},
		{"A2, turned: c1 hangs, c2 adds", lenient, at("E", hang), at("E", join(add("X-C2", " 2"), cont)), "c", "c", "hX-C2: 2"},
		{"C: c1 signs above, c2 seals above", c1.config(), at("E", join(insert(1, "DKIM-Signature", " B"), cont)), at("E", join(insert(1, "ARC-Seal", " i=2"), cont)),
			"c", "c", "i1 DKIM-Signature: B; i1 ARC-Seal: i=2"},
		{"D: shadow rejects, c2 rejects", shadow, at("E", reject), at("E", reply("550 5.7.1 c2")), "c", "y550 5.7.1 c2", ""},
		{"E: c1 is down, tempfail", down, nil, nil, "y451 4.7.1 Message could not be checked, please try again later", "y451 4.7.1 Message could not be checked, please try again later", ""},
		{"L: shadow hangs, c2 rejects", shadow, at("E", hang), at("E", reject), "c", "r", ""},
		{"quarantine and words", c1.config(), at("E", join(wire.AppendText(nil, 'q', "odd"), cont)), nil, "c", "c", "qmilter: odd"},
		{"discard", c1.config(), at("E", discard), nil, "c", "d", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c1.does(tt.says1)
			c2.does(tt.says2)
			m, _ := multiplexer(t, named{"c1", tt.first}, named{"c2", c2.config()})
			a := ask(t, m)
			if got := a.greet(); got != tt.greet {
				t.Fatalf("greeting: %q, want %q", got, tt.greet)
			}
			changes, got := a.send()
			if got != tt.want {
				t.Errorf("answer %q, want %q", got, tt.want)
			}
			if got := strings.Join(changes, "; "); got != tt.changes {
				t.Errorf("changes %q, want %q", got, tt.changes)
			}
		})
	}
}

// B, and a recipient that is refused.
func TestSessionBehindAnMTA(t *testing.T) {
	c1, c2 := newScript(t, at("R <no@example.com>", reply("550 5.1.1 nobody"))), newScript(t, at("E", reject))
	m, _ := multiplexer(t, named{"c1", c1.config()}, named{"c2", c2.config()})
	a := ask(t, m)
	a.greet()
	a.mail()
	if got := a.rcpt("<no@example.com>"); got != "y550 5.1.1 nobody" {
		t.Errorf("refused recipient: %q", got)
	}
	if got := a.rcpt("<r@example.com>"); got != "c" {
		t.Errorf("second recipient: %q", got)
	}
	if _, got := a.content(); got != "r" {
		t.Errorf("first message: %q, want reject", got)
	}
	if got, want := c2.log("R"), "R <r@example.com>"; got != want {
		t.Errorf("c2 saw %q, want %q", got, want)
	}
	c2.does(at("E", join(wire.AppendText(nil, '-', "<r@example.com>"), wire.AppendText(nil, '+', "<s@example.com>"), change(1, "Subject", " new"), cont)))
	if _, err := a.c.Write(wire.Append(nil, 'A')); err != nil {
		t.Fatal(err)
	}
	changes, got := a.send()
	if want := "m1 Subject: new; -<r@example.com>; +<s@example.com>"; got != "c" || strings.Join(changes, "; ") != want {
		t.Errorf("second message: %q, %q, want %q", got, changes, want)
	}
	if c1.connections() != 1 || c2.connections() != 1 {
		t.Errorf("%d and %d connections for one session", c1.connections(), c2.connections())
	}
}

// An MTA that has milters behind its milter is asked for what they want.
func TestMacrosOfTheMTA(t *testing.T) {
	cfg := milter.DefaultConfig()
	socket := filepath.Join(t.TempDir(), "gw.sock")
	cfg.Name, cfg.Socket = "main", "unix:"+socket
	for name, tt := range map[string]struct {
		decides []mail.Stage
		want    bool
	}{
		"with milters":    {[]mail.Stage{mail.StageConnect, mail.StageHelo, mail.StageMail, mail.StageRcpt}, true},
		"without milters": {[]mail.Stage{mail.StageConnect}, false},
	} {
		s, err := milter.New(cfg, milter.Deps{Decides: func() []mail.Stage { return tt.decides }, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Listen(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		client := milter.DefaultClientConfig()
		client.Socket = cfg.Socket
		c, err := milter.Dial(ctx, client, wire.Negotiation{Version: 6, Actions: wire.AllActions, Protocol: wire.AllProtocol})
		if err != nil {
			t.Fatal(err)
		}
		asked := strings.Join(c.Agreed().Macros[gomilter.StageRcptTo], " ")
		if got := strings.Contains(asked, "{rcpt_addr}"); got != tt.want {
			t.Errorf("%s: it asks for %q", name, asked)
		}
		c.Close()
		cancel()
		<-done
	}
}
