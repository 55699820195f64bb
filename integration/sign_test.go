package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"

	"gatepost/internal/testkit"
)

// signing is a gateway with two keys for example.com that were made by its own
// command, and a DNS that has them.
type signing struct {
	*testkit.Gateway
	*testing.T
	sink      *testkit.Sink
	dns       *testkit.DNS
	records   map[string]string // by name
	files     map[string]string // private keys, by selector
	witnesses []witness
}

// witness verifies the signatures of a message.
type witness struct {
	name   string
	verify func(message []byte) error
}

// madeKey is what keygen tells.
type madeKey struct{ File, Name, Value, Zone string }

// keygen makes a key and returns what is said of it.
func (s *signing) keygen(selector string, more ...string) madeKey {
	s.Helper()
	file := filepath.Join(s.Dir, selector+".pem")
	args := append([]string{"dkim", "keygen", "--json", "--domain", "example.com", "--selector", selector, "--file", file}, more...)
	var made madeKey
	if err := json.Unmarshal([]byte(command(s.T, s.Gateway, 0, args...).Stdout), &made); err != nil {
		s.Fatal(err)
	}
	s.records[made.Name], s.files[selector] = made.Value, file
	return made
}

func (s *signing) section(selector string) string {
	section := "dkim.key." + selector
	s.Config.Set(section, "domain", `"example.com"`)
	s.Config.Set(section, "selector", fmt.Sprintf("%q", selector))
	s.Config.Set(section, "file", fmt.Sprintf("%q", s.files[selector]))
	s.Config.Set(section, "subdomains", "true")
	return section
}

// newSigning prepares all of it; the gateway is not started. more are records of
// the DNS.
func newSigning(t *testing.T, more ...string) *signing {
	t.Helper()
	s := &signing{T: t, sink: testkit.Up(t, testkit.NewSink()), records: make(map[string]string), files: make(map[string]string)}
	s.Gateway = newGateway(t, binaries.race, s.sink.Addr)
	for selector, kind := range map[string]string{"s1": "rsa", "e1": "ed25519", "next": "rsa"} {
		made := s.keygen(selector, "--type", kind)
		more = append(more, strings.NewReplacer("\n", " ", "\t", "").Replace(made.Zone))
	}
	var err error
	if s.dns, err = testkit.NewDNS(more...); err != nil {
		t.Fatal(err)
	}
	testkit.Up(t, s.dns)
	s.section("s1")
	s.section("e1")
	s.Config.Set("dns", "servers", fmt.Sprintf("[%q]", s.dns.Addr))
	py := testkit.NewDKIMPy(t)
	tools, err := testkit.NewOpenDKIMTools(testkit.Dir(t), s.dns)
	testkit.Need(t, err)
	s.witnesses = []witness{
		{"go-msgauth", func(m []byte) error { return signaturesHold(m, s.records) }},
		{"python3-dkim", func(m []byte) error {
			ok, err := py.Verify(m, s.records)
			if err == nil && !ok {
				err = fmt.Errorf("a signature does not hold")
			}
			return err
		}},
		{"opendkim", tools.Verify},
	}
	return s
}

// signaturesHold wants all signatures of a message to hold.
func signaturesHold(message []byte, records map[string]string) error {
	all, err := dkim.VerifyWithOptions(bytes.NewReader(message), &dkim.VerifyOptions{LookupTXT: func(name string) ([]string, error) { return []string{records[name]}, nil }})
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("no signature")
	}
	for _, v := range all {
		if v.Err != nil {
			err = v.Err
		}
	}
	return err
}

var selectorTag = regexp.MustCompile(`\ss=([^;]*);`)

// wantSigned wants these selectors, first to last, and every witness to be
// content.
func (s *signing) wantSigned(name string, message []byte, selectors ...string) {
	s.Helper()
	var got []string
	for _, f := range splitFields(strings.SplitN(string(message), "\r\n\r\n", 2)[0] + "\r\n") {
		if strings.HasPrefix(f, "DKIM-Signature:") {
			got = append(got, selectorTag.FindStringSubmatch(f)[1])
		}
	}
	if strings.Join(got, " ") != strings.Join(selectors, " ") {
		s.Errorf("%s: signed by %v, want %v\n%.1500s", name, got, selectors, message)
		return
	}
	if len(selectors) == 0 {
		return
	}
	for _, r := range s.witnesses {
		if err := r.verify(message); err != nil {
			s.Errorf("%s: %s: %v\n%.1500s", name, r.name, err, message)
		}
	}
}

// ownLetter is from one of ours; client is where it comes from.
func ownLetter(client string, data []byte) testkit.Letter {
	return testkit.Letter{From: "s@example.com", To: []string{"u@example.com"}, Data: data, Client: client, Args: "BODY=8BITMIME"}
}

const inside = "127.0.0.9" // in relay.networks

func ownMessage(id, subject, text string) []byte {
	return bytes.Replace(testkit.Message(id, subject, text), []byte("From: Sender <s@sender.test>"), []byte("From: Sender <s@example.com>"), 1)
}

// What is signed is what arrives, through both entries, and nobody from outside
// is signed for.
func TestSigning(t *testing.T) {
	needRoot(t)
	for _, through := range []string{"proxy", "Postfix"} {
		t.Run(through, func(t *testing.T) {
			s := newSigning(t)
			s.Config.Set("text.footer.us", "senders", `["example.com"]`)
			s.Config.Set("text.footer.us", "text", `"A footer, put on before the signature."`)
			s.Config.Set("text.footer.us", "inside", "true")
			server := s.Addr
			if through == "Postfix" {
				socket := milterSocket(t, s.Gateway, "unix")
				testkit.Up(t, s.Gateway)
				server = testkit.Up(t, testkit.NewMilterPostfix(testkit.Dir(t), s.sink.Addr, "unix:"+socket)).Addr
			} else {
				testkit.Up(t, s.Gateway)
			}
			odd := strings.Replace(string(ownMessage("odd", "odd", " a \t b \r\n\r\n  \r\n.\r\n..x\r\n\r\n\r\n")), "To: u@example.com", "To:\tu@example.com,\r\n\t  \"x  y\"\r\n <v@example.com> \r\nReferences: <1@x>\r\nreferences:<2@x>", 1)
			footless := func(s string) string { return strings.Replace(s, "text/plain;", "text/x-plain;", 1) } // no footer
			rows := []struct {
				name   string
				letter testkit.Letter
				want   []string
			}{
				{"with a footer", ownLetter(inside, ownMessage("1", "one", "hello")), []string{"s1", "e1"}},
				{"folds and blanks", ownLetter(inside, []byte(footless(odd))), []string{"s1", "e1"}},
				{"8 bit", ownLetter(inside, ownMessage("3", "three", "Gr\xc3\xbc\xc3\x9fe")), []string{"s1", "e1"}},
				{"large", ownLetter(inside, []byte(footless(string(ownMessage("4", "four", testkit.Filler(1<<20)))))), []string{"s1", "e1"}},
				{"from outside, in our name", ownLetter("127.0.0.1", ownMessage("5", "five", "hello")), nil},
				{"of ours, in another's name", ownLetter(inside, testkit.Message("6", "six", "hello")), nil},
			}
			for i, row := range rows {
				sendWant(t, server, row.letter, testkit.Dot, 250)
				got := waitMails(t, s.sink, i+1)[i].Data
				s.wantSigned(row.name, got, row.want...)
				if i == 0 && !bytes.Contains(got, []byte("put on before the signature")) {
					t.Errorf("no footer:\n%s", got)
				}
			}
		})
	}
}

// A message that waits in the spool keeps its signature through a restart, and
// notifications of ours are signed, too.
func TestSignedInSpoolAndNotifications(t *testing.T) {
	s := newSigning(t)
	testkit.Up(t, s.Gateway)
	if err := s.sink.Stop(); err != nil {
		t.Fatal(err)
	}
	sendWant(t, s.Addr, ownLetter(inside, ownMessage("1", "waits", "hello")), testkit.Dot, 250)
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := s.sink.Start(); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	s.wantSigned("after a restart", waitMails(t, s.sink, 1)[0].Data, "s1", "e1")

	s.sink.Script("RCPT", "550 5.1.1 Nobody here")
	sendWant(t, s.Addr, ownLetter(inside, ownMessage("2", "comes back", "hello")), testkit.Dot, 250)
	dsn := waitMails(t, s.sink, 2)[1].Data
	if !bytes.Contains(dsn, []byte("multipart/report")) {
		t.Fatalf("no notification:\n%s", dsn)
	}
	s.wantSigned("a notification", dsn, "s1", "e1")
}

// Keys are changed while the gateway runs; one that others can read is refused,
// and the old ones stay.
func TestKeyRotation(t *testing.T) {
	s := newSigning(t)
	testkit.Up(t, s.Gateway)
	next := func(n int, want ...string) {
		t.Helper()
		sendWant(t, s.Addr, ownLetter(inside, ownMessage(fmt.Sprint(n), "x", "hello")), testkit.Dot, 250)
		s.wantSigned(fmt.Sprint("message ", n), waitMails(t, s.sink, n)[n-1].Data, want...)
	}
	next(1, "s1", "e1")
	reload := func(line string) {
		t.Helper()
		from := len(s.Gateway.Log())
		if err := s.WriteConfig(); err != nil {
			t.Fatal(err)
		}
		if err := s.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(time.Minute); !strings.Contains(s.Gateway.Log()[from:], line); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("no %q in the log:\n%s", line, s.Gateway.Log()[from:])
			}
		}
	}
	s.section("next")
	reload("would both sign")
	next(2, "s1", "e1")
	s.Config.Set("dkim.key.next", "from", "2020-01-01")
	reload("configuration reloaded")
	next(3, "next", "e1")
	s.Config.Set("dkim.key.next", "use", `"publish"`)
	reload("configuration reloaded")
	next(4, "s1", "e1")
}

// What keygen prints is what the DNS is to have, and check says so, or what is
// wrong.
func TestKeyCheck(t *testing.T) {
	s := newSigning(t)
	s.section("next")
	s.Config.Set("dkim.key.next", "use", `"publish"`)
	if err := s.WriteConfig(); err != nil {
		t.Fatal(err)
	}
	tools, err := testkit.NewOpenDKIMTools(testkit.Dir(t), s.dns)
	testkit.Need(t, err)
	for _, selector := range []string{"s1", "next"} {
		if err := tools.TestKey("example.com", selector, s.files[selector]); err != nil {
			t.Error(err)
		}
	}
	if out := command(t, s.Gateway, 0, "dkim", "check").Stdout; strings.Count(out, "the DNS has it") != 3 {
		t.Errorf("check: %s", out)
	}
	s.Config.Set("dkim.key.s1", "selector", `"nowhere"`)
	s.Config.Set("dkim.key.next", "selector", `"s1"`)
	s.dns.Fail("e1._domainkey.example.com.")
	if err := s.WriteConfig(); err != nil {
		t.Fatal(err)
	}
	out := command(t, s.Gateway, 65, "dkim", "check").Stdout
	for _, want := range []string{"there is no TXT record", "the record has another key", "the DNS does not answer"} {
		if !strings.Contains(out, want) {
			t.Errorf("check does not say %q:\n%s", want, out)
		}
	}
	command(t, s.Gateway, 75, "dkim", "check", "e1")
	list := command(t, s.Gateway, 0, "dkim", "list").Stdout
	if !strings.Contains(list, "published only") || strings.Count(list, "signs") != 2 {
		t.Errorf("list: %s", list)
	}
}
