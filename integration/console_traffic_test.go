package integration

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

const consolePassword = "Correct-Horse-9"

// hostile is what strangers write where it might be shown: as a script, as a tag
// that loads something, and as one that ends whatever it stands in.
const hostile = `"></title></textarea><script>alert(1)</script><img src=http://canary.invalid/x onerror=alert(2)><svg onload=alert(3)>'`

// hostileVirus is as much of that as the name of a virus can hold.
const hostileVirus = `Evil-<img/src=x/onerror=alert(4)>`

// hostileHTML is a body that wants out of its frame.
const hostileHTML = `<!doctype html><html><head><meta http-equiv="refresh" content="0;url=http://canary.invalid/meta">
<link rel="stylesheet" href="http://canary.invalid/css"><base href="http://canary.invalid/">
<style>@import "http://canary.invalid/import"; body{background:url(http://canary.invalid/back)}</style>
<script>alert(10); top.location = "http://canary.invalid/top"</script></head>
<body onload="alert(11)" background="http://canary.invalid/body"><h1>Dear customer</h1>
<p onclick="alert(12)" style="background:url(http://canary.invalid/style)">Visible words.</p>
<a href="javascript:alert(13)">a link</a> <a href="http://canary.invalid/link" ping="http://canary.invalid/ping">another</a>
<img src="http://canary.invalid/img" onerror="alert(14)"><img src=x onerror=alert(15)><svg><script>alert(16)</script></svg>
<iframe src="http://canary.invalid/frame"></iframe><object data="http://canary.invalid/object"></object>
<form action="http://canary.invalid/form"><input name=password autofocus onfocus=alert(17)><button>Log in</button></form>
<video src="http://canary.invalid/video" autoplay></video><math><mtext><table><mglyph><style><img src=x onerror=alert(18)></style></math>
</body></html>`

// consoleRules is the rule file of the site.
const consoleRules = `
[[rule]]
name   = "no-invoices"
when   = 'subject contains "Invoice"'
action = "quarantine"
ticket = "SEC-1"

[[rule]]
name   = "void"
to     = "void@example.com"
action = "reject"
reply  = "550 5.7.1 Nobody reads this <script>alert(5)</script>"
`

// site is a gateway with real scanners, users, and the mail of a busy morning.
type site struct {
	*testkit.Gateway
	sink  *testkit.Sink
	rules string            // path of consoleRules
	ids   map[string]string // of the messages, by their Message-ID before the @
}

func newSite(t *testing.T) *site {
	t.Helper()
	dir := testkit.Dir(t)
	clamd := testkit.Up(t, testkit.NewClamd(dir, "DatabaseDirectory "+virusNames(t)))
	spamd := testkit.NewSpamd(dir)
	spamd.Args = []string{"--allow-tell"}
	testkit.Up(t, spamd)
	sink := testkit.NewSink()
	sink.Rule = func(verb, arg string) string {
		if verb == "RCPT" && strings.Contains(arg, "later@") {
			return "451 4.2.2 mailbox full, try later"
		}
		return ""
	}
	s := &site{sink: testkit.Up(t, sink), ids: make(map[string]string)}
	s.Gateway = newGateway(t, binaries.plain, sink.Addr)
	s.UseClamd("unix:"+clamd.Socket, "tempfail")
	s.UseSpamd("unix:"+spamd.Socket, "tempfail")
	s.Config.Set("filter.spamassassin", "max_size", `"1MB"`)
	s.Config.Set("policy", "reject", "5000.0")
	s.Config.Set("policy", "quarantine", "10.0")
	s.Config.Set(`policy.for."hold@example.com"`, "virus", `"quarantine"`)
	s.Config.Set("relay", "domains", `["example.com", "other.example"]`)
	s.Config.Set(`route."other.example"`, "to", fmt.Sprintf("[%q]", "smtp://"+sink.Addr))
	s.Config.Set("queue", "first_retry", `"1h"`) // what is put off stays so
	s.Config.Set("queue", "max_retry", `"2h"`)
	s.rules = withRules(t, s.Gateway, consoleRules)
	s.users(t)
	testkit.Up(t, s.Gateway)
	s.traffic(t)
	return s
}

// virusNames is a folder of signatures: EICAR, and one with a hostile name.
func virusNames(t *testing.T) string {
	t.Helper()
	dir := testkit.Dir(t)
	sigs := "Eicar-Local:0:*:" + hex.EncodeToString([]byte(testkit.EICAR())) + "\n" +
		hostileVirus + ":0:*:" + hex.EncodeToString([]byte("a body of the evil kind")) + "\n"
	if err := os.WriteFile(filepath.Join(dir, "local.ndb"), []byte(sigs), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// users: one for each role.
func (s *site) users(t *testing.T) {
	t.Helper()
	file := filepath.Join(s.Dir, "console-users")
	for name, args := range map[string][]string{
		"alice": {"--role", "admin"}, "sam": {"--role", "security"}, "vera": {"--role", "viewer"}, "henry": {"--role", "helpdesk", "--domain", "other.example"},
	} {
		cmd := exec.Command(s.Binary, append([]string{"user", "add", name, "--file", file}, args...)...)
		cmd.Stdin = strings.NewReader(consolePassword + "\n")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("user add %s: %v\n%s", name, err, out)
		}
	}
	s.Config.Set("console", "users", fmt.Sprintf("%q", file))
}

// traffic sends what the pages show, and waits until it is where it belongs.
func (s *site) traffic(t *testing.T) {
	t.Helper()
	send := func(id, to string, data []byte, code int) {
		t.Helper()
		sendWant(t, s.Addr, testkit.Letter{From: id + "@sender.test", To: strings.Fields(to), Data: data}, testkit.Dot, code)
	}
	send("clean", "u@example.com", testkit.Message("clean", "Minutes of Monday", "Hello, see you."), 250)
	send("second", "u@example.com v@other.example", testkit.Message("second", "Plans for two", "Dear both."), 250)
	send("spam", "u@example.com", testkit.Message("spam", "You have won", testkit.GTUBE()), 250)
	send("spam2", "u@example.com", testkit.Message("spam2", "You have won again", testkit.GTUBE()), 250)
	send("foreign", "v@other.example", testkit.Message("foreign", "You have won over there", testkit.GTUBE()), 250)
	send("virus", "u@example.com", testkit.Message("virus", "Your parcel", testkit.EICAR()), 5)
	send("heldvirus", "hold@example.com", testkit.Message("heldvirus", "Your other parcel", testkit.EICAR()), 250)
	send("invoice", "u@example.com", testkit.Message("invoice", "Invoice 4711", "Please pay."), 250)
	send("deferred", "later@example.com", testkit.Message("deferred", "For a full mailbox", "Hello."), 250)
	send("hostile", "hold@example.com", hostileLetter(), 250)
	testkit.Eventually(t, patience, "all is where it belongs", func() bool {
		return len(s.sink.Mails()) == 2 && strings.Contains(command(t, s.Gateway, 0, "queue", "list", "--json").Stdout, "mailbox full")
	})
	for _, id := range []string{"clean", "second", "spam", "spam2", "foreign", "virus", "heldvirus", "invoice", "deferred", "hostile"} {
		s.ids[id] = byMessageID(t, s.Gateway, id).ID
	}
}

// hostileLetter has something in each place that is shown.
func hostileLetter() []byte {
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Appendf(nil, "From: =?utf-8?b?%s?= <s@sender.test>\r\nTo: =?utf-8?b?%s?= <hold@example.com>\r\nSubject: =?utf-8?b?%s?=\r\n"+
		"Message-ID: <hostile@sender.test>\r\nDate: %s\r\nX-Evil: %s\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"=_x\"\r\n\r\n"+
		"--=_x\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n%s\r\na body of the evil kind\r\n"+
		"--=_x\r\nContent-Type: text/html; charset=utf-8\r\n\r\n%s\r\n"+
		"--=_x\r\nContent-Type: application/octet-stream\r\nContent-Disposition: attachment; filename*=utf-8''%s\r\n\r\nx\r\n--=_x--\r\n",
		b64([]byte(hostile)), b64([]byte(hostile)), b64([]byte("HOSTILE "+hostile)), time.Now().UTC().Format(time.RFC1123Z), hostile, hostile,
		strings.ReplaceAll(hostileHTML, "\n", "\r\n"), percent(hostile+"\u202egpj.exe"))
}

func percent(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}
