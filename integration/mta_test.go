package integration

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// mta is a mail server that asks a gateway about its mail.
type mta interface {
	testkit.Server
	testkit.MilterMTA
}

// mtaSetup is one MTA with a gateway as its milter, real scanners behind that,
// and a sink for what the MTA passes on.
type mtaSetup struct {
	*testing.T
	mta
	gateway *testkit.Gateway
	sink    *testkit.Sink
	clamd   *testkit.Clamd
}

// kinds are the MTAs under test. socket is in libmilter's spelling, without
// its kind: "/path" or "port@host".
var kinds = []struct {
	name string
	make func(dir, next, kind, address string) mta
}{
	{"Postfix", func(dir, next, kind, address string) mta {
		if port, host, ok := strings.Cut(address, "@"); ok {
			address = host + ":" + port
		}
		return testkit.NewMilterPostfix(dir, next, kind+":"+address)
	}},
	{"sendmail", func(dir, next, kind, address string) mta {
		return testkit.NewSendmail(dir, next, "S="+kind+":"+address+", F=T, T=S:10s;R:1m;E:5m")
	}},
}

// milterSocket gives the gateway a milter entry and returns where it is.
func milterSocket(t *testing.T, g *testkit.Gateway, kind string) (address string) {
	t.Helper()
	if kind == "unix" {
		// sendmail refuses a socket below a directory that all may write to.
		dir, err := os.MkdirTemp("/run", "gatepost-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		address = filepath.Join(dir, "milter.sock")
		g.Config.Set("milter.main", "mode", `"0666"`) // Postfix asks as its own user
	} else {
		addr, err := testkit.FreeAddr()
		if err != nil {
			t.Fatal(err)
		}
		address = testkit.Port(addr) + "@127.0.0.1"
	}
	g.Config.Set("milter.main", "socket", fmt.Sprintf("%q", kind+":"+address))
	return address
}

const milterAccess = "From:silent.test\tDISCARD\n" +
	"From:later.test\tERROR:4.7.1:451 Come again later\n" +
	"From:bad.test\t550 5.7.1 100% unwanted\n" +
	"To:closed@example.com\t550 5.2.1 Mailbox closed\n" +
	"To:drop@example.com\tDISCARD\n" +
	"Connect:127.0.0.66\t550 5.7.1 Not from there\n"

// TestMTA is the main job through a real MTA that has us as its milter.
func TestMTA(t *testing.T) {
	needRoot(t)
	dir := testkit.Dir(t)
	clamd := testkit.Up(t, testkit.NewClamd(dir))
	spamd := testkit.Up(t, testkit.NewSpamd(dir))
	for _, kind := range kinds {
		for _, socket := range []string{"unix", "inet"} {
			t.Run(kind.name+" over "+socket, func(t *testing.T) {
				s := &mtaSetup{T: t, clamd: clamd, sink: testkit.Up(t, testkit.NewSink())}
				s.gateway = newGateway(t, binaries.race, s.sink.Addr)
				s.gateway.UseClamd("unix:"+clamd.Socket, "tempfail")
				s.gateway.UseSpamd("tcp:"+spamd.Addr, "tempfail")
				s.gateway.Config.Set(`policy.for."hold@example.com"`, "virus", `"quarantine"`)
				s.gateway.Config.Set(`policy.for."dropvirus@example.com"`, "virus", `"discard"`)
				access := filepath.Join(s.gateway.Dir, "access")
				if err := os.WriteFile(access, []byte(milterAccess), 0o644); err != nil {
					t.Fatal(err)
				}
				s.gateway.Config.Set("relay", "access", fmt.Sprintf("%q", access))
				address := milterSocket(t, s.gateway, socket)
				testkit.Up(t, s.gateway)
				s.mta = testkit.Up(t, kind.make(testkit.Dir(t), s.sink.Addr, socket, address))
				s.all()
			})
		}
	}
}

func (s *mtaSetup) all() {
	for _, tt := range []struct {
		name string
		test func(*mtaSetup)
	}{
		{"clean", cleanPasses},
		{"refused", refusedInSession},
		{"one recipient of three refused", oneOfThree},
		{"many messages in one session", manyInOneSession},
		{"forged fields", forgedGo},
		{"quarantine", quarantineInMTA},
		{"discard", discarded},
		{"client addresses", clientAddresses},
		{"tempfail", tempfailWithoutScanner},
	} {
		s.Run(tt.name, func(t *testing.T) {
			c := *s
			c.T = t
			tt.test(&c)
		})
	}
}

// ourFields are the fields that a clean message gets, in order; Level stands
// there when the score is above 0.
var ourFields = []string{"X-Gatepost-ID", "X-Spam-Score", "X-Spam-Level", "X-Spam-Status", "X-Virus-Scanned"}

// checkDelivered compares a message as it arrived with the model: the MTA's own
// Received, our fields in their order, and the message as it was sent.
func checkDelivered(t *testing.T, got, want []byte) {
	t.Helper()
	head := added(t, got, want)
	fields := splitFields(head)
	if len(fields) == 0 || !strings.HasPrefix(fields[0], "Received:") {
		t.Fatalf("the MTA's Received is not on top:\n%s", head)
	}
	next := 0
	for _, f := range fields[1:] {
		name, _, _ := strings.Cut(f, ":")
		for next < len(ourFields) && ourFields[next] != name {
			if ourFields[next] != "X-Spam-Level" {
				t.Fatalf("%s where %s should be:\n%s", name, ourFields[next], head)
			}
			next++
		}
		if next == len(ourFields) {
			t.Fatalf("%s was added, too, or stands in another place:\n%s", name, head)
		}
		next++
	}
	if next != len(ourFields) {
		t.Fatalf("%s is missing:\n%s", ourFields[next], head)
	}
	if bytes.Contains(bytes.ReplaceAll(got, []byte("\r\n"), nil), []byte("\n")) {
		t.Errorf("a bare LF:\n%q", got)
	}
}

var receivedID = regexp.MustCompile(`\sid ([0-9A-Za-z]+)`)

// queueID is the MTA's own ID, from its Received.
func queueID(head string) string {
	if m := receivedID.FindStringSubmatch(field(head, "Received")); m != nil {
		return m[1]
	}
	return "?"
}

// splitFields splits a header into fields, folds and line ends included.
func splitFields(head string) []string {
	var all []string
	for line := range strings.Lines(head) {
		if len(all) > 0 && strings.ContainsAny(line[:1], " \t") {
			all[len(all)-1] += line
			continue
		}
		all = append(all, line)
	}
	return all
}

// arrive waits for one more message than there were and returns it.
func (s *mtaSetup) arrive(before int) testkit.Mail {
	s.Helper()
	mails := s.sink.Wait(before+1, 30*time.Second)
	if len(mails) != before+1 {
		s.Fatalf("%d messages arrived, want %d\ngateway:\n%s", len(mails), before+1, s.gateway.Log())
	}
	return mails[before]
}

// logged waits for a text in what the gateway logged since from.
func (s *mtaSetup) logged(from int, text string) {
	s.Helper()
	testkit.Eventually(s, 5*time.Second, fmt.Sprintf("%q in the log", text), func() bool {
		return strings.Contains(s.gateway.Log()[from:], text)
	})
}

func cleanPasses(s *mtaSetup) {
	tests := []struct {
		name string
		data []byte
		args string
	}{
		{"ordinary", testkit.Message("1", "hello", "An ordinary note.\r\n.leading dot\r\n..two\r\nlast"), ""},
		{"folded and long fields", []byte("X-Fold: a\r\n\tb\r\n  c\r\nX-Long: " + strings.Repeat("abcdefgh ", 80) + "\r\n" + string(testkit.Message("2", "x", "x"))), ""},
		{"same name many times", []byte("X-Same: 1\r\nX-Other: o\r\nX-Same: 2\r\nx-same: 3\r\n" + string(testkit.Message("3", "x", "x"))), ""},
		{"8-bit text", testkit.Message("4", "8-bit", "Gr\xc3\xbc\xc3\x9fe\r\n \t \r\n\r\n\r\n"), "BODY=8BITMIME"},
		{"300 kB", testkit.Message("5", "large", testkit.Filler(300_000)), ""},
		{"attachment", testkit.WithAttachment("6", "larger", "data.bin", bytes.Repeat([]byte("0123456789abcdef"), 1<<15)), ""},
		{"empty body", []byte(strings.TrimSuffix(string(testkit.Message("7", "x", "")), "\r\n")), ""},
	}
	for _, tt := range tests {
		s.Run(tt.name, func(t *testing.T) {
			before, from := len(s.sink.Mails()), len(s.gateway.Log())
			l := letter(tt.data)
			l.Args = tt.args
			sendWant(t, s.Address(), l, testkit.Dot, 250)
			got := s.arrive(before)
			checkDelivered(t, got.Data, tt.data)
			head := added(t, got.Data, tt.data)
			id := field(head, "X-Gatepost-ID")
			s.logged(from, id+": message: qid="+queueID(head))
		})
	}
}

func refusedInSession(s *mtaSetup) {
	before := len(s.sink.Mails())
	msg := testkit.Message("1", "x", "x")
	from := func(sender string) testkit.Letter {
		return testkit.Letter{From: sender, To: []string{"u@example.com"}, Data: msg}
	}
	tests := []struct {
		name  string
		l     testkit.Letter
		stage string
		want  string // beginning of the reply
	}{
		{"GTUBE", letter(testkit.Message("gtube", "gtube", testkit.GTUBE())), testkit.Dot, "550 5.7.1 Message refused: it looks like spam."},
		{"EICAR", letter(testkit.Message("eicar", "eicar", testkit.EICAR())), testkit.Dot, "554 5.7.1 Message refused: virus found: Eicar-Local"},
		{"EICAR in a zip", letter(testkit.WithAttachment("z", "z", "e.zip", testkit.Zip("e.com", []byte(testkit.EICAR())))), testkit.Dot, "554 5.7.1 Message refused: virus found: Eicar-Local"},
		{"sender, with a % in the reply", from("x@bad.test"), "MAIL", "550 5.7.1 100% unwanted"},
		{"sender, for now", from("x@later.test"), "MAIL", "451 4.7.1 Come again later"},
	}
	for _, tt := range tests {
		s.Run(tt.name, func(t *testing.T) {
			res := testkit.Send(s.Address(), tt.l)
			if reply := withoutAddress(res.Reply); res.Stage != tt.stage || !strings.HasPrefix(reply, tt.want) {
				t.Errorf("got %v, want %s: %s…", res, tt.stage, tt.want)
			}
		})
	}
	sendWant(s.T, s.Address(), letter(msg), testkit.Dot, 250)
	s.arrive(before)
}

var addressInFront = regexp.MustCompile(`^(\d{3} \d\.\d\.\d )<[^>]*>(\.\.\.|:) `)

// withoutAddress is a reply without the address that sendmail puts in front of
// the text that a milter gave.
func withoutAddress(r testkit.Reply) string {
	return addressInFront.ReplaceAllString(r.String(), "$1")
}

func oneOfThree(s *mtaSetup) {
	before := len(s.sink.Mails())
	l := testkit.Letter{From: "s@sender.test", To: []string{"a@example.com", "closed@example.com", "b@example.com"}, Data: testkit.Message("1", "three", "x")}
	res := sendWant(s.T, s.Address(), l, testkit.Dot, 250)
	if r := withoutAddress(res.Refused["closed@example.com"]); len(res.Refused) != 1 || !strings.HasPrefix(r, "550 5.2.1 Mailbox closed") {
		s.Errorf("refused = %v", res.Refused)
	}
	got := s.arrive(before)
	if to := strings.Join(got.To, " "); len(got.To) != 2 || !strings.Contains(to, "<a@example.com>") || !strings.Contains(to, "<b@example.com>") {
		s.Errorf("recipients = %q", got.To)
	}
	checkDelivered(s.T, got.Data, l.Data)
}

// manyInOneSession: nothing of a message stays for the next.
func manyInOneSession(s *mtaSetup) {
	before := len(s.sink.Mails())
	d := testkit.Connect(s, s.Address())
	d.Do("EHLO client.test", 250)
	want := func(l testkit.Letter, code int) {
		s.Helper()
		if res := d.Deliver(l); res.Err != nil || res.Code/100 != code {
			s.Fatalf("got %v, want %d", res, code)
		}
	}
	first, second := letter(testkit.Message("1", "one", "one")), letter(testkit.Message("2", "two", "two"))
	want(first, 2)
	want(letter(testkit.Message("e", "eicar", testkit.EICAR())), 5)
	want(testkit.Letter{From: "x@bad.test", To: []string{"u@example.com"}}, 5)
	d.Do("MAIL FROM:<gone@sender.test>", 250)
	d.Do("RCPT TO:<a@example.com>", 250)
	d.Do("RSET", 250)
	want(second, 2)
	d.Do("QUIT", 221)
	if mails := s.sink.Wait(before+2, 30*time.Second); len(mails) != before+2 {
		s.Fatalf("%d messages, want %d", len(mails), before+2)
	}
	ids := map[string]bool{}
	for _, m := range s.sink.Mails()[before:] {
		l := first
		if bytes.Contains(m.Data, []byte("Subject: two")) {
			l = second
		}
		checkDelivered(s.T, m.Data, l.Data)
		ids[field(string(m.Data), "X-Gatepost-ID")] = true
		if !strings.HasPrefix(m.From, "<s@sender.test>") || len(m.To) != 1 {
			s.Errorf("envelope = %q %q", m.From, m.To)
		}
	}
	if len(ids) != 2 {
		s.Errorf("IDs = %v, want two", ids)
	}
}

// forgedGo: deletions and insertions in one message, and what stands between
// the deleted fields stays where it was.
func forgedGo(s *mtaSetup) {
	rest := string(testkit.Message("fields", "hello", "text"))
	tests := []struct{ name, sent, kept string }{
		{"on top", "X-Spam-Status: No forged\r\n" + rest, rest},
		{"several of one name", "X-Spam-Flag: NO forged\r\nX-A: 1\r\nX-Spam-Flag: NO forged\r\nX-B: 2\r\nx-spam-FLAG: forged\r\n" + rest, "X-A: 1\r\nX-B: 2\r\n" + rest},
		{"folded", "X-A: 1\r\nX-Spam-Report: folded\r\n\tforged\r\n\tand again\r\nX-B: 2\r\n" + rest, "X-A: 1\r\nX-B: 2\r\n" + rest},
		{"each of ours", "X-Gatepost-ID: forged\r\nX-Virus-Scanned: forged\r\nX-Quarantine-ID: <forged>\r\nX-Spam-Score: -100 forged\r\nX-Spam-Level: forged\r\nX-A: 1\r\n" + rest, "X-A: 1\r\n" + rest},
		{"results in our name", "Authentication-Results: mx1.example.com; spf=pass forged\r\nAuthentication-Results: other.example.org; spf=pass\r\n" + rest, "Authentication-Results: other.example.org; spf=pass\r\n" + rest},
		{"a Received below", "Received: from a by b; Sat, 21 Nov 2026 10:00:00 +0000\r\nX-Spam-Flag: forged\r\n" + rest, "Received: from a by b; Sat, 21 Nov 2026 10:00:00 +0000\r\n" + rest},
	}
	for _, tt := range tests {
		s.Run(tt.name, func(t *testing.T) {
			before := len(s.sink.Mails())
			sendWant(t, s.Address(), letter([]byte(tt.sent)), testkit.Dot, 250)
			got := s.arrive(before)
			if strings.Contains(string(got.Data), "forged") {
				t.Errorf("a forged field arrived:\n%s", got.Data)
			}
			checkDelivered(t, got.Data, []byte(tt.kept))
		})
	}
}

func quarantineInMTA(s *mtaSetup) {
	before := len(s.sink.Mails())
	l := testkit.Letter{From: "s@sender.test", To: []string{"hold@example.com"}, Data: testkit.Message("q", "held", testkit.EICAR())}
	sendWant(s.T, s.Address(), l, testkit.Dot, 250)
	testkit.Eventually(s, 20*time.Second, "one message in the MTA's quarantine", func() bool {
		n, err := s.Held()
		return err == nil && n == 1
	})
	if got := s.sink.Mails(); len(got) != before {
		s.Errorf("a quarantined message was passed on:\n%s", got[before].Data)
	}
	if err := s.ReleaseAll(); err != nil {
		s.Fatal(err)
	}
	got := s.arrive(before)
	if !bytes.HasSuffix(got.Data, l.Data) {
		s.Errorf("released:\n%s", got.Data)
	}
}

func discarded(s *mtaSetup) {
	before, msg := len(s.sink.Mails()), testkit.Message("1", "discard", "x")
	sendWant(s.T, s.Address(), testkit.Letter{From: "x@silent.test", To: []string{"u@example.com"}, Data: msg}, testkit.Dot, 250)
	sendWant(s.T, s.Address(), testkit.Letter{From: "s@sender.test", To: []string{"drop@example.com"}, Data: msg}, testkit.Dot, 250)
	sendWant(s.T, s.Address(), testkit.Letter{From: "s@sender.test", To: []string{"dropvirus@example.com"}, Data: testkit.Message("v", "v", testkit.EICAR())}, testkit.Dot, 250)
	// One of two is dropped: its recipient is taken out of the envelope.
	l := testkit.Letter{From: "s@sender.test", To: []string{"drop@example.com", "u@example.com"}, Data: testkit.Message("2", "kept", "x")}
	sendWant(s.T, s.Address(), l, testkit.Dot, 250)
	got := s.arrive(before)
	checkDelivered(s.T, got.Data, l.Data)
	if len(got.To) != 1 || !strings.HasPrefix(got.To[0], "<u@example.com>") {
		s.Errorf("recipients = %q", got.To)
	}
}

// clientAddresses: the client is known by its address, over IPv6 as well.
func clientAddresses(s *mtaSetup) {
	for _, tt := range []struct{ name, from, to, want string }{
		{"IPv4", "127.0.0.7", s.Address(), "[127.0.0.7]"},
		{"IPv6", "", s.Address6(), "[::1]"},
	} {
		s.Run(tt.name, func(t *testing.T) {
			if tt.to == "" {
				t.Skip("no IPv6 on loopback")
			}
			before, from := len(s.sink.Mails()), len(s.gateway.Log())
			l := letter(testkit.Message("1", "client", "x"))
			l.Client = tt.from
			sendWant(t, tt.to, l, testkit.Dot, 250)
			s.arrive(before)
			s.logged(from, tt.want)
		})
	}
	l := letter(nil)
	l.Client = "127.0.0.66"
	if res := testkit.Send(s.Address(), l); res.Err != nil || res.Code/100 != 5 {
		s.Errorf("a client that the access map refuses got %v, want 5xx", res)
	}
}

// tempfailWithoutScanner: clamd is down and on_error = "tempfail".
func tempfailWithoutScanner(s *mtaSetup) {
	before := len(s.sink.Mails())
	if err := s.clamd.Stop(); err != nil {
		s.Fatal(err)
	}
	res := testkit.Send(s.Address(), letter(testkit.Message("1", "x", "x")))
	if err := s.clamd.Start(); err != nil {
		s.Fatal(err)
	}
	if res.Stage != testkit.Dot || res.Code != 451 {
		s.Errorf("got %v, want 451 at the end of the message", res)
	}
	l := letter(testkit.Message("2", "after", "x"))
	testkit.Eventually(s, 30*time.Second, "mail accepted again", func() bool { return testkit.Send(s.Address(), l).Accepted() })
	checkDelivered(s.T, s.arrive(before).Data, l.Data)
}
