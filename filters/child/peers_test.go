package child_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"testing"

	"gatepost/internal/mail"
	"gatepost/milter/wire"

	gomilter "github.com/emersion/go-milter"
	"pgregory.net/rapid"
)

// theirs is a milter on go-milter's server: an independent reading of the
// protocol, version 2, that hangs up on QUIT_NC.
type theirs struct {
	gomilter.NoOpMilter
	mu   *sync.Mutex
	seen *strings.Builder
}

func (m *theirs) note(s string) (gomilter.Response, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seen.WriteString(s + "; ")
	return gomilter.RespContinue, nil
}

func (m *theirs) Connect(host, family string, port uint16, addr net.IP, _ *gomilter.Modifier) (gomilter.Response, error) {
	return m.note(fmt.Sprint("connect ", host, " ", family, " ", port, " ", addr))
}
func (m *theirs) Helo(name string, mod *gomilter.Modifier) (gomilter.Response, error) {
	return m.note("helo " + name)
}
func (m *theirs) MailFrom(from string, mod *gomilter.Modifier) (gomilter.Response, error) {
	return m.note("mail " + from + " " + mod.Macros["{mail_addr}"])
}
func (m *theirs) RcptTo(to string, mod *gomilter.Modifier) (gomilter.Response, error) {
	return m.note("rcpt " + to)
}
func (m *theirs) Headers(h textproto.MIMEHeader, _ *gomilter.Modifier) (gomilter.Response, error) {
	return m.note("subject " + h.Get("Subject"))
}
func (m *theirs) BodyChunk(b []byte, _ *gomilter.Modifier) (gomilter.Response, error) {
	return m.note(fmt.Sprintf("body %q", b))
}
func (m *theirs) Body(mod *gomilter.Modifier) (gomilter.Response, error) {
	_, _ = m.note("end " + mod.Macros["i"])
	return gomilter.RespAccept, errors.Join(
		mod.AddHeader("X-Added", "1"), mod.InsertHeader(1, "X-Inserted", "2"), mod.ChangeHeader(1, "Subject", "new"),
		mod.AddRecipient("more@example.com"), mod.DeleteRecipient("r@example.com"), mod.ReplaceBody([]byte("new body\r\n")))
}

func TestGoMilterServerAsChild(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &theirs{mu: &sync.Mutex{}, seen: &strings.Builder{}}
	s := &gomilter.Server{NewMilter: func() gomilter.Milter { return m }, Actions: gomilter.OptAddHeader | gomilter.OptChangeHeader |
		gomilter.OptAddRcpt | gomilter.OptRemoveRcpt | gomilter.OptChangeBody}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close(); <-done })
	host, port, _ := net.SplitHostPort(l.Addr().String())
	cfg := configFor("inet:" + port + "@" + host)
	cfg.Reuse = true
	mux, _ := multiplexer(t, named{"theirs", cfg})
	for range 2 { // the second session finds a connection that was hung up
		m.mu.Lock()
		m.seen.Reset()
		m.mu.Unlock()
		ses := session(t, mux)
		ses.greet()
		v := ses.send(plain)
		want(t, "message", v, mail.Accept, "")
		if got, want := ses.outcome(v), "Received: ours\nX-Inserted: 2\nFrom: a@example.net\nSubject: new\nX-Added: 1\n\nnew body\n"; got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		env, _ := mail.Apply(ses.tx.Envelope, ses.tx.Message, v.Edits)
		if len(env.Recipients) != 1 || env.Recipients[0].String() != "more@example.com" {
			t.Errorf("recipients %v", env.Recipients)
		}
		m.mu.Lock()
		got := m.seen.String()
		m.mu.Unlock()
		if want := "connect client.example.net tcp4 4025 192.0.2.1; helo helo.example.net; mail a@example.net a@example.net; rcpt r@example.com; " +
			"subject hi; body \"body\\r\\n\"; end T1; "; got != want {
			t.Errorf("it saw\n%s\nwant\n%s", got, want)
		}
		ses.h.Close()
	}
}

// command is one header edit of a child, as the protocol has it.
type command struct {
	code        byte
	index       uint32
	name, value string
}

func (c command) encode() []byte {
	h := wire.Header{Index: c.index, Name: c.name, Value: c.value}
	if c.code == 'h' {
		return h.Append(nil, 'h')
	}
	return h.AppendIndexed(nil, c.code)
}

// line is a header field in the model.
type line struct {
	name, value string
	own         bool
	dead        bool // deleted, and still in its place
}

// do does one command to the header as the MTA does: Postfix (cleanup_milter.c),
// or sendmail (milter_changeheader), where deleted fields keep their place.
func do(h []line, c command, sendmail bool) []line {
	n := int(c.index)
	switch c.code {
	case 'h':
		return append(h, line{name: c.name, value: c.value})
	case 'i':
		return slices.Insert(h, min(n, len(h)), line{name: c.name, value: c.value})
	}
	n = max(n, 1)
	for i, l := range h {
		if l.own || !strings.EqualFold(l.name, c.name) {
			continue
		}
		if n--; n > 0 {
			continue
		}
		switch {
		case c.value != "" && sendmail: // the name keeps its spelling
			h[i].value, h[i].dead = c.value, false
		case c.value != "":
			h[i].name, h[i].value = c.name, c.value
		case sendmail:
			h[i].dead = true
		default:
			h = slices.Delete(h, i, i+1)
		}
		return h
	}
	if c.value == "" {
		return h
	}
	return append(h, line{name: c.name, value: c.value})
}

// Random edits by up to five children, each seeing those before it, come out as
// the model has them.
func TestEditsOfSeveralChildrenAgreeWithTheModel(t *testing.T) {
	children := make([]*script, 5)
	configs := make([]named, 5)
	for i := range children {
		children[i] = newScript(t, nil)
		configs[i] = named{fmt.Sprint("c", i), children[i].config()}
	}
	rapid.Check(t, func(rt *rapid.T) {
		name := rapid.SampledFrom([]string{"A", "a", "B", "Received", "DKIM-Signature"})
		n := rapid.IntRange(1, 5).Draw(rt, "children")
		behind := rapid.Bool().Draw(rt, "behind an MTA")
		sendmail := behind && rapid.Bool().Draw(rt, "sendmail")
		model := []line{{name: "Received", value: " ours", own: true}}
		var text bytes.Buffer
		for i := range rapid.IntRange(0, 5).Draw(rt, "fields") {
			l := line{name: name.Draw(rt, "name"), value: fmt.Sprint(" ", i)}
			model = append(model, l)
			text.WriteString(l.name + ":" + l.value + "\n")
		}
		for i := range n {
			var answer []byte
			for j := range rapid.IntRange(0, 4).Draw(rt, "edits") {
				c := command{rapid.SampledFrom([]byte("him")).Draw(rt, "code"), uint32(rapid.IntRange(0, 7).Draw(rt, "index")), name.Draw(rt, "edited"), fmt.Sprintf(" c%d.%d", i, j)}
				if behind && c.code == 'i' && c.index == 0 {
					c.index = 1 // nothing of ours gets above the MTA's own field
				}
				if c.code == 'm' && rapid.Bool().Draw(rt, "delete") {
					c.value = ""
				}
				answer = append(answer, c.encode()...)
				model = do(model, c, sendmail)
			}
			// The next milter is sent the header as it stands: nothing is dead in it.
			model = slices.DeleteFunc(model, func(l line) bool { return l.dead })
			children[i].does(at("E", append(answer, cont...)))
			children[i].forget()
		}
		m, _ := multiplexer(t, configs[:n]...)
		s := session(t, m)
		s.id = "ours" // our Received names it
		if behind {
			s.base.Via, s.base.Macros = mail.ViaMilter, map[string]string{"v": "Postfix 3.7.11"}
		}
		if sendmail {
			s.base.Macros["v"] = "8.17.1.9"
		}
		s.greet()
		v := s.send(text.String() + "\nbody\n")
		if v.Action != mail.Accept {
			rt.Fatalf("%s: %s", v.Action, v.Reason)
		}
		var want strings.Builder
		for _, l := range model {
			if !l.dead && (!l.own || !behind) {
				want.WriteString(l.name + ":" + l.value + "\n")
			}
		}
		if got := s.outcome(v); got != want.String()+"\nbody\n" {
			rt.Fatalf("got\n%s\nwant\n%s", got, want.String())
		}
		s.h.Close()
	})
}
