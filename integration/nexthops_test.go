package integration

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// nextHop is a real MTA that passes what it takes on to a sink.
type nextHop interface {
	testkit.Server
	Address() string
	// Refuse names the local parts that are refused for good, and for now.
	Refuse(gone, late []string) error
}

// hopTest is a gateway before a real MTA, with a sink behind it and one for
// what senders hear.
type hopTest struct {
	hop             nextHop
	relay           *testkit.Relay // between the gateway and hop
	behind, senders *testkit.Sink
	g               *testkit.Gateway
	seen, heard     int // messages of the sinks that were looked at
}

func postfixHop(t *testing.T, next string, c *testkit.Certificate) nextHop {
	p := newPostfixTLS(t, c)
	p.PassOn(next)
	if err := p.Refuse(nil, nil); err != nil {
		t.Fatal(err)
	}
	return p
}

func sendmailHop(t *testing.T, next string, c *testkit.Certificate) nextHop {
	s := testkit.NewSendmail(testkit.Dir(t), next, "")
	s.Config = []string{"FEATURE(`blacklist_recipients')dnl", "define(`confDONT_BLAME_SENDMAIL', ``MapInUnsafeDirPath,TrustStickyBit'')dnl"}
	for option, file := range map[string]string{"SERVER_CERT": c.Cert, "SERVER_KEY": c.Key, "CACERT": c.Cert, "CACERT_PATH": filepath.Dir(c.Cert)} {
		s.Config = append(s.Config, fmt.Sprintf("define(`conf%s', `%s')dnl", option, file))
	}
	return s
}

// The same mail through each MTA: what it takes arrives as it was sent, what it
// refuses is told to the sender, what it puts off goes later.
func TestNextHops(t *testing.T) {
	needRoot(t)
	tests := []struct {
		name   string
		make   func(t *testing.T, next string, c *testkit.Certificate) nextHop
		utf8   bool // it takes SMTPUTF8
		broken bool // it offers STARTTLS and fails the handshake
	}{
		{"Postfix", postfixHop, true, false},
		{"exim4", func(t *testing.T, next string, c *testkit.Certificate) nextHop {
			return testkit.NewExim(testkit.Dir(t), next, c)
		}, true, false},
		{"OpenSMTPD", func(t *testing.T, next string, c *testkit.Certificate) nextHop {
			return testkit.NewOpenSMTPD(testkit.Dir(t), next, c)
		}, false, true},
		{"sendmail", sendmailHop, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHopTest(t, tt.make)
			t.Run("clean, and a second over the same connection", h.reuse)
			t.Run("TLS where it works", func(t *testing.T) { h.tls(t, tt.broken) })
			t.Run("eight bits", h.eightBit)
			t.Run("SMTPUTF8", func(t *testing.T) { h.smtpUTF8(t, tt.utf8) })
			t.Run("2 MB", h.large)
			t.Run("DSN parameters", h.dsnParameters)
			t.Run("one of three refused", h.refused)
			t.Run("later", h.later)
			emptyQueue(t, h.g)
		})
	}
}

func newHopTest(t *testing.T, makeHop func(t *testing.T, next string, c *testkit.Certificate) nextHop) *hopTest {
	h := &hopTest{behind: testkit.Up(t, testkit.NewSink()), senders: testkit.Up(t, testkit.NewSink())}
	h.hop = testkit.Up(t, makeHop(t, h.behind.Addr, certificate(t, "next.test")))
	h.relay = testkit.Up(t, testkit.NewRelay(h.hop.Address))
	h.g = newGateway(t, binaries.race, h.relay.Addr)
	h.g.Config.Set(`route."sender.test"`, "to", fmt.Sprintf("[%q]", "smtp://"+h.senders.Addr))
	testkit.Up(t, h.g)
	return h
}

// arrives waits for the next n messages behind the MTA, and returns their
// recipients; each ends in msg.
func (h *hopTest) arrives(t *testing.T, n int, msg []byte) (to []string) {
	t.Helper()
	for _, m := range waitMails(t, h.behind, h.seen+n)[h.seen:] {
		added(t, m.Data, msg)
		for _, a := range m.To {
			a, _, _ = strings.Cut(strings.TrimPrefix(a, "<"), ">")
			to = append(to, a)
		}
	}
	h.seen += n
	return to
}

// hears waits for the next notification for the sender.
func (h *hopTest) hears(t *testing.T) testkit.Mail {
	t.Helper()
	h.heard++
	return waitMails(t, h.senders, h.heard)[h.heard-1]
}

func (h *hopTest) reuse(t *testing.T) {
	for i := range 2 {
		msg := testkit.Message(fmt.Sprint("clean", i), "clean", ".dot\r\n..two\r\nlast")
		sendWant(t, h.g.Addr, letter(msg), testkit.Dot, 250)
		h.arrives(t, 1, msg)
	}
}

func (h *hopTest) tls(t *testing.T, broken bool) {
	want := 1 // connection for all so far
	if broken {
		want = 2
	}
	if n := len(h.relay.Said()); n != want {
		t.Errorf("%d connections, want %d", n, want)
	}
	said := strings.Join(h.relay.Said(), "")
	if !strings.Contains(said, "STARTTLS\r\n") {
		t.Fatalf("no STARTTLS: %.500q", said)
	}
	if clear := strings.Contains(said, "MAIL FROM:"); clear != broken {
		t.Errorf("mail went in clear: %v, want %v", clear, broken)
	}
}

func (h *hopTest) eightBit(t *testing.T) {
	msg := testkit.Message("8", "eight bits", "gr\u00fc\u00dfe \xe9\xff\r\n")
	l := letter(msg)
	l.Args = "BODY=8BITMIME"
	sendWant(t, h.g.Addr, l, testkit.Dot, 250)
	h.arrives(t, 1, msg)
}

func (h *hopTest) smtpUTF8(t *testing.T, offered bool) {
	msg := testkit.Message("utf8", "Gr\u00fc\u00dfe", "x")
	l := letter(msg)
	l.From, l.Args = "j\u00fcrgen@sender.test", "SMTPUTF8"
	sendWant(t, h.g.Addr, l, testkit.Dot, 250)
	if offered {
		h.arrives(t, 1, msg)
		return
	}
	dsn := h.hears(t)
	for _, want := range []string{"Status: 5.6.7", "Action: failed", "u@example.com"} {
		if !bytes.Contains(dsn.Data, []byte(want)) {
			t.Errorf("no %q in\n%s", want, dsn.Data)
		}
	}
	if len(dsn.To) != 1 || !strings.HasPrefix(dsn.To[0], "<j\u00fcrgen@sender.test>") {
		t.Errorf("to %q", dsn.To)
	}
}

func (h *hopTest) large(t *testing.T) {
	msg := testkit.Message("large", "large", testkit.Filler(2_000_000))
	sendWant(t, h.g.Addr, letter(msg), testkit.Dot, 250)
	h.arrives(t, 1, msg)
}

// dsnParameters: each of them offers DSN and is told what the sender asked for,
// so that it may tell the one behind it.
func (h *hopTest) dsnParameters(t *testing.T) {
	msg := testkit.Message("dsn", "dsn", "x")
	c := testkit.Connect(t, h.g.Addr)
	c.Do("EHLO client.test", 250)
	c.Do("MAIL FROM:<s@sender.test> RET=HDRS ENVID=case17", 250)
	c.Do("RCPT TO:<u@example.com> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;old@example.org", 250)
	c.Do("DATA", 354)
	c.Do(string(testkit.Stuff(msg))+".", 250)
	h.arrives(t, 1, msg)
	m := h.behind.Mails()[h.seen-1]
	for _, want := range []string{"RET=HDRS", "ENVID=case17", "NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;old@example.org"} {
		if !strings.Contains(m.From+m.To[0], want) {
			t.Errorf("no %s in %s, %s", want, m.From, m.To)
		}
	}
	if n := len(h.senders.Mails()); n != h.heard {
		t.Errorf("%d notifications of ours, want %d", n, h.heard)
	}
}

// restart lets the MTA refuse these recipients.
func (h *hopTest) restart(t *testing.T, gone, late []string) {
	t.Helper()
	if err := h.hop.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := h.hop.Refuse(gone, late); err != nil {
		t.Fatal(err)
	}
	if err := h.hop.Start(); err != nil {
		t.Fatal(err)
	}
}

func (h *hopTest) refused(t *testing.T) {
	h.restart(t, []string{"gone"}, []string{"late"})
	msg := testkit.Message("three", "three", "x")
	l := letter(msg)
	l.To = []string{"a@example.com", "gone@example.com", "b@example.com"}
	sendWant(t, h.g.Addr, l, testkit.Dot, 250)
	dsn := h.hears(t)
	for _, want := range []string{"Action: failed", "Status: 5.1.1", "gone@example.com", "nobody of that name"} {
		if !bytes.Contains(dsn.Data, []byte(want)) {
			t.Errorf("no %q in\n%s", want, dsn.Data)
		}
	}
	for _, never := range []string{"rfc822; a@example.com", "rfc822; b@example.com"} {
		if bytes.Contains(dsn.Data, []byte(never)) {
			t.Errorf("%q in\n%s", never, dsn.Data)
		}
	}
	var to []string
	for len(to) < 2 && !t.Failed() { // in one message or in two
		to = append(to, h.arrives(t, 1, msg)...)
	}
	if got := strings.Join(to, " "); got != "a@example.com b@example.com" && got != "b@example.com a@example.com" {
		t.Errorf("arrived for %q", got)
	}
}

func (h *hopTest) later(t *testing.T) {
	msg := testkit.Message("later", "later", "x")
	l := letter(msg)
	l.To = []string{"c@example.com", "late@example.com"}
	sendWant(t, h.g.Addr, l, testkit.Dot, 250)
	if to := h.arrives(t, 1, msg); len(to) != 1 || to[0] != "c@example.com" {
		t.Fatalf("arrived for %q", to)
	}
	testkit.Eventually(t, 60*time.Second, "a deferred recipient in the queue", func() bool {
		list, err := h.g.Run("queue", "list")
		return err == nil && strings.Contains(list.Stdout, "late@example.com") && strings.Contains(list.Stdout, "come again")
	})
	h.restart(t, nil, nil)
	if to := h.arrives(t, 1, msg); len(to) != 1 || to[0] != "late@example.com" {
		t.Errorf("then it arrived for %q", to)
	}
	if n := len(h.senders.Mails()); n != h.heard {
		t.Errorf("%d notifications, want %d", n, h.heard)
	}
}
