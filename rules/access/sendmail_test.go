package access_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"gatepost/internal/mail"
	"gatepost/internal/testkit"
	"gatepost/rules/access"
)

// variant is a set of features, as sendmail.mc and as options.
type variant struct {
	name    string
	mc      []string
	change  func(*access.Engine)
	dots    bool // keys that begin with a dot
	mailbox bool // To:user@domain RELAY
}

const withSkip = "FEATURE(`access_db', `hash -T<TMPF> ACCESS', `skip')dnl"
const withFull = "FEATURE(`access_db', `hash -T<TMPF> ACCESS', `skip', `relaytofulladdress')dnl"

var variants = []variant{
	{name: "usual", mc: []string{withSkip, "FEATURE(`blocklist_recipients')dnl"}},
	{name: "bare", mc: []string{"FEATURE(`access_db', `hash -T<TMPF> ACCESS')dnl"},
		change: func(e *access.Engine) { e.Skip, e.BlocklistRecipients = false, false }},
	{name: "delayed", mc: []string{withSkip, "FEATURE(`blocklist_recipients')dnl", "FEATURE(`delay_checks')dnl"},
		change: func(e *access.Engine) { e.DelayChecks = access.DelayPlain }},
	{name: "friend", mc: []string{withSkip, "FEATURE(`blocklist_recipients')dnl", "FEATURE(`delay_checks', `friend')dnl"},
		change: func(e *access.Engine) { e.DelayChecks = access.DelayFriend }},
	{name: "hater", mc: []string{withSkip, "FEATURE(`delay_checks', `hater')dnl"},
		change: func(e *access.Engine) { e.DelayChecks, e.BlocklistRecipients = access.DelayHater, false }},
	{name: "full addresses and dots", dots: true, mailbox: true,
		mc:     []string{withFull, "FEATURE(`blocklist_recipients')dnl", "FEATURE(`lookupdotdomain')dnl"},
		change: func(e *access.Engine) { e.LookupDotDomain, e.RelayToFullAddress = true, true }},
	{name: "hosts only", mailbox: true,
		mc:     []string{withFull, "FEATURE(`blocklist_recipients')dnl", "FEATURE(`relay_hosts_only')dnl"},
		change: func(e *access.Engine) { e.RelayHostsOnly, e.RelayToFullAddress = true, true }},
	{name: "entire domain, loose", mc: []string{withSkip, "FEATURE(`relay_entire_domain')dnl", "FEATURE(`loose_relay_check')dnl"},
		change: func(e *access.Engine) {
			e.RelayEntireDomain, e.LooseRelayCheck, e.BlocklistRecipients = true, true, false
		}},
}

// maker makes tables and questions out of few words, so that they meet often.
type maker struct{ *rand.Rand }

func (m maker) one(of ...string) string { return of[m.IntN(len(of))] }

func (m maker) domain() string {
	return m.one("", "", "a.", "b.", "b.a.") + m.one("one.example", "two.example", "three.example", "relay.example", "local.example", "sm.test", "example")
}

func (m maker) local() string { return m.one("u", "u", "u+d", "u+e", "w+", "joe") }

func (m maker) address() string {
	if m.IntN(8) == 0 {
		return "IPv6:2001:db8:" + m.one("1", "2") + ":0:0:0:0:" + m.one("5", "6")
	}
	return m.one("10", "172") + "." + m.one("1", "9") + "." + m.one("2", "3") + "." + m.one("4", "5")
}

func (m maker) prefix() string {
	addr := m.address()
	sep := "."
	if strings.HasPrefix(addr, "IPv6:") {
		sep = ":"
	}
	parts := strings.Split(addr, sep)
	return strings.Join(parts[:2+m.IntN(len(parts)-1)], sep)
}

// key is a key for a tag; the second result is false for one that our parser
// refuses for good reason.
func (m maker) key(tag string, v variant) string {
	mailbox := tag == "From:" || tag == "To:" || tag == "Spam:" || tag == ""
	switch n := m.IntN(10); {
	case n < 4 && mailbox:
		return m.one(m.local(), "u+*") + "@" + m.one("", m.domain())
	case n < 8 && (tag == "Connect:" || tag == ""):
		return m.one(m.prefix(), m.prefix(), "["+m.prefix()+"]")
	case v.dots && n == 8:
		return "." + m.domain()
	}
	return m.domain()
}

func (m maker) value(tag string) string {
	if tag == "Spam:" {
		return m.one("FRIEND", "HATER")
	}
	return m.one("OK", "OK", "RELAY", "RELAY", "RELAY", "REJECT", "reject", "DISCARD", "SKIP", "QUARANTINE:on purpose",
		"ERROR:5.7.1:550 go away", "ERROR:4.2.2:450 full now", "550 5.1.1 nobody here", "451 later", "ERROR:no code", "ACCEPT")
}

// table makes an access map without a key twice.
func (m maker) table(v variant) string {
	var b strings.Builder
	seen := make(map[string]bool)
	for range 60 {
		tag := m.one("Connect:", "Connect:", "From:", "To:", "To:", "Spam:", "")
		key := tag + m.key(tag, v)
		if !seen[strings.ToLower(key)] {
			seen[strings.ToLower(key)] = true
			fmt.Fprintf(&b, "%s\t%s\n", key, m.value(tag))
		}
	}
	return b.String()
}

// question is one for both, and what is needed to ask it.
type question struct {
	lines []string // of the test session; the last one asks
	query func(*access.Engine) access.Answer
	relay bool // of check_relay, where "OK" is nothing found, too
}

// question makes one. With delay_checks sendmail's rulesets for MAIL and for
// connections have other names.
func (m maker) question(delayed bool) question {
	checkRelay, checkMail := "check_relay", "check_mail"
	if delayed {
		checkRelay, checkMail = "checkrelay", "checkmail"
	}
	addr, name := m.address(), m.domain()
	resolve := m.one("OK", "OK", "OK", "OK", "TEMP", "FORGED", "FAIL")
	q := access.Query{Client: access.Client{
		Addr: netip.MustParseAddr(strings.TrimPrefix(addr, "IPv6:")), Name: name, Resolve: mail.Resolve(resolve),
	}}
	if resolve != "OK" {
		q.Client.Name, name = "", "["+addr+"]"
	}
	from := m.one("<"+m.local()+"@"+m.domain()+">", "<"+m.local()+"@"+m.domain()+">", "<>")
	lines := []string{".D{client_addr}" + addr, ".D{client_name}" + name, ".D{client_resolve}" + resolve, ".Df" + strings.Trim(from, "<>")}
	q.From, _ = access.ReadMailbox(from)
	switch m.IntN(6) {
	case 0:
		return question{append(lines, "Start,"+checkRelay+" "+name+" $| "+addr), func(e *access.Engine) access.Answer { return e.CheckRelay(q, nil) }, true}
	case 1:
		return question{append(lines, checkMail+" "+from), func(e *access.Engine) access.Answer { return e.CheckMail(q, nil) }, false}
	}
	q.Mech = m.one("", "", "", "", "PLAIN", "LOGIN")
	to := "<" + m.one(m.local(), m.local(), m.local(), m.local(), m.local()+"%"+m.domain(), m.domain()+"!"+m.local()) + "@" + m.domain() + m.one("", "", ".") + ">"
	if m.IntN(12) == 0 {
		to = "<" + m.local() + ">"
	}
	return question{
		append(lines, ".D{auth_type}"+q.Mech, "check_rcpt "+to),
		func(e *access.Engine) access.Answer {
			var refusal mail.Reply
			if q.To, refusal = access.ReadMailbox(to); !refusal.IsZero() {
				return access.Answer{Action: mail.Reject, Reply: refusal}
			}
			return e.CheckRcpt(q, nil)
		}, false,
	}
}

var (
	withDSN  = regexp.MustCompile(`^\$# error \$@ (\S.*?) \$: (.*)$`)
	withText = regexp.MustCompile(`^\$# error \$: (.*)$`)
	coded    = regexp.MustCompile(`^([45]\d\d) (.*)$`)
	enhanced = regexp.MustCompile(`^[245]\.(\d+\.\d+)(.*)$`)
)

func squeeze(s string) string { return strings.NewReplacer(" ", "", `"`, "").Replace(s) }

// theirs brings what a ruleset returned into the words of Answer.String, without
// blanks: sendmail puts one between all tokens.
func theirs(returned string, relay bool) string {
	detail, text := "", ""
	if m := withDSN.FindStringSubmatch(returned); m != nil {
		if m[1] == "quarantine" {
			return "quarantine" + squeeze(m[2])
		}
		if d := enhanced.FindStringSubmatch(squeeze(m[1])); d != nil {
			detail = d[1]
		}
		text = m[2]
	} else if m := withText.FindStringSubmatch(returned); m != nil {
		text = m[1]
	} else {
		switch word := strings.TrimPrefix(returned, "$# "); {
		case strings.HasPrefix(word, "discard"):
			return "discard"
		case word == "OK" && relay:
			return "pass"
		case word == "< OK >":
			return "OK"
		case word == "OK", word == "RELAY", word == "SPAMFRIEND", word == "NOSPAMHATER":
			return word
		}
		return "pass"
	}
	code, rest, otherwise := "553", squeeze(text), "3.0"
	if m := coded.FindStringSubmatch(strings.Trim(text, `"`)); m != nil {
		code, rest, otherwise = m[1], squeeze(m[2]), "0.0"
		if d := enhanced.FindStringSubmatch(rest); d != nil {
			detail, rest = d[1], d[2]
		}
	}
	if detail == "" {
		detail = otherwise
	}
	action := "reject"
	if code[0] == '4' {
		action = "tempfail"
	}
	return action + code + code[:1] + "." + detail + rest
}

func ours(a access.Answer, relay, delayed bool) string {
	s := squeeze(a.String())
	switch {
	case s == "continue", relay && s == "OK", delayed && !relay && s == "RELAY" && !a.Final:
		return "pass"
	}
	return s
}

// TestSendmailAgrees asks sendmail's own rule engine and ours the same
// questions over tables that are made at random, in every variant of features.
func TestSendmailAgrees(t *testing.T) {
	const tables, questions = 2, 90 // of each variant: 1440 in all
	asked, answers := 0, make(map[string]int)
	for i, v := range variants {
		for n := range tables {
			m := maker{rand.New(rand.NewPCG(uint64(i), uint64(n)))}
			asked += agree(t, v, m, questions, answers)
		}
	}
	t.Logf("%d questions, answers: %v", asked, answers)
	if len(answers) < 20 {
		t.Errorf("only %d different answers: the questions ask for nothing", len(answers))
	}
}

func agree(t *testing.T, v variant, m maker, count int, seen map[string]int) int {
	t.Helper()
	e := &access.Engine{Local: &access.Class{}, Relay: &access.Class{}, Hostname: "mx1.sm.test", Mechs: []string{"PLAIN"}, Options: access.DefaultOptions()}
	if v.change != nil {
		v.change(e)
	}
	// sm.test is the name of its host.
	local, relay := []string{"local.example", "example.org"}, []string{"relay.example", "172.9", "IPv6:2001:db8:2"}
	form := access.RelayDomains
	if e.RelayHostsOnly {
		form = access.RelayHosts
	}
	var errs []error
	for _, name := range append(local, "localhost", "sm.test", "mx1.sm.test") {
		errs = append(errs, e.Local.Add(access.LocalHosts, "w", name))
	}
	for _, name := range relay {
		errs = append(errs, e.Relay.Add(form, "R", name))
	}
	own, err := access.OwnDomain("mx1.sm.test")
	e.Own = own
	text := m.table(v)
	table, _, errTable := access.Parse("access", strings.NewReader(text), e.Options)
	e.Table = table
	if err := errors.Join(append(errs, err, errTable)...); err != nil {
		t.Fatalf("%s: %v\n%s", v.name, err, text)
	}
	r := testkit.NewSendmailRules(testkit.Dir(t))
	r.Access, r.Local, r.Relay, r.Config = text, local, relay, append([]string{"define(`confAUTH_MECHANISMS', `PLAIN')dnl", "TRUST_AUTH_MECH(`PLAIN')dnl"}, v.mc...)
	testkit.Need(t, r.Make())
	var list []question
	var lines []string
	for range count {
		q := m.question(e.DelayChecks.On())
		list, lines = append(list, q), append(lines, q.lines...)
	}
	answers, err := r.Ask(lines)
	if err != nil || len(answers) != len(list) {
		t.Fatalf("%s: %d answers to %d questions: %v", v.name, len(answers), len(list), err)
	}
	wrong := 0
	for i, q := range list {
		got, want := ours(q.query(e), q.relay, e.DelayChecks.On()), theirs(answers[i], q.relay)
		seen[want]++
		if got != want {
			if wrong++; wrong <= 5 {
				t.Errorf("%s: %s\n got  %s\n want %s (%s)", v.name, strings.Join(q.lines, " "), got, want, answers[i])
			}
		}
	}
	if wrong > 0 {
		t.Errorf("%s: %d of %d answers differ; the table:\n%s", v.name, wrong, len(list), text)
	}
	return len(list)
}
