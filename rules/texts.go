package rules

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"gatepost/internal/mail"
	"gatepost/rules/access"
)

// Subject is the section [subject]: what is put in front of subjects. It is
// never there twice.
type Subject struct {
	// Tag is for what reaches policy.tag. Default "": only the header says so.
	Tag string `toml:"tag"`
	// Attachments is for what has a part with the action "tag". Default "".
	Attachments string `toml:"attachments"`
}

// Texts is the section [text].
type Texts struct {
	// Banner stands at the top of mail from outside.
	Banner *Banner `toml:"banner"`
	// Footer stands at the end of mail that goes out.
	Footer map[string]Footer `toml:"footer"`
}

// Added is a text for both forms that mail has: "text, or file:/path".
type Added struct {
	// Text is for plain text.
	Text string `toml:"text"`
	// HTML is what stands in HTML; default: made of Text.
	HTML string `toml:"html"`
}

// Banner is what recipients of ours read above mail from outside.
type Banner struct {
	Added
	// Domains are whose recipients see it: "example.com", ".example.com".
	// Default: those of relay.domains.
	Domains []string `toml:"domains"`
	// Trusted are domains of authors above whose mail it does not stand, where
	// DMARC passes.
	Trusted []string `toml:"trusted"`
}

// Footer is what stands below mail of ours.
type Footer struct {
	Added
	// Senders are domains of envelope senders: "example.com", ".example.com".
	// Default: those of relay.domains.
	Senders []string `toml:"senders"`
	// Inside has it stand below mail to recipients of relay.domains, too.
	Inside bool `toml:"inside"`
}

// texts is a Texts whose files are read.
type texts struct {
	banner  *mail.AddText
	domains *access.Class // nil: those that are ours
	trusted *access.Class
	footers []footer
}

type footer struct {
	name    string
	text    mail.AddText
	senders *access.Class // nil: those that are ours
	inside  bool
}

const maxAdded = 16 << 10 // octets of one text

// newTexts reads the files; without them only the rest is checked.
func newTexts(cfg Texts, files bool) (texts, error) {
	var errs access.Problems
	var t texts
	if b := cfg.Banner; b != nil {
		text := b.read("text.banner", files, &errs)
		text.Top = true
		t.banner = &text
		t.domains = domainClass("text.banner.domains", b.Domains, &errs)
		t.trusted = domainClass("text.banner.trusted", b.Trusted, &errs)
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Footer)) {
		f := cfg.Footer[name]
		key := "text.footer." + quoteName(name)
		t.footers = append(t.footers, footer{name, f.read(key, files, &errs), domainClass(key+".senders", f.Senders, &errs), f.Inside})
	}
	return t, errs.Join()
}

func domainClass(key string, list []string, errs *access.Problems) *access.Class {
	if len(list) == 0 {
		return nil
	}
	c := new(access.Class)
	for i, d := range list {
		where := fmt.Sprintf("%s[%d]", key, i)
		errs.Note(where, c.Add(access.Domains, where, d))
	}
	return c
}

// read returns both forms of a text.
func (a Added) read(key string, files bool, errs *access.Problems) mail.AddText {
	text := readText(key+".text", a.Text, files, errs)
	html := readText(key+".html", a.HTML, files, errs)
	if a.Text == "" {
		errs.Note(key+".text", errors.New("missing; write what stands in plain text, too"))
	}
	for _, tag := range []string{"<html", "<body", "</body", "<head", "<script", "<iframe", "<!doctype", "<!--"} {
		if strings.Contains(strings.ToLower(html), tag) {
			errs.Note(key+".html", fmt.Errorf("has %q; write what stands between <body> and </body>, without scripts and comments", tag))
		}
	}
	return mail.AddText{Text: text, HTML: html}
}

func readText(key, value string, files bool, errs *access.Problems) string {
	path, isFile := strings.CutPrefix(value, "file:")
	switch {
	case isFile && !files:
		return ""
	case isFile:
		b, err := os.ReadFile(path)
		errs.Note(key, err)
		value = string(b)
		if err == nil && strings.TrimSpace(value) == "" {
			errs.Note(key, fmt.Errorf("%s is empty", path))
		}
	}
	bad := strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\n' && r != '\r' && r != '\t' || r == 0x7f })
	switch {
	case len(value) > maxAdded:
		errs.Note(key, fmt.Errorf("larger than %d bytes", maxAdded))
	case !utf8.ValidString(value) || bad:
		errs.Note(key, errors.New("is no text in UTF-8, or has control characters"))
	case slices.ContainsFunc(strings.Split(value, "\n"), func(l string) bool { return len(l) > 900 }):
		errs.Note(key, errors.New("has a line longer than 900 bytes; break it"))
	}
	return strings.ReplaceAll(value, "\r\n", "\n")
}

// check refuses what can't stand in a subject.
func (c Subject) check() error {
	var errs access.Problems
	for _, t := range []struct{ key, text string }{{"subject.tag", c.Tag}, {"subject.attachments", c.Attachments}} {
		if len(t.text) > 60 || mail.CleanText(t.text) != t.text || strings.TrimSpace(t.text) != t.text {
			errs.Note(t.key, fmt.Errorf("%q; write up to 60 bytes without blanks around them, like \"[SPAM]\"", t.text))
		}
	}
	return errs.Join()
}

// AddsText reports whether the text of mail may be changed.
func (s *Set) AddsText() bool { return s.texts.banner != nil || len(s.texts.footers) > 0 }

const bannerMark = "b"

// textsFor says which texts a recipient's copy gets. An MTA that asks us has one
// copy for all: it gets what is for any of them.
func (s *Set) textsFor(tx *mail.Transaction, to mail.Address) string {
	if tx.Session == nil || tx.Session.Via != mail.ViaMilter || !s.AddsText() {
		return s.textsOf(tx, to)
	}
	longest := ""
	for _, r := range tx.Envelope.Recipients {
		if list := s.textsOf(tx, r.Address); len(list) > len(longest) {
			longest = list
		}
	}
	return longest
}

func (s *Set) textsOf(tx *mail.Transaction, to mail.Address) string {
	t := &s.texts
	if t.banner == nil && len(t.footers) == 0 || tx.Session == nil {
		return ""
	}
	if !tx.Session.IsOurs() {
		if t.banner != nil && s.isOf(t.domains, to) && !s.isTrusted(tx) {
			return bannerMark + behind
		}
		return ""
	}
	if tx.Envelope.Sender.IsNull() { // a notification is nobody's letter
		return ""
	}
	var list string
	for _, f := range t.footers {
		if s.isOf(f.senders, tx.Envelope.Sender.Address) && (f.inside || !s.isOf(nil, to)) {
			list += "f" + f.name + behind
		}
	}
	return list
}

// isOf reports whether an address is of a class of domains; nil is ours.
func (s *Set) isOf(class *access.Class, a mail.Address) bool {
	if class == nil {
		return s.Ours(a)
	}
	_, ok := class.Has(a.ASCIIDomain())
	return ok
}

// isTrusted reports whether the author proves to be of a domain that needs no
// banner. Of several authors none is.
func (s *Set) isTrusted(tx *mail.Transaction) bool {
	found := tx.Find(mail.FindingDMARC)
	if s.texts.trusted == nil || len(found) != 1 || found[0].Value != mail.AuthPass {
		return false
	}
	_, ok := s.texts.trusted.Has(strings.ToLower(found[0].Property("header.from")))
	return ok
}

// added are the texts of a list.
func (s *Set) added(list string) []mail.Alteration {
	var all []mail.Alteration
	for mark := range parts(list) {
		if mark == bannerMark {
			all = append(all, *s.texts.banner)
		}
		for _, f := range s.texts.footers {
			if mark == "f"+f.name {
				all = append(all, f.text)
			}
		}
	}
	return all
}
