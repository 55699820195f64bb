package integration

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	milter "github.com/d--j/go-milter"

	"gatepost/internal/testkit"
)

// defect is one way in which multiplexers of milters were seen to fail, with
// children of its own behind an entry of its own.
type defect struct {
	name     string
	children []defectChild
	play     func(t *testing.T, m *defectMTA)
}

type defectChild struct {
	script func(c *scripted) // how it behaves; nil: nobody listens
	config map[string]string
}

func behaves(s script) func(*scripted) { return func(c *scripted) { c.does(s) } }

// defectMTA is the MTA's side of a defect.
type defectMTA struct {
	t        *testing.T
	gateway  *testkit.Gateway
	socket   string
	children []*scripted
	session  *milter.ClientSession
}

// TestDefectsOfMultiplexers plays them all through one process, and again after
// a reload that fails.
func TestDefectsOfMultiplexers(t *testing.T) {
	defects := []defect{hangsAndIsTolerated("continue", "reject"), hangsAndIsTolerated("tempfail", "reject"), editsOutlive,
		secondMessage("reject", milter.RespReject), secondMessage("tempfail", milter.RespTempFail), orderKept, shadowActsNot, downIsTempfail, hangingShadow, unknownPassedOn}
	g := newGateway(t, binaries.race, "127.0.0.1:9")
	children := make([][]*scripted, len(defects))
	sockets := make([]string, len(defects))
	for i, d := range defects {
		entry := fmt.Sprintf("row%d", i)
		sockets[i] = g.Dir + "/" + entry
		g.Config.Set("milter."+entry, "socket", fmt.Sprintf("%q", "unix:"+sockets[i]))
		for j, c := range d.children {
			name := fmt.Sprintf("filter.%s_%d", entry, j)
			address := g.Dir + "/nobody"
			if c.script != nil {
				child := newScripted(t, nil)
				c.script(child)
				children[i] = append(children[i], child)
				address = child.socket
			}
			g.Config.Set(name, "kind", `"milter"`)
			g.Config.Set(name, "address", fmt.Sprintf("%q", "unix:"+address))
			g.Config.Set(name, "listeners", fmt.Sprintf("[%q]", entry))
			for k, v := range c.config {
				g.Config.Set(name, k, strings.ReplaceAll(v, "ROW", entry))
			}
		}
	}
	testkit.Up(t, g)
	all := func(t *testing.T) {
		for i, d := range defects {
			t.Run(d.name, func(t *testing.T) {
				m := &defectMTA{t: t, gateway: g, socket: sockets[i], children: children[i]}
				defer m.close()
				for _, c := range m.children {
					c.forget()
				}
				d.play(t, m)
			})
		}
	}
	all(t)
	t.Run("R: a reload of a wrong file changes nothing", func(t *testing.T) {
		failedReload(t, g)
		all(t)
	})
	t.Run("H: a wrong socket, and nothing starts", func(t *testing.T) { wrongSocket(t, g) })
}

const rowTimeout = `"400ms"`

// A: c1 hangs at the end of the message; c2 rejects all of them.
func hangsAndIsTolerated(onError, want string) defect {
	return defect{"A: a child that hangs hides no other, on_error " + onError, []defectChild{
		{func(c *scripted) { c.hangs("end") }, map[string]string{"timeout": rowTimeout, "on_error": fmt.Sprintf("%q", onError)}},
		{behaves(answers("end", milter.RespReject)), nil},
	}, func(t *testing.T, m *defectMTA) {
		m.greet()
		m.message(nil, want)
		if got := m.children[1].saw("end"); got == "" {
			t.Error("c2 was not asked")
		}
	}}
}

// A2: c1 adds a field, c2 hangs.
var editsOutlive = defect{"A2: the edits of one outlive the failure of the next", []defectChild{
	{behaves(edits(func(m milter.Modifier) error { return m.AddHeader("X-C1", " 1") })), nil},
	{func(c *scripted) { c.hangs("end") }, map[string]string{"timeout": rowTimeout, "on_error": `"continue"`}},
}, func(_ *testing.T, m *defectMTA) {
	m.greet()
	m.message([]string{"add X-C1: 1"}, "continue")
}}

// B: a child refuses message 1 and lets message 2 of the session pass.
func secondMessage(word string, refusal *milter.Response) defect {
	return defect{"B: a verdict is about one message: " + word, []defectChild{{behaves(nil), nil}, {behaves(nil), nil}},
		func(t *testing.T, m *defectMTA) {
			m.children[0].does(answers("end", refusal))
			m.greet()
			m.message(nil, word)
			if err := m.session.Abort(nil); err != nil {
				t.Fatal(err)
			}
			m.children[0].does(nil)
			m.message(nil, "continue")
			m.message(nil, "continue")
			if got := m.children[0].saw("connect"); got != "" {
				t.Errorf("it was connected to again: %s", got)
			}
		}}
}

// C: signatures are put on top of each other, and only inserted.
var orderKept = defect{"C: insertions stay insertions, in their order", []defectChild{
	{behaves(edits(func(m milter.Modifier) error { return m.InsertHeader(1, "DKIM-Signature", " B") })), nil},
	{behaves(edits(func(m milter.Modifier) error {
		return errors.Join(m.InsertHeader(1, "ARC-Seal", " i=2"), m.InsertHeader(2, "ARC-Message-Signature", " i=2"), m.InsertHeader(3, "ARC-Authentication-Results", " i=2"))
	})), nil},
}, func(t *testing.T, m *defectMTA) {
	m.greet()
	// The MTA counts its own Received as the first; each goes to the place of the last.
	m.message([]string{"insert 1 DKIM-Signature: B", "insert 1 ARC-Authentication-Results: i=2", "insert 1 ARC-Message-Signature: i=2", "insert 1 ARC-Seal: i=2"}, "continue")
	if got, want := m.children[1].saw("header"), "header DKIM-Signature: B; header ARC-Seal: i=1; header ARC-Message-Signature: i=1; header DKIM-Signature: A; header From: s@sender.test"; got != want {
		t.Errorf("c2 saw %q, want %q", got, want)
	}
}}

// D: what a child on probation says is nobody's verdict, nor does it end
// anybody else's work.
var shadowActsNot = defect{"D: a shadow that rejects leaves the word to the next", []defectChild{
	{behaves(answers("end", milter.RespReject)), map[string]string{"vote": `"shadow"`}},
	{behaves(nil), nil},
}, func(t *testing.T, m *defectMTA) {
	m.children[1].does(answers("end", says(550, "5.7.1 c2 says no")))
	m.greet()
	m.message(nil, "550 5.7.1 c2 says no")
	m.children[1].does(nil)
	m.message(nil, "continue")
}}

// E: c1 isn't there, and mail has to wait for it.
var downIsTempfail = defect{"E: a child that is down fails by its own word", []defectChild{
	{nil, map[string]string{"on_error": `"tempfail"`}}, {behaves(nil), nil},
}, func(_ *testing.T, m *defectMTA) {
	if got, want := m.connect(), "451 4.7.1 Message could not be checked, please try again later"; got != want {
		m.t.Errorf("CONNECT: %s, want %s", got, want)
	}
}}

// L: a child on probation hangs.
var hangingShadow = defect{"L: a shadow that hangs hides nobody", []defectChild{
	{behaves(nil), map[string]string{"vote": `"shadow"`}},
	{behaves(answers("end", milter.RespReject)), nil},
}, func(t *testing.T, m *defectMTA) {
	m.children[0].hangs("end")
	defer m.children[0].does(nil) // or the gateway would wait for it at its end
	m.greet()
	start := time.Now()
	m.message(nil, "reject")
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}}

// Not in that table: commands that nobody knows reach who wants to hear of them.
var unknownPassedOn = defect{"commands that nobody knows", []defectChild{
	{behaves(answers("unknown", says(502, "5.7.0 c1 knows it"))), map[string]string{"listeners": `["ROW", "mx"]`}},
}, func(t *testing.T, m *defectMTA) {
	m.greet()
	a, err := m.session.Unknown("XYZZY plugh", nil)
	if got := m.said(a, err); got != "502 5.7.0 c1 knows it" {
		t.Errorf("got %s", got)
	}
	if got := m.children[0].saw("unknown"); got != "unknown XYZZY plugh" {
		t.Errorf("c1 saw %q", got)
	}
	m.message(nil, "continue")
	c := testkit.Connect(t, m.gateway.Addr) // the proxy does the same
	c.Do("EHLO client.test", 250)
	if got := c.Do("TURN", 502); got.Text() != "5.7.0 c1 knows it" {
		t.Errorf("over SMTP: %v", got)
	}
	c.Do("QUIT", 221)
}}

// R: SIGHUP with a file that has a syntax error.
func failedReload(t *testing.T, g *testkit.Gateway) {
	good, err := os.ReadFile(g.File)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.WriteFile(g.File, good, 0o644) }()
	if err := os.WriteFile(g.File, append(good, "\n[filter.broken\nkind = \"milter\"\n"...), 0o644); err != nil {
		t.Fatal(err)
	}
	from := len(g.Log())
	if err := g.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 60*time.Second, "the reload has failed", func() bool { return strings.Contains(g.Log()[from:], "the old one stays") })
	if log := g.Log()[from:]; !strings.Contains(log, "gatepost.toml:") {
		t.Errorf("the log names no place:\n%s", log)
	}
}

// H: a second process with a child's socket misspelt.
func wrongSocket(t *testing.T, g *testkit.Gateway) {
	bad := newGateway(t, binaries.race, "127.0.0.1:9")
	bad.Config.Set("filter.good", "kind", `"milter"`)
	bad.Config.Set("filter.good", "address", `"unix:/run/good.sock"`)
	bad.Config.Set("filter.bad", "kind", `"milter"`)
	bad.Config.Set("filter.bad", "address", `"unx:/run/bad.sock"`)
	if err := bad.WriteConfig(); err != nil {
		t.Fatal(err)
	}
	for _, cmd := range []string{"check", "serve"} {
		if res := command(t, bad, 78, cmd); !strings.Contains(res.Stderr+res.Stdout, `"unx:/run/bad.sock"`) {
			t.Errorf("%s says\n%s%s", cmd, res.Stdout, res.Stderr)
		}
	}
}

// connect opens a session and returns the answer to CONNECT.
func (m *defectMTA) connect() string {
	m.t.Helper()
	macros := milter.NewMacroBag()
	macros.Set("j", "mta.test")
	macros.Set("i", "4QID")
	s, err := milter.NewClient("unix", m.socket, milter.WithReadTimeout(30*time.Second)).Session(macros)
	if err != nil {
		m.t.Fatal(err)
	}
	m.session = s
	a, err := s.Conn("client.test", milter.FamilyInet, 4025, "192.0.2.1")
	return m.said(a, err)
}

func (m *defectMTA) close() {
	if m.session != nil {
		_ = m.session.Close()
	}
}

func (m *defectMTA) greet() {
	m.t.Helper()
	if got := m.connect(); got != "continue" {
		m.t.Fatalf("CONNECT: %s", got)
	}
	a, err := m.session.Helo("client.test")
	if got := m.said(a, err); got != "continue" {
		m.t.Fatalf("HELO: %s", got)
	}
}

// said is an answer in words.
func (m *defectMTA) said(a *milter.Action, err error) string {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
	switch a.Type {
	case milter.ActionAccept, milter.ActionContinue:
		return "continue"
	case milter.ActionDiscard:
		return "discard"
	case milter.ActionRejectWithCode:
		return strings.TrimSpace(a.SMTPReply)
	case milter.ActionReject:
		return "reject"
	case milter.ActionTempFail:
		return "tempfail"
	}
	return a.String()
}

// message sends one and wants these edits and this last word. Our own ID is
// left out.
func (m *defectMTA) message(edits []string, want string) {
	m.t.Helper()
	ok := func(a *milter.Action, err error) {
		m.t.Helper()
		if got := m.said(a, err); got != "continue" {
			m.t.Fatalf("in the message: %s", got)
		}
	}
	ok(m.session.Mail("s@sender.test", ""))
	ok(m.session.Rcpt("u@example.com", ""))
	ok(m.session.DataStart())
	for _, f := range [][2]string{{"ARC-Seal", " i=1"}, {"ARC-Message-Signature", " i=1"}, {"DKIM-Signature", " A"}, {"From", " s@sender.test"}} {
		ok(m.session.HeaderField(f[0], f[1], nil))
	}
	ok(m.session.HeaderEnd())
	changes, a, err := m.session.BodyReadFrom(strings.NewReader("body\r\n"))
	if got := m.said(a, err); got != want {
		m.t.Errorf("the message got %s, want %s", got, want)
	}
	var got []string
	for _, c := range changes {
		if c.HeaderName == "X-Gatepost-ID" {
			continue
		}
		switch c.Type {
		case milter.ActionAddHeader:
			got = append(got, fmt.Sprintf("add %s:%s", c.HeaderName, c.HeaderValue))
		case milter.ActionInsertHeader:
			got = append(got, fmt.Sprintf("insert %d %s:%s", c.HeaderIndex, c.HeaderName, c.HeaderValue))
		default:
			got = append(got, c.String())
		}
	}
	if strings.Join(got, "; ") != strings.Join(edits, "; ") {
		m.t.Errorf("edits\n%q, want\n%q", got, edits)
	}
}
