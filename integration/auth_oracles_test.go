package integration

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// differences are where an oracle says something else than we do: what, and why.
// A row that is here and does not differ fails, too.
type differences map[string]string

func opendkimDiffers() differences {
	const (
		from   = "permerror: it wants one From field before it says anything, signed or not"
		ask    = "none: it answers 4xx to the client in the place of a result"
		reader = "none: to it the field is no signature at all; it says 5xx"
	)
	return differences{
		"H3 encoded address": from, "H3 null": from, "H3 none": from, "H3 empty": from, "H3 blank before the name": from, "H3 blank before the colon": from,
		"D1 l=, and more behind it":     "pass: what is behind l= is anybody's, and we don't take it (RFC 6376 8.2)",
		"signed by opendkim with SHA-1": "pass: RFC 8301 3.1 wants no SHA-1 any more",
		"D2 a second Subject":           "pass: readers show the one on top, which nobody signed (RFC 6376 8.15)",
		"D2 expired":                    "permerror: RFC 8601 has policy for what is not acceptable to the verifier",
		"D2 made in the future":         "permerror: the same",
		"D3 names in h=":                "fail: it looks for all 9000 names; we stop before",
		"D3 a huge key":                 "none: its data has no such key; it answers 4xx",
		"D3 signatures":                 "fail fail fail neutral neutral neutral neutral neutral neutral neutral: it verifies three; we ten, of 300",
		"D4 d= with a comment":          reader, "D4 d= with more results": reader,
		"D8 SERVFAIL for a key": ask,
	}
}

func opendmarcDiffers() differences {
	const (
		unclear = "none: it does not judge what has no one author, and lets it pass; we take the strictest policy of all that may be shown"
		nobody  = "none: it does not judge what has no author; we call it permerror"
		lax     = "pass: it finds an address where others find another one, or none"
	)
	return differences{
		"H3 two From fields": unclear, "H3 two addresses": unclear, "H3 group": unclear, "H3 encoded address": unclear, "H3 blank before the colon": unclear,
		"H3 null": nobody, "H3 none": nobody, "H3 empty": nobody, "H3 blank before the name": nobody,
		"H3 route": lax, "H3 folded address": lax,
		"D5 null sender, HELO is good": "fail: testing itself it says HELO in its own name",
		"D8 SERVFAIL for the policy":   "none: it takes what can't be asked for what is not there",
		"D8 SERVFAIL for a key":        "fail: a signature that can't be verified is none to it; RFC 9989 5.3.5 concludes nothing",
		"D9 strict: signed below":      "pass: it takes a signature of a name below for the author's, whatever adkim= says (RFC 9989 4.4)",
		"D9 private suffix":            "pass: the same for names beside each other below a suffix of its own list",
		"D9 two records":               "fail: it takes the first; for RFC 9989 4.10 none counts",
		"D9 bad optional tags":         "permerror: the whole policy is lost to it for pct=x (RFC 9989 4.7: ignore what is wrong behind v=)",
	}
}

// TestAuthAgainstOracles has opendkim and OpenDMARC judge the same messages. The
// gateway only notes what it finds, so that all arrive.
func TestAuthAgainstOracles(t *testing.T) {
	needRoot(t)
	a := newAuthors(t)
	o := newOracles(t, a)
	// What is no address is refused before there is anything to compare.
	rows := slices.DeleteFunc(a.letters(), func(l authLetter) bool { return l.want == "501" })
	sink := testkit.Up(t, testkit.NewSink())
	g := withAuthors(t, a, sink, sink)
	g.Config.Set("filter.auth", "check_ours", "true") // the client is this host
	g.Config.Set("policy", "dmarc", `"ignore"`)
	testkit.Up(t, g)
	for i, l := range rows {
		if r := l.deliver(t, g.Addr, i); r.Code != 250 {
			t.Fatalf("%s: %v", l.name, r)
		}
	}
	arrived := arrivedCases(sink.Wait(len(rows), authWait))
	opendkim, opendmarc := opendkimDiffers(), opendmarcDiffers()
	for i, l := range rows {
		t.Run(l.name, func(t *testing.T) {
			ours := results(arrived[i])
			opendkim.compare(t, l.name, "opendkim", ours.all("dkim", "policy.skipped"), o.opendkim(t, l))
			dmarc, spf := o.opendmarc(t, l, ours)
			opendmarc.compare(t, l.name, "OpenDMARC", ours.all("dmarc", ""), dmarc)
			// It knows two words only, and none where it does not judge.
			if pass := ours.all("spf", "") == "pass"; spf != "none" && pass != (spf == "pass") {
				t.Errorf("libspf2 says %s, we say %s", spf, ours.all("spf", ""))
			}
		})
	}
}

type oracles struct {
	dkim, dmac string // programs
	dir        string
	conf       [2]string
}

// oracleDNS is where OpenDMARC asks: its library knows no other port.
const oracleDNS = "127.9.8.7"

// oracleClient brings the messages: of loopback libspf2 takes anything.
const oracleClient = "192.0.2.25"

func newOracles(t *testing.T, a *authors) *oracles {
	t.Helper()
	o := &oracles{dir: testkit.Dir(t), dkim: testkit.Program(t, "opendkim", "opendkim"), dmac: testkit.Program(t, "opendmarc", "opendmarc")}
	var records strings.Builder
	for name, text := range a.records {
		fmt.Fprintf(&records, "%s %s\n", name, text)
	}
	o.write(t, "records", records.String())
	o.conf[0] = o.write(t, "opendkim.conf", "Mode v\nSyslog no\nAuthservID mx1.example.com\nTestDNSData file:"+filepath.Join(o.dir, "records")+"\n")
	o.conf[1] = o.write(t, "opendmarc.conf", "Syslog no\nAuthservID mx1.example.com\nTrustedAuthservIDs mx1.example.com\nRejectFailures false\nSPFIgnoreResults true\nSPFSelfValidate true\nIgnoreHosts "+o.write(t, "nobody", "192.0.2.255\n")+"\nPublicSuffixList "+o.write(t, "suffixes", "test\nio\ngithub.io\n")+"\n")
	o.write(t, "resolv.conf", "nameserver "+oracleDNS+"\n")
	again := a.zone.Copy()
	again.Addr = oracleDNS + ":53"
	testkit.Up(t, again)
	return o
}

func (o *oracles) write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(o.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

var (
	dkimWord  = regexp.MustCompile(`\bdkim=(\w+)`)
	dmarcWord = regexp.MustCompile(`\bdmarc=(\w+)`)
	spfWord   = regexp.MustCompile(`\bspf=(\w+)`)
)

// opendkim verifies a message as it does when it tests itself.
func (o *oracles) opendkim(t *testing.T, l authLetter) string {
	t.Helper()
	out := o.run(t, exec.CommandContext(t.Context(), o.dkim, "-x", o.conf[0], "-vvv", "-t", o.write(t, "message", string(wire(l.text)))))
	var all []string
	for _, w := range dkimWord.FindAllStringSubmatch(out, -1) {
		all = append(all, w[1])
	}
	if len(all) == 0 {
		return "none"
	}
	return strings.Join(all[:min(len(all), 10)], " ")
}

// opendmarc judges a message with our results of DKIM on top; SPF it asks for
// itself, by libspf2.
func (o *oracles) opendmarc(t *testing.T, l authLetter, ours authResults) (dmarc, spf string) {
	t.Helper()
	var b strings.Builder
	for _, r := range ours.results {
		if d := r.property("header.d"); r.method == "dkim" && d != "" {
			fmt.Fprintf(&b, "Authentication-Results: mx1.example.com; dkim=%s header.d=%s header.s=%s\n", r.value, d, r.property("header.s"))
		}
	}
	path := o.write(t, "message", string(wire(b.String()+l.text)))
	script := "mount --bind '" + filepath.Join(o.dir, "resolv.conf") + "' /etc/resolv.conf && exec \"$0\" \"$@\""
	cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "sh", "-c", script, o.dmac, "-c", o.conf[1], "-vvv", "-t", path)
	cmd.Env = append(os.Environ(), "OPENDMARC_TEST_ENVFROM=<"+l.from+">", "OPENDMARC_TEST_CLIENTIP="+oracleClient, "OPENDMARC_TEST_CLIENTHOST="+l.helo)
	out := o.run(t, cmd)
	word := func(re *regexp.Regexp) string {
		if w := re.FindStringSubmatch(out[max(0, strings.Index(out, "###")):]); w != nil {
			return w[1]
		}
		return "none"
	}
	return word(dmarcWord), word(spfWord)
}

func (o *oracles) run(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Logf("%v: %v\n%s", cmd.Args, err, out)
	}
	return string(out)
}

// compare wants the same, or a difference that is explained.
func (d differences) compare(t *testing.T, row, oracle, ours, theirs string) {
	t.Helper()
	why, known := d[row]
	switch {
	case ours == theirs && known:
		t.Errorf("%s says %s, as we do: there is nothing to explain", oracle, theirs)
	case ours != theirs && !strings.HasPrefix(why, theirs+": "):
		t.Errorf("%s says %q, we say %q", oracle, theirs, ours)
	}
}
