package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// pythonMail is a mail as Python's email package reads it.
type pythonMail struct {
	Subject, From, To, Auto, Text, HTML string
	Defects                             []string
	Links                               map[string]string // of the HTML: the text of the first link of each kind
}

const pythonReader = `
import sys, json, email, email.policy, html.parser
m = email.message_from_binary_file(sys.stdin.buffer, policy=email.policy.default)
class L(html.parser.HTMLParser):
    def __init__(s): super().__init__(); s.links = {}; s.at = None
    def handle_starttag(s, t, a):
        if t == 'a': s.at = dict(a)['href']
        assert t not in ('script', 'img', 'iframe', 'svg'), t
    def handle_data(s, d):
        if s.at: s.links.setdefault(d, s.at); s.at = None
text, html_ = m.get_body(('plain',)), m.get_body(('html',))
l = L()
if html_: l.feed(html_.get_content())
defects = [repr(d) for p in m.walk() for d in p.defects]
print(json.dumps(dict(Subject=m['Subject'], From=m['From'], To=m['To'], Auto=m['Auto-Submitted'],
    Text=text.get_content(), HTML=html_.get_content() if html_ else '', Defects=defects, Links=l.links)))
`

func readMail(t *testing.T, data []byte) (m pythonMail) {
	t.Helper()
	cmd := exec.Command("python3", "-c", pythonReader)
	cmd.Stdin = strings.NewReader(string(data))
	var errOut strings.Builder
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &m)
	}
	if err != nil || len(m.Defects) > 0 {
		t.Fatalf("python: %v, %q\n%s\n%s", err, m.Defects, errOut.String(), data)
	}
	return m
}

// visit asks for a page, and wants its status and a piece of its text.
func visit(t *testing.T, method, url string, code int, want string, header ...string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != code || !strings.Contains(string(body), want) {
		t.Fatalf("%s: %v, %s, want %d and %q:\n%s", method, err, resp.Status, code, want, body)
	}
	if csp := resp.Header.Get("Content-Security-Policy"); code < 500 && !strings.HasPrefix(csp, "default-src 'none'") {
		t.Errorf("%s: policy %q", method, csp)
	}
}

// heldIDs lists what is held, by a command.
func heldIDs(t *testing.T, g *testkit.Gateway, args ...string) (ids []string, list []map[string]any) {
	t.Helper()
	res := command(t, g, 0, append([]string{"quarantine", "list", "-j"}, args...)...)
	for d := json.NewDecoder(strings.NewReader(res.Stdout)); ; {
		var m map[string]any
		if err := d.Decode(&m); err == io.EOF {
			return ids, list
		} else if err != nil {
			t.Fatalf("%v\n%s", err, res.Stdout)
		}
		ids, list = append(ids, m["id"].(string)), append(list, m)
	}
}

// spamText is a message that every SpamAssassin takes for spam, with what strangers
// write.
func spamText(id string) []byte {
	return []byte("From: =?utf-8?q?J=C3=BCrgen_=3Cscript=3E?= <friend@sender.test>\r\nTo: u@example.com\r\n" +
		"Subject: =?utf-8?b?R8O8bnN0aWdlIMOcYmVyd2Vpc3VuZyA8aW1nIHNyYz14IG9uZXJyb3I9YWxlcnQoMSk+?=\r\n" +
		"Message-ID: <" + id + "@sender.test>\r\nDate: " + time.Now().UTC().Format(time.RFC1123Z) + "\r\n\r\n" + testkit.GTUBE() + "\r\n")
}

// What is held: people see it in a digest, a link does nothing until somebody
// presses the button, and then once; what is released goes to the one who asked
// and to nobody else.
func TestQuarantineAndDigest(t *testing.T) {
	clamd := testkit.Up(t, testkit.NewClamd(testkit.Dir(t)))
	spamd := testkit.Up(t, testkit.NewSpamd(testkit.Dir(t)))
	sink := testkit.Up(t, testkit.NewSink())
	g := newGateway(t, binaries.race, sink.Addr)
	g.UseClamd("unix:"+clamd.Socket, "tempfail")
	g.UseSpamd("unix:"+spamd.Socket, "tempfail")
	g.Config.Set("policy", "reject", "100000.0")
	g.Config.Set("policy", "virus", `"quarantine"`)
	g.Config.Set("digest", "every", `"day"`)
	g.Config.Set("digest", "at", `"`+time.Now().Add(12*time.Hour).Format("15:04")+`"`) // not by itself
	g.Config.Set("digest", "url", `"http://`+g.Console+`"`)
	g.Config.Set("notify", "recipients", `["virus"]`)
	testkit.Up(t, g)

	spam := testkit.Letter{From: "bounce-1@sender.test", To: []string{"u@example.com", "v@example.com"}, Data: spamText("1")}
	sendWant(t, g.Addr, spam, testkit.Dot, 250)
	sendWant(t, g.Addr, letter(testkit.Message("2", "virus", testkit.EICAR())), testkit.Dot, 250)
	ids, list := heldIDs(t, g, "--kind", "spam")
	if len(ids) != 1 || list[0]["kind"] != "spam" {
		t.Fatalf("held as spam: %v", list)
	}
	virus, _ := heldIDs(t, g, "--kind", "virus", "--rcpt", "u@example.com")
	if found, _ := heldIDs(t, g, "--subject", "günstige überweisung"); len(virus) != 1 || len(found) != 1 || found[0] != ids[0] {
		t.Fatalf("virus %v, by subject %v", virus, found)
	}
	told := readMail(t, waitMails(t, sink, 1)[0].Data) // of the virus
	if !strings.Contains(told.Subject, "virus") || !strings.Contains(told.Text, "It is held.") {
		t.Errorf("the recipient is told %+v", told)
	}

	// W7, and approval.
	for _, tt := range []struct {
		name, says string
		args       []string
	}{
		{"somebody else", "not held for", []string{"release", ids[0], "--rcpt", "eve@example.com"}},
		{"one of them and somebody else", "not held for", []string{"release", ids[0], "--rcpt", "u@example.com,eve@example.com"}},
		{"a virus", "with an approval", []string{"release", virus[0]}},
		{"nothing", "no such message", []string{"delete", "0000000000111111111111"}},
	} {
		if res := command(t, g, 66, append([]string{"quarantine"}, tt.args...)...); !strings.Contains(res.Stderr, tt.says) {
			t.Errorf("%s: %q", tt.name, res.Stderr)
		}
	}

	if res := command(t, g, 0, "digest", "send", "--now"); res.Stdout != "Sent 2 digests\n" {
		t.Fatalf("%q", res.Stdout)
	}
	digests := map[string]pythonMail{}
	for _, m := range waitMails(t, sink, 3)[1:] {
		if !strings.HasPrefix(m.From, "<>") || len(m.To) != 1 {
			t.Errorf("envelope: %q %q", m.From, m.To)
		}
		p := readMail(t, m.Data)
		digests[strings.Trim(p.To, "<>")] = p
	}
	d := digests["u@example.com"]
	for _, want := range []string{"Günstige Überweisung <img src=x onerror=alert(1)>", "Jürgen <script> <friend@sender.test>", "looks like spam"} {
		if !strings.Contains(d.Text, want) {
			t.Errorf("the text has no %q:\n%s", want, d.Text)
		}
	}
	if d.Auto != "auto-generated" || !strings.Contains(d.Subject, "Günstige Überweisung") || !strings.Contains(d.HTML, "&lt;img src=x onerror=alert(1)&gt;") {
		t.Errorf("%+v", d)
	}
	if strings.Contains(d.Text, "virus was found") {
		t.Errorf("it tells of the virus:\n%s", d.Text)
	}
	release, theirs := d.Links["Release"], digests["v@example.com"].Links["Delete"]
	if release == "" || theirs == "" {
		t.Fatalf("links: %v", d.Links)
	}

	// W5: programs that look into mail follow links; others have other people's.
	for range 3 {
		visit(t, "GET", release, 200, "Release this message?")
		visit(t, "HEAD", release, 200, "")
	}
	visit(t, "GET", release[:len(release)-2]+"AA", 404, "does not work")
	visit(t, "POST", release[:len(release)-2]+"AA", 404, "does not work")
	visit(t, "POST", release, 403, "", "Sec-Fetch-Site", "cross-site")
	visit(t, "GET", d.Links["All my held mail"], 200, "Your held mail")
	if _, list = heldIDs(t, g, "--kind", "spam"); len(list) != 1 || len(list[0]["recipients"].([]any)) != 2 || len(sink.Mails()) != 3 {
		t.Fatalf("something was done: %v", list)
	}

	// Pressed twice at once: once it is.
	var wg sync.WaitGroup
	codes := make([]int, 4)
	for i := range codes {
		wg.Go(func() {
			resp, err := http.Post(release, "application/x-www-form-urlencoded", nil)
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
			codes[i] = resp.StatusCode
		})
	}
	wg.Wait()
	if n := strings.Count(fmt.Sprint(codes), "200"); n != 1 {
		t.Errorf("pressed four times: %v", codes)
	}
	got := waitMails(t, sink, 4)[3]
	if fmt.Sprint(got.To) != "[<u@example.com>]" || !strings.Contains(string(got.Data), testkit.GTUBE()) {
		t.Errorf("released to %q", got.To)
	}
	visit(t, "POST", release, 409, "each link works once")
	visit(t, "GET", release, 410, "not held any more")
	visit(t, "POST", d.Links["Delete"], 410, "not held any more")
	visit(t, "POST", theirs, 200, "Deleted")
	if left, _ := heldIDs(t, g, "--kind", "spam"); len(left) != 0 {
		t.Errorf("left: %v", left)
	}

	// What is allowed is delivered to who allowed it, from now on.
	spam.Data = spamText("3")
	sendWant(t, g.Addr, spam, testkit.Dot, 250)
	ids, _ = heldIDs(t, g, "--kind", "spam")
	command(t, g, 0, "quarantine", "allow", ids[0], "--rcpt", "u@example.com")
	if res := command(t, g, 0, "state", "list", "personal"); !strings.Contains(res.Stdout, "u@example.com friend@sender.test") {
		t.Errorf("lists: %q", res.Stdout)
	}
	spam.Data = spamText("4")
	sendWant(t, g.Addr, spam, testkit.Dot, 250)
	if got = waitMails(t, sink, 5)[4]; fmt.Sprint(got.To) != "[<u@example.com>]" {
		t.Errorf("allowed for u, went to %q", got.To)
	}
	command(t, g, 0, "quarantine", "release", virus[0], "--approve", "for the laboratory")
	waitMails(t, sink, 6)
	command(t, g, 0, "quarantine", "release", ids[0], "--rcpt", "v@example.com")
	if got = waitMails(t, sink, 7)[6]; fmt.Sprint(got.To) != "[<v@example.com>]" {
		t.Errorf("released to %q", got.To)
	}
	audit := command(t, g, 0, "audit", "-j").Stdout
	for _, want := range []string{"for the laboratory", "quarantine allow", `"who":"u@example.com"`, `"a link of a digest"`} {
		if !strings.Contains(audit, want) {
			t.Errorf("the audit has no %q", want)
		}
	}

	quarantineAtRest(t, g)
}

// quarantineAtRest acts on what is held while no gateway runs.
func quarantineAtRest(t *testing.T, g *testkit.Gateway) {
	t.Helper()
	if err := g.Stop(); err != nil {
		t.Fatal(err)
	}
	ids, _ := heldIDs(t, g)
	if len(ids) == 0 {
		t.Fatal("nothing is left")
	}
	command(t, g, 0, "quarantine", "block", ids[0])
	if res := command(t, g, 0, append([]string{"quarantine", "delete"}, ids...)...); !strings.Contains(res.Stdout, "Deleted") {
		t.Errorf("%q", res.Stdout)
	}
	command(t, g, 69, "digest", "send", "--now")
}

// A virus is told to the administrator by mail and to a webhook, signed; the
// sender hears nothing.
func TestNoticesOfViruses(t *testing.T) {
	clamd := testkit.Up(t, testkit.NewClamd(testkit.Dir(t)))
	sink := testkit.Up(t, testkit.NewSink())
	calls := make(chan string, 10)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		calls <- r.Header.Get("X-Gatepost-Signature") + " " + string(body)
	}))
	defer hook.Close()
	g := newGateway(t, binaries.race, sink.Addr)
	g.UseClamd("unix:"+clamd.Socket, "tempfail")
	g.Config.Set("notify", "admin", `["admin@example.com"]`)
	g.Config.Set("notify", "webhook", `"`+hook.URL+`"`)
	secret := filepath.Join(g.Dir, "secret")
	if err := os.WriteFile(secret, []byte("0123456789abcdef0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	g.Config.Set("notify", "webhook_secret_file", `"`+secret+`"`)
	testkit.Up(t, g)
	sendWant(t, g.Addr, letter(testkit.Message("1", "a virus\u202e", testkit.EICAR())), testkit.Dot, 554)
	m := waitMails(t, sink, 1)[0]
	p := readMail(t, m.Data)
	if fmt.Sprint(m.To) != "[<admin@example.com>]" || !strings.HasPrefix(p.Subject, "[mx1.example.com] Virus: ") || strings.Contains(p.Text, "\u202e") {
		t.Errorf("%q: %+v", m.To, p)
	}
	select {
	case call := <-calls:
		if !strings.HasPrefix(call, "sha256=") || !strings.Contains(call, `"event":"virus"`) || !strings.Contains(call, `"action":"reject"`) {
			t.Errorf("%s", call)
		}
	case <-time.After(30 * time.Second):
		t.Error("the webhook was not called")
	}
}
