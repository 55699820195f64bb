package forward

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"gatepost/internal/mail"
)

func writeTable(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "table")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// ends is where mail for an address goes, as a text.
func ends(f *Forwarder, a mail.Address) string {
	table := f.current.Load()
	r := table.find(a)
	if r == nil {
		return "nowhere"
	}
	if reply := r.refusal(); !reply.IsZero() {
		return reply.String()
	}
	var all []string
	for _, to := range r.targets {
		name := to.name
		if rest, marked := strings.CutPrefix(name, prefixMark); marked {
			name = strings.TrimSuffix(a.ASCIIDomain(), r.key) + rest
		}
		switch {
		case to.mx && name == "":
			name = a.ASCIIDomain()
			fallthrough
		case to.mx:
			name = "mx of " + name
		}
		if to.lmtp {
			name = "lmtp " + name
		}
		if to.port != "25" && to.port != "" {
			name += " port " + to.port
		}
		all = append(all, name)
	}
	return strings.Join(all, ", ")
}

func tableForwarder(t testing.TB, entries []Entry, routes map[string]Route) *Forwarder {
	t.Helper()
	f, err := New(Config{Hostname: "mx.example.net", Routes: routes, Entries: entries}, quietLog(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

func ask(t *testing.T, f *Forwarder, want map[string]string) {
	t.Helper()
	for rcpt, w := range want {
		if got := ends(f, mailPath(t, rcpt).Address); got != w {
			t.Errorf("%s goes to %q, want %q", rcpt, got, w)
		}
	}
}

// TestMailertable: the worked table of sendmail's own answers, and each form.
func TestMailertable(t *testing.T) {
	entries, err := ReadMailertable(writeTable(t, `# comment
.my.example	smtp:%1.inner.example
uu.my.example	smtp:[10.0.0.1]
err.example	error:5.1.2:550 no such host

mx.example       smtp:relay.example
RELAY.Example    relay:[Exchange.Example]
bare.example     gateway.example
barenomx.example [gateway.example]
list.example     esmtp:[a.example]:b.example:[192.0.2.7]
port.example     smtp:[a.example]:2525
mxport.example   smtp:a.example:26:[b.example]
six.example      smtp:[IPv6:2001:db8::1]
nohost.example   error:nohost
nouser.example   error:nouser:550 who is that?
plain.example    error:go away
temp.example     error:tempfail:not now
code.example     error:450 4.7.1 later
quoted.example   error:5.7.0:"550 closed"
old.example      error:554 5.7.9 closed: see https://example.com/
.two.example     smtp:[%1.cluster.example]
bücher.example   smtp:[books.example]
.                smtp:[hub.example]
`))
	if err != nil {
		t.Fatal(err)
	}
	f := tableForwarder(t, entries, nil)
	ask(t, f, map[string]string{
		"u@a.b.my.example":         "mx of a.b.inner.example",
		"u@my.example":             "hub.example",
		"u@uu.my.example":          "10.0.0.1",
		"u@x.uu.my.example":        "mx of x.uu.inner.example",
		"u@err.example":            "550 5.1.2 no such host",
		"u@x.err.example":          "hub.example",
		"u@mx.example":             "mx of relay.example",
		"u@relay.example":          "exchange.example",
		"u@bare.example":           "mx of gateway.example",
		"u@barenomx.example":       "gateway.example",
		"u@list.example":           "a.example, mx of b.example, 192.0.2.7",
		"u@port.example":           "a.example port 2525",
		"u@mxport.example":         "mx of a.example port 26, b.example",
		"u@six.example":            "2001:db8::1",
		"u@nohost.example":         "553 5.1.2 mail for this recipient is not accepted here",
		"u@nouser.example":         "550 5.1.1 who is that?",
		"u@plain.example":          "553 5.3.0 go away",
		"u@temp.example":           "451 4.3.0 not now",
		"u@code.example":           "450 4.7.1 later",
		"u@quoted.example":         "550 5.7.0 closed",
		"u@old.example":            "554 5.7.9 closed: see https://example.com/",
		"u@n1.two.example":         "n1.cluster.example",
		"u@xn--bcher-kva.example":  "books.example",
		"u@bücher.example":         "books.example",
		"u@somewhere.else.example": "hub.example",
	})
	for rcpt, want := range map[string]string{"u@n1.two.example": ".two.example n1.two.example", "u@port.example": "port.example"} {
		if got := destOf(t, f, rcpt); got != want {
			t.Errorf("%s: destination %q, want %q", rcpt, got, want)
		}
	}
}

func TestMailertableErrors(t *testing.T) {
	path := writeTable(t, strings.Join([]string{
		"ok.example smtp:[a.example]",
		" leading.example smtp:[a.example]",
		"novalue.example",
		"local.example local:",
		"localuser.example local:joe",
		"uucp.example uucp-new:host",
		"user@address.example smtp:[a.example]",
		"rewrite.example smtp:joe@a.example",
		"OK.example smtp:[b.example]",
		"bracket.example smtp:[a.example",
		"empty.example smtp:",
		"hole.example smtp:a.example::b.example",
		"port.example smtp:[a.example]:99999",
		"keyword.example error:nonsense:550 x",
		"nothing.example error:",
		"mark.example smtp:[%1.a.example]",
		"bad..example smtp:[a.example]",
		"host.example smtp:[a_b c]",
		"twice.example smtp:[a.example]:[A.example]",
		"latin.example smtp:[\xe9.example]",
		"ok2.example smtp:[a.example]",
	}, "\n"))
	_, err := ReadMailertable(path)
	if err == nil {
		t.Fatal("no error")
	}
	got := strings.Split(strings.ReplaceAll(err.Error(), path, "table"), "\n")
	for line, want := range map[int]string{
		2: "begins with white space", 3: "has no value", 4: "not delivered on this host", 5: "not delivered on this host", 6: `unknown mailer "uucp-new"`,
		7: `want a host, ".domain" or "."`, 8: "rewriting recipients", 9: `"OK.example" is there twice; it is on line 1, too`, 10: "bracket is not closed",
		11: "names no host", 12: "an empty host", 13: `port "99999"`, 14: `"nonsense"`, 15: "without a text", 16: "%1 stands for", 17: "empty label",
		18: "host:", 19: "is there twice", 20: "is not UTF-8",
	} {
		found := false
		for _, g := range got {
			found = found || strings.HasPrefix(g, "table:"+itoa(line)+": ") && strings.Contains(g, want)
		}
		if !found {
			t.Errorf("line %d: %q is missing in\n%s", line, want, strings.Join(got, "\n"))
		}
	}
	if len(got) != 19 {
		t.Errorf("%d errors, want 19:\n%s", len(got), strings.Join(got, "\n"))
	}
	for _, bad := range []string{filepath.Join(t.TempDir(), "missing"), t.TempDir(), writeTable(t, "long.example smtp:["+strings.Repeat("a", 5000)+"]\n")} {
		if _, err := ReadMailertable(bad); err == nil || !strings.HasPrefix(err.Error(), bad+":1: ") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func itoa(n int) string { return strconv.Itoa(n) }

func TestTransport(t *testing.T) {
	entries, err := ReadTransport(writeTable(t, `# Postfix
example.com      smtp:[mail.example.com]
.example.com     relay:[mail.example.com]:2525
mx.example       smtp:other.example
mxport.example   smtp:other.example:26
own.example      smtp:
list.example     smtp:[a.example]:25, b.example
    [c.example]
joe@example.com  lmtp:unix:/run/lmtp.sock
lmtp.example     lmtp:[imap.example]:24
inet.example     lmtp:inet:imap.example:2424
nexthop.example  :[gw.example]
gone.example     error:5.1.6 moved away
plain.example    error:mail is not taken
wait.example     retry:4.7.0 in a while
ours.example     :
.ours.example    :
*                smtp:[hub.example]
`))
	if err != nil {
		t.Fatal(err)
	}
	own := map[string]Route{"ours.example": {To: []string{"smtp://mine.example"}}, "mx.example": {To: []string{"smtp://toml.example"}}}
	f := tableForwarder(t, entries, own)
	ask(t, f, map[string]string{
		"u@example.com":     "mail.example.com",
		"u@x.example.com":   "mail.example.com port 2525",
		"u@mx.example":      "toml.example",
		"u@mxport.example":  "mx of other.example port 26",
		"u@own.example":     "mx of own.example",
		"u@list.example":    "a.example, mx of b.example, c.example",
		"joe@example.com":   "lmtp /run/lmtp.sock",
		"JOE@example.com":   "lmtp /run/lmtp.sock",
		"u@lmtp.example":    "lmtp imap.example port 24",
		"u@inet.example":    "lmtp imap.example port 2424",
		"u@nexthop.example": "gw.example",
		"u@gone.example":    "550 5.1.6 moved away",
		"u@plain.example":   "550 5.0.0 mail is not taken",
		"u@wait.example":    "450 4.7.0 in a while",
		"u@ours.example":    "mine.example",
		"u@x.ours.example":  "nowhere",
		"u@else.example":    "hub.example",
	})
	cfg := Config{Routes: own, Entries: entries}
	if got := cfg.Overruled(); len(got) != 2 || got[0].Key != "mx.example" || got[0].Line != 4 {
		t.Errorf("overruled: %+v", got)
	}
}

func TestTransportErrors(t *testing.T) {
	for line, want := range map[string]string{
		"a.example":                    "has no value",
		"a.example smtp":               "want transport:nexthop",
		"*.example smtp:[a.example]":   `"*" stands alone`,
		"/^x/ smtp:[a.example]":        "patterns are not read",
		". smtp:[a.example]":           `want "*"`,
		"a.example local:":             "not delivered on this host",
		"a.example discard:":           "not dropped by a route",
		"a.example uucp:host":          `transport "uucp" is not known`,
		"a.example smtp:[b.example":    "bracket is not closed",
		"a.example smtp:[b.example]:x": `port "x"`,
		"a.example lmtp:":              "names no host",
		"a.example error:4.1.1 x":      "does not fit",
		"a@b@c smtp:[a.example]":       "address",
	} {
		if _, err := ReadTransport(writeTable(t, line+"\n")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want … %s …", line, err, want)
		}
	}
}

// TestLargeTable: tens of thousands of lines are read in a moment.
func TestLargeTable(t *testing.T) {
	var b strings.Builder
	for i := range 30000 {
		b.WriteString("d" + itoa(i%1000) + "-" + itoa(i/1000) + ".example smtp:[mail" + itoa(i%50) + ".example]\n")
	}
	entries, err := ReadMailertable(writeTable(t, b.String()))
	if err != nil {
		t.Fatal(err)
	}
	f := tableForwarder(t, entries, nil)
	if n := len(f.current.Load().byDest); n != 50 {
		t.Errorf("%d destinations, want 50: those that lead to the same host are one", n)
	}
}

func FuzzTables(f *testing.F) {
	f.Add("a.example smtp:[b.example]:25:c")
	f.Add(".x error:5.1.1:550 \"x\"")
	f.Add("* smtp:[a]:25, b\n [::1]")
	f.Add(". %1:%1.%1")
	f.Fuzz(func(t *testing.T, text string) {
		path := writeTable(t, text)
		for _, read := range []func(string) ([]Entry, error){ReadMailertable, ReadTransport} {
			entries, err := read(path)
			if err != nil {
				continue
			}
			fw, err := New(Config{Hostname: "mx.test", Entries: entries}, quietLog(t))
			if err != nil {
				t.Fatalf("read without an error, but refused: %v", err)
			}
			fw.Close()
		}
	})
}
