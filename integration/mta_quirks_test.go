package integration

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gatepost/internal/testkit"
)

// Where the two MTAs differ, or do what one would not think. Each test pins one
// line of the list in docs/milter.md: should an MTA change its mind, we hear of
// it here.

// plainMTA is an MTA with a gateway that has no scanners, only an access map.
func plainMTA(t *testing.T, name string, more ...string) *mtaSetup {
	t.Helper()
	needRoot(t)
	t.Parallel()
	s := &mtaSetup{T: t, sink: testkit.Up(t, testkit.NewSink())}
	s.gateway = newGateway(t, binaries.race, s.sink.Addr)
	access := filepath.Join(s.gateway.Dir, "access")
	if err := os.WriteFile(access, []byte(milterAccess), 0o644); err != nil {
		t.Fatal(err)
	}
	s.gateway.Config.Set("relay", "access", fmt.Sprintf("%q", access))
	address := milterSocket(t, s.gateway, "unix")
	testkit.Up(t, s.gateway)
	if name == "Postfix" {
		s.mta = testkit.Up(t, testkit.NewMilterPostfix(testkit.Dir(t), s.sink.Addr, "unix:"+address, more...))
	} else {
		m := testkit.NewSendmail(testkit.Dir(t), s.sink.Addr, "S=unix:"+address+", F=T, T=S:10s;R:1m;E:5m")
		m.Config = more
		s.mta = testkit.Up(t, m)
	}
	return s
}

// checkStamped is checkDelivered for a gateway without scanners: our ID alone.
func checkStamped(t *testing.T, got, want []byte) {
	t.Helper()
	fields := splitFields(added(t, got, want))
	if len(fields) != 2 || !strings.HasPrefix(fields[0], "Received:") || !strings.HasPrefix(fields[1], "X-Gatepost-ID: ") {
		t.Errorf("added:\n%s\nwant the MTA's Received and our ID", strings.Join(fields, ""))
	}
}

// silence is a server that takes connections and says nothing.
func silence(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		var open []net.Conn
		for {
			c, err := l.Accept()
			if err != nil {
				for _, c := range open {
					_ = c.Close()
				}
				return
			}
			open = append(open, c)
		}
	}()
	return l.Addr().String()
}

// reply of a refused recipient, word for word.
func refusal(t *testing.T, s *mtaSetup) string {
	t.Helper()
	res := testkit.Send(s.Address(), testkit.Letter{From: "s@sender.test", To: []string{"closed@example.com"}})
	if res.Stage != "RCPT" {
		t.Fatalf("got %v, want it at RCPT", res)
	}
	return res.Reply.String()
}

func TestPostfixGivesOurReplyAsItIs(t *testing.T) {
	if got := refusal(t, plainMTA(t, "Postfix")); got != "550 5.2.1 Mailbox closed" {
		t.Errorf("reply = %q", got)
	}
}

func TestSendmailPutsTheAddressIntoOurReply(t *testing.T) {
	if got := refusal(t, plainMTA(t, "sendmail")); got != "550 5.2.1 <closed@example.com>... Mailbox closed" {
		t.Errorf("reply = %q", got)
	}
}

// firstReplies is what a client hears that the access map refuses to talk to.
func firstReplies(t *testing.T, s *mtaSetup) (greeting, mail string) {
	t.Helper()
	c, err := testkit.DialFrom("127.0.0.66", s.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r, err := c.Read()
	if err != nil {
		t.Fatal(err)
	}
	greeting = r.String()
	for _, step := range []struct {
		line string
		to   *string
	}{{"EHLO client.test", new(string)}, {"MAIL FROM:<s@sender.test>", &mail}} {
		if r, err = c.Cmd(step.line); err != nil {
			t.Fatal(err)
		}
		*step.to = r.String()
	}
	return greeting, mail
}

func TestPostfixSaysWhatConnectGotAtMail(t *testing.T) {
	greeting, mail := firstReplies(t, plainMTA(t, "Postfix"))
	if greeting != "554 pf.test ESMTP not accepting connections" || mail != "550 5.7.1 Not from there" {
		t.Errorf("greeting %q, MAIL %q", greeting, mail)
	}
}

func TestSendmailForgetsOurWordsAtConnect(t *testing.T) {
	greeting, mail := firstReplies(t, plainMTA(t, "sendmail"))
	if !strings.HasPrefix(greeting, "554 sm.test") || strings.Contains(greeting+mail, "Not from there") {
		t.Errorf("greeting %q, MAIL %q", greeting, mail)
	}
}

func TestPostfixXCLIENTReachesUs(t *testing.T) {
	s := plainMTA(t, "Postfix")
	for _, tt := range []struct{ say, want string }{
		{"XCLIENT ADDR=192.0.2.7 NAME=h.example", "client=h.example[192.0.2.7]"},
		{"XCLIENT ADDR=IPV6:2001:db8::7 NAME=[UNAVAILABLE]", "client=unknown[2001:db8::7]"},
	} {
		from := len(s.gateway.Log())
		d := testkit.Connect(t, s.Address())
		d.Do("EHLO client.test", 250)
		d.Do(tt.say, 220)
		d.Do("EHLO client.test", 250)
		if res := d.Deliver(letter(testkit.Message("1", "x", "x"))); !res.Accepted() {
			t.Fatalf("%s: %v", tt.say, res)
		}
		s.logged(from, tt.want)
	}
}

// odd is a message whose fields are right, but not as most programs write them.
const odd = "Subject:no blank\r\nX-Two:  blanks\r\nX-Tab:\ttab\r\nX-Tail: blanks   \r\nX-Empty:\r\nX-Fold:\r\n folded at once\r\n" +
	"From: Sender <s@sender.test>\r\nTo: u@example.com\r\nMessage-ID: <odd@sender.test>\r\nDate: Sat, 21 Nov 2026 10:00:00 +0000\r\n\r\nx\r\n"

func TestBlanksInFieldsStay(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			s := plainMTA(t, kind.name)
			sendWant(t, s.Address(), letter([]byte(odd)), testkit.Dot, 250)
			checkStamped(t, s.arrive(0).Data, []byte(odd))
		})
	}
}

// A message that came a long way gets our
// fields directly below the Received of the MTA that asked us.
func TestOurFieldsBelowTheMTAsReceived(t *testing.T) {
	data := []byte("Received: from b by c; Sat, 21 Nov 2026 10:00:00 +0000\r\nReceived: from a by b; Sat, 21 Nov 2026 10:00:00 +0000\r\n" +
		string(testkit.Message("1", "x", "x")))
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			s := plainMTA(t, kind.name)
			sendWant(t, s.Address(), letter(data), testkit.Dot, 250)
			checkStamped(t, s.arrive(0).Data, data)
		})
	}
}

// A DISCARD at MAIL: both take the whole message and keep none of it.
func TestDiscardAtMail(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			s := plainMTA(t, kind.name)
			l := testkit.Letter{From: "x@silent.test", To: []string{"u@example.com", "v@example.com"}, Data: testkit.Message("1", "x", "x")}
			sendWant(t, s.Address(), l, testkit.Dot, 250)
			sendWant(t, s.Address(), letter(l.Data), testkit.Dot, 250)
			checkStamped(t, s.arrive(0).Data, l.Data)
		})
	}
}

// Without a filter the MTA keeps the body: we see the header alone, and the
// message is what it was.
func TestBodyIsNotSentWhereNobodyLooks(t *testing.T) {
	for _, name := range []string{"Postfix", "sendmail"} {
		t.Run(name, func(t *testing.T) {
			s := plainMTA(t, name)
			l := letter(testkit.Message("1", "large", testkit.Filler(300_000)))
			from := len(s.gateway.Log())
			sendWant(t, s.Address(), l, testkit.Dot, 250)
			checkStamped(t, s.arrive(0).Data, l.Data)
			s.logged(from, "action=accept")
			if size := loggedSize.FindString(s.gateway.Log()[from:]); len(size) > len("size=999") {
				t.Errorf("%s of a message with a header of some 300 bytes: its body was sent", size)
			}
		})
	}
}

var loggedSize = regexp.MustCompile(`\bsize=\d+`)
