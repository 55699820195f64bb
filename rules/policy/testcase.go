package policy

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"gatepost/internal/mail"
)

// testCase is a [[rule.test]] or [[test]]: a message in a few words, and what
// is to become of it.
type testCase struct {
	section
	name  string
	rule  *rule // nil: all of them are asked
	tx    *mail.Transaction
	raw   bool // message was given: it is taken apart
	rcpt  mail.Path
	match bool

	action string
	score  *float64
	wants  []string // rules
}

var caseKeys = []string{
	"name", "from", "to", "client", "client_name", "helo", "user", "listener", "role", "tls", "time", "subject", "header", "message", "size",
	"text", "urls", "parts", "ambiguous", "unseen", "findings", "virus",
	"match", "action", "score", "rules",
}

// readTests reads [[rule.test]].
func (l *loader) readTests(r *rule, s section) {
	for _, t := range s.tables("test") {
		l.set.cases = append(l.set.cases, l.testCase(t, r))
	}
}

// testCase reads a case. r is the rule that it belongs to, nil for none.
func (l *loader) testCase(t section, r *rule) *testCase {
	c := &testCase{section: t, rule: r, match: true}
	t.only(caseKeys...)
	c.name, _ = t.text1("name")
	stage := mail.StageMessage
	if r != nil {
		stage = r.stage
		if t.has("match") {
			c.match = t.flag("match")
		}
		for _, key := range []string{"action", "score", "rules"} {
			if t.has(key) {
				t.wrong(key, "is of a [[test]] of its own, where all rules are asked", "write match = true or false here")
			}
		}
	} else if c.readExpected(); !t.has("action") && !t.has("score") && !t.has("rules") {
		t.wrong("", "expects nothing", `write action, score or rules`)
	}
	c.readMail(stage)
	return c
}

func (c *testCase) readExpected() {
	if c.has("match") {
		c.wrong("match", "is of the test of one rule", "write action, score or rules")
	}
	c.action, _ = c.text1("action")
	if _, known := actions[c.action]; c.action != "" && !known && c.action != "none" {
		c.wrong("action", fmt.Sprintf("%q is no action", clip(c.action)), "write one of none, "+strings.Join(slices.Sorted(maps.Keys(actions)), ", "))
	}
	if n, ok := c.number("score"); ok {
		c.score = &n
	}
	c.wants = c.texts("rules")
}

// readMail makes the transaction that a case describes.
func (c *testCase) readMail(stage mail.Stage) {
	s := &mail.Session{Via: mail.ViaSMTP, ESMTP: true, Role: "mx", Listener: "test"}
	c.tx = &mail.Transaction{ID: "test", Stage: stage, Session: s, Start: c.moment()}
	if text, ok := c.text1("client"); ok {
		if ip, err := netip.ParseAddr(text); err == nil {
			s.Client = netip.AddrPortFrom(ip, 0)
		} else {
			c.wrong("client", fmt.Sprintf("%q is no address", clip(text)), "write one such as 192.0.2.1")
		}
	}
	for key, to := range map[string]*string{"client_name": &s.Name, "helo": &s.Helo, "user": &s.User, "listener": &s.Listener, "role": &s.Role} {
		if text, ok := c.text1(key); ok {
			*to = text
		}
	}
	if c.flag("tls") {
		s.TLS = &mail.TLS{Version: "TLSv1.3", Cipher: "TLS_AES_128_GCM_SHA256"}
	}
	if text, ok := c.text1("from"); ok && text != "<>" && text != "" {
		c.tx.Envelope.Sender.Address = c.address("from", text)
	}
	for _, text := range c.texts("to") {
		c.tx.Envelope.Recipients = append(c.tx.Envelope.Recipients, mail.Path{Address: c.address("to", text)})
	}
	if len(c.tx.Envelope.Recipients) == 0 {
		c.tx.Envelope.Recipients = []mail.Path{{Address: mail.Address{Local: "postmaster"}}}
	}
	c.rcpt = c.tx.Envelope.Recipients[0]
	c.readFindings()
	if stage == mail.StageMessage {
		c.readMessage()
		c.readInside()
	}
}

func (c *testCase) moment() time.Time {
	text, ok := c.text1("time")
	if !ok {
		return time.Now()
	}
	for _, layout := range []string{"2006-01-02 15:04", "2006-01-02", time.RFC3339} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t
		}
	}
	c.wrong("time", fmt.Sprintf("%q is no time", clip(text)), `write "2026-12-31 08:30"`)
	return time.Now()
}

// readMessage makes a message of what is given.
func (c *testCase) readMessage() {
	text, whole := c.text1("message")
	if !whole {
		var b strings.Builder
		if subject, ok := c.text1("subject"); ok {
			b.Write(mail.NewField("Subject", subject).Raw())
		}
		if t, ok := c.table("header"); ok {
			for _, name := range slices.Sorted(maps.Keys(t.values)) {
				for _, value := range t.texts(name) {
					b.Write(mail.NewField(name, value).Raw())
				}
			}
		}
		text = b.String() + "\r\n"
		if size, ok := c.number("size"); ok && size > 0 && size < 1<<30 {
			if missing := int(size) - len(text); missing > 0 {
				text += strings.Repeat("x", missing)
			}
		}
	} else if !strings.Contains(text, "\r\n") {
		text = strings.ReplaceAll(text, "\n", "\r\n")
	}
	m, err := mail.ReadMessage(bytes.NewReader([]byte(text)), int64(len(text)))
	if err != nil {
		c.wrong("message", "is no message: "+err.Error(), "write header fields, an empty line, a body")
		return
	}
	c.tx.Message, c.raw = m, whole
}

// readInside makes what a look into the message would give.
func (c *testCase) readInside() {
	in := &mail.Inside{Ambiguous: c.texts("ambiguous"), Unseen: c.texts("unseen")}
	in.Text, _ = c.text1("text")
	for _, text := range c.texts("urls") {
		u := mail.URL{Text: text}
		_, rest, ok := strings.Cut(text, "://")
		if !ok {
			rest = text
		}
		if i := strings.IndexAny(rest, "/:?#"); i >= 0 {
			rest = rest[:i]
		}
		u.Host = strings.ToLower(rest)
		in.URLs = append(in.URLs, u)
	}
	for _, t := range c.tables("parts") {
		t.only("path", "name", "names", "type", "declared", "size", "sha256", "archive", "depth", "encrypted", "macros", "program", "inline")
		p := mail.Part{Names: t.texts("names"), Encrypted: t.flag("encrypted"), Macros: t.flag("macros"), Program: t.flag("program"), Inline: t.flag("inline")}
		for key, to := range map[string]*string{"path": &p.Path, "type": &p.Detected, "declared": &p.Declared, "sha256": &p.SHA256, "archive": &p.Archive} {
			*to, _ = t.text1(key)
		}
		if name, ok := t.text1("name"); ok {
			p.Names = append([]string{name}, p.Names...)
		}
		if p.Path == "" {
			p.Path = fmt.Sprint(len(in.Parts) + 1)
		}
		size, _ := t.number("size")
		depth, _ := t.number("depth")
		p.Size, p.Depth = int64(size), int(depth)
		in.Parts = append(in.Parts, p)
	}
	c.tx.Inside = in
}

func (c *testCase) readFindings() {
	if virus, ok := c.text1("virus"); ok {
		c.tx.Findings = append(c.tx.Findings, mail.Finding{Filter: "test", Name: mail.FindingVirus, Value: virus})
	}
	for _, t := range c.tables("findings") {
		t.only("filter", "name", "value", "score", "text", "part", "list")
		f := mail.Finding{Filter: "test"}
		for key, to := range map[string]*string{"filter": &f.Filter, "name": &f.Name, "value": &f.Value, "text": &f.Text, "part": &f.Part, "list": &f.List} {
			if text, ok := t.text1(key); ok {
				*to = text
			}
		}
		f.Score, _ = t.number("score")
		c.tx.Findings = append(c.tx.Findings, f)
	}
}

// runCases runs all cases of the set.
func (s *Set) runCases(r *report, inspect func(*mail.Message) *mail.Inside) {
	for _, c := range s.cases {
		if c.raw && inspect != nil && !c.has("parts") && !c.has("text") && !c.has("urls") {
			c.tx.Inside = inspect(c.tx.Message)
		}
		if why := c.run(s); why != "" {
			p := c.place(c.at)
			p.Key, p.What = c.of, why
			if c.name != "" {
				p.Key += fmt.Sprintf(" %q", c.name)
			}
			r.problem(p)
		}
	}
}

// run returns what is not as expected, "" when all is.
func (c *testCase) run(s *Set) string {
	run := s.Begin(c.tx, c.tx.Score())
	run.env.Rcpt = mailboxOf(c.rcpt.Address)
	if c.rule != nil {
		i := slices.Index(run.rules, c.rule)
		if !c.rule.active(run.now) && !c.has("time") {
			return "" // expired: that is warned of
		}
		yes, err := run.ask(i, c.rule)
		yes = yes && c.rule.active(run.now)
		switch {
		case err != nil:
			return "the test fails: the rule can't be asked: " + err.Error()
		case yes && !c.match:
			return "the test fails: the rule matches, and should not"
		case !yes && c.match:
			return "the test fails: the rule does not match"
		}
		return ""
	}
	res := run.For(c.rcpt.Address)
	var got []string
	for _, h := range res.Hits {
		if h.Did != "listed" {
			got = append(got, h.Rule)
		}
	}
	matched := "; these match: " + strings.Join(got, ", ")
	if len(got) == 0 {
		matched = "; no rule matches"
	}
	if c.action == "none" && res.Action != mail.Continue || c.action != "none" && c.action != "" && actions[c.action] != res.Action {
		return fmt.Sprintf("the test fails: the action is %s, not %s%s", actionWord(res.Action), c.action, matched)
	}
	if total := c.tx.Score() + res.Score; c.score != nil && (total-*c.score > 1e-6 || *c.score-total > 1e-6) {
		return fmt.Sprintf("the test fails: the score is %g, not %g%s", total, *c.score, matched)
	}
	if c.has("rules") && !slices.Equal(got, c.wants) {
		return fmt.Sprintf("the test fails: not the rules %s match%s", strings.Join(c.wants, ", "), matched)
	}
	return ""
}

func actionWord(a mail.Action) string {
	if a == mail.Continue {
		return "none"
	}
	return a.String()
}

// Describe reads a message in the words of a [[test]].
func Describe(path, text string) (*mail.Transaction, error) {
	r := &report{}
	s, ok := parse(path, text, r)
	if ok {
		c := &testCase{section: s}
		s.only(caseKeys...)
		c.readMail(mail.StageMessage)
		if len(r.problems) == 0 {
			return c.tx, nil
		}
	}
	return nil, sorted(r.problems)
}
