package rules

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gatepost/internal/mail"
)

func attachment(list, class, part string, to ...mail.Address) mail.Finding {
	f := mail.Finding{Filter: "attachments", Name: mail.FindingAttachment, Value: class, List: list, Part: part, Text: `"a.exe" ends in .exe`}
	if len(to) > 0 {
		f.Rcpt = to[0]
	}
	return f
}

// textSet has lists of each action, and texts.
func textSet(t *testing.T, change func(*Config)) *Set {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Relay.Domains = []string{"example.com", "example.net"}
	cfg.Relay.Networks = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	cfg.Attachments = make(AttachmentLists)
	for _, a := range []AttachmentAction{AttachmentReject, AttachmentQuarantine, AttachmentStrip, AttachmentRename, AttachmentTag, AttachmentContinue} {
		cfg.Attachments[AttachmentList("attachments", string(a))] = a
	}
	if change != nil {
		change(&cfg)
	}
	s, err := Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// alterations in words.
func words(v mail.Verdict) string {
	var all []string
	for _, a := range v.Alter {
		switch a := a.(type) {
		case mail.StripParts:
			all = append(all, fmt.Sprintf("strip %v: %s", a.Paths, a.Why))
		case mail.RenameParts:
			all = append(all, fmt.Sprintf("rename %v", a.Paths))
		case mail.TagSubject:
			all = append(all, "tag "+a.Text)
		case mail.AddText:
			all = append(all, fmt.Sprintf("text %q %t", a.Text, a.Top))
		}
	}
	return strings.Join(all, "; ")
}

func TestAttachmentActions(t *testing.T) {
	const class = mail.AttachmentExtension
	tests := []struct {
		name     string
		findings []mail.Finding
		change   func(*Config)
		want     mail.Action
		alter    string
	}{
		{"nothing", nil, nil, mail.Accept, ""},
		{"reject", []mail.Finding{attachment("reject", class, "2")}, nil, mail.Reject, ""},
		{"quarantine", []mail.Finding{attachment("quarantine", class, "2")}, nil, mail.Quarantine, ""},
		{"strip", []mail.Finding{attachment("strip", class, "2"), attachment("strip", class, "3")}, nil, mail.Accept, "strip [2]: it ends in .exe (list strip); strip [3]: it ends in .exe (list strip)"},
		{"strip what has no place", []mail.Finding{attachment("strip", mail.AttachmentUnseen, "")}, nil, mail.Quarantine, ""},
		{"rename", []mail.Finding{attachment("rename", class, "2"), attachment("rename", class, "3")}, nil, mail.Accept, "rename [2 3]"},
		{"tag", []mail.Finding{attachment("tag", class, "2")}, nil, mail.Accept, ""},
		{"tag with a subject", []mail.Finding{attachment("tag", class, "2")}, func(c *Config) { c.Subject.Attachments = "[FILE]" }, mail.Accept, "tag [FILE]"},
		{"continue", []mail.Finding{attachment("continue", class, "2")}, nil, mail.Accept, ""},
		{"unknown list", []mail.Finding{attachment("gone", class, "2")}, nil, mail.Quarantine, ""},
		{"the strongest", []mail.Finding{attachment("strip", class, "2"), attachment("quarantine", class, "2"), attachment("reject", class, "3")}, nil, mail.Reject, ""},
		{"override", []mail.Finding{attachment("reject", class, "2")}, func(c *Config) { c.Policy.Attachments = AttachmentRename }, mail.Accept, "rename [2]"},
		{"override for one", []mail.Finding{attachment("reject", class, "2")}, func(c *Config) {
			c.Policy.For = map[string]Limits{"u@example.com": {Attachments: AttachmentContinue}}
		}, mail.Accept, ""},
		{"a virus decides alone", []mail.Finding{virus("Eicar"), attachment("strip", class, "2")}, func(c *Config) { c.Policy.Virus = VirusQuarantine }, mail.Quarantine, ""},
		{"spam", append(spam(6), attachment("strip", class, "2")), func(c *Config) { c.Subject.Tag = "[SPAM]" }, mail.Accept, "strip [2]: it ends in .exe (list strip); tag [SPAM]"},
		{"no spam", spam(4), func(c *Config) { c.Subject.Tag = "[SPAM]" }, mail.Accept, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := textSet(t, tt.change).Decide(judged(t, []string{"u@example.com"}, tt.findings...), nil)
			if v.Action != tt.want {
				t.Errorf("action %v (%s), want %v", v.Action, v.Reason, tt.want)
			}
			if got := words(v); got != tt.alter {
				t.Errorf("alter %q, want %q", got, tt.alter)
			}
			note, noted := field(v, "X-Gatepost-Attachment")
			if wantNote := strings.HasPrefix(tt.name, "tag"); noted != wantNote || noted && note != "banned-extension (list tag)" {
				t.Errorf("note %q", note)
			}
		})
	}
	v := textSet(t, nil).Decide(judged(t, []string{"u@example.com"}, attachment("reject", class, "2")), nil)
	if got := v.Reply.String(); got != `554 5.7.1 Message refused: attachment "a.exe" ends in .exe` {
		t.Errorf("reply %q", got)
	}
	if !strings.Contains(v.Reason, "list reject") || !strings.Contains(v.Reason, class) {
		t.Errorf("reason %q", v.Reason)
	}
}

func TestAttachmentsOfOneRecipient(t *testing.T) {
	v := path(t, "v@example.com").Address
	got := textSet(t, nil).Decide(judged(t, []string{"u@example.com", "v@example.com"}, attachment("strip", mail.AttachmentMacros, "2", v)), nil)
	if len(got.Recipients) != 2 || words(got.Recipients[0]) != "" || words(got.Recipients[1]) == "" {
		t.Errorf("verdicts %+v", got.Recipients)
	}
	got = textSet(t, nil).Decide(judged(t, []string{"u@example.com", "v@example.com"}, attachment("reject", mail.AttachmentMacros, "2", v)), nil)
	if len(got.Recipients) != 2 || got.Recipients[0].Action != mail.Accept || got.Recipients[1].Action != mail.Quarantine {
		t.Errorf("a refusal for one of two: %+v", got.Recipients)
	}
}

func TestTexts(t *testing.T) {
	with := func(c *Config) {
		c.Text.Banner = &Banner{Added: Added{Text: "outside"}, Trusted: []string{"partner.example"}}
		c.Text.Footer = map[string]Footer{
			"acme":   {Added: Added{Text: "Acme"}, Senders: []string{"example.com"}},
			"inside": {Added: Added{Text: "Everywhere"}, Inside: true},
		}
	}
	dmarc := func(value, from string) mail.Finding {
		return mail.Finding{Name: mail.FindingDMARC, Value: value, Text: "header.from=" + from}
	}
	tests := []struct {
		name, client, from, to string
		findings               []mail.Finding
		want                   string
	}{
		{"from outside", "198.18.0.9", "s@sender.example", "u@example.com", nil, `text "outside" true`},
		{"from outside, of another domain of ours", "198.18.0.9", "s@sender.example", "u@example.net", nil, `text "outside" true`},
		{"from outside to elsewhere", "198.18.0.9", "s@sender.example", "u@elsewhere.example", nil, ""},
		{"claims to be ours", "198.18.0.9", "s@example.com", "u@example.com", nil, `text "outside" true`},
		{"a partner", "198.18.0.9", "s@partner.example", "u@example.com", []mail.Finding{dmarc("pass", "partner.example")}, ""},
		{"claims to be a partner", "198.18.0.9", "s@partner.example", "u@example.com", []mail.Finding{dmarc("fail", "partner.example")}, `text "outside" true`},
		{"a partner among several authors", "198.18.0.9", "s@partner.example", "u@example.com", []mail.Finding{dmarc("pass", "partner.example"), dmarc("fail", "x.example")}, `text "outside" true`},
		{"ours to elsewhere", "10.0.0.1", "s@example.com", "u@elsewhere.example", nil, `text "Acme" false; text "Everywhere" false`},
		{"ours inside", "10.0.0.1", "s@example.com", "u@example.net", nil, `text "Everywhere" false`},
		{"ours, of another domain", "10.0.0.1", "s@example.net", "u@elsewhere.example", nil, `text "Everywhere" false`},
		{"ours, a notification", "10.0.0.1", "", "u@elsewhere.example", nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tx := judged(t, []string{tt.to}, tt.findings...)
			tx.Session = session(t, tt.client, "")
			tx.Session.Trusted = strings.HasPrefix(tt.client, "10.")
			tx.Envelope.Sender = mail.Path{}
			if tt.from != "" {
				tx.Envelope.Sender = path(t, tt.from)
			}
			if got := words(textSet(t, with).Decide(tx, nil)); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
	for _, via := range []mail.Via{mail.ViaSMTP, mail.ViaMilter} {
		tx := judged(t, []string{"u@example.net", "x@elsewhere.example"})
		tx.Session.Trusted, tx.Session.Via = true, via
		tx.Envelope.Sender = path(t, "s@example.com")
		v := textSet(t, with).Decide(tx, nil)
		if got, want := len(v.Recipients) > 0, via == mail.ViaSMTP; got != want {
			t.Errorf("%s: inside and outside get copies of their own: %t, want %t", via, got, want)
		}
		if last := v.For(1); words(last) != `text "Acme" false; text "Everywhere" false` {
			t.Errorf("%s: outside gets %s", via, words(last))
		}
	}
	if textSet(t, nil).AddsText() || !textSet(t, with).AddsText() {
		t.Error("AddsText is wrong")
	}
}

func TestTextMistakes(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return "file:" + path
	}
	tests := []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"no text", func(c *Config) { c.Text.Banner = &Banner{Added: Added{HTML: "<p>"}} }, "text.banner.text: missing"},
		{"no file", func(c *Config) { c.Text.Banner = &Banner{Added: Added{Text: "file:/nowhere"}} }, "text.banner.text: open /nowhere"},
		{"an empty file", func(c *Config) { c.Text.Banner = &Banner{Added: Added{Text: file("empty", "\n")}} }, "is empty"},
		{"a script", func(c *Config) {
			c.Text.Footer = map[string]Footer{"a": {Added: Added{Text: "x", HTML: file("script", "<SCRIPT>x</script>")}}}
		}, `text.footer.a.html: has "<script"`},
		{"control characters", func(c *Config) { c.Text.Banner = &Banner{Added: Added{Text: "a\x1b[2J"}} }, "control characters"},
		{"latin-1", func(c *Config) { c.Text.Banner = &Banner{Added: Added{Text: file("latin", "Gr\xfc\xdfe")}} }, "no text in UTF-8"},
		{"too much", func(c *Config) { c.Text.Banner = &Banner{Added: Added{Text: strings.Repeat("x\n", maxAdded)}} }, "larger than"},
		{"a long line", func(c *Config) { c.Text.Banner = &Banner{Added: Added{Text: strings.Repeat("x", 1000)}} }, "line longer than 900"},
		{"a bad domain", func(c *Config) {
			c.Text.Banner = &Banner{Added: Added{Text: "x"}, Domains: []string{"example.com", "a b"}}
		}, "text.banner.domains[1]"},
		{"a tag with a line end", func(c *Config) { c.Subject.Tag = "a\r\nb" }, "subject.tag"},
		{"a long tag", func(c *Config) { c.Subject.Attachments = strings.Repeat("x", 61) }, "subject.attachments"},
		{"an unknown action", func(c *Config) { c.Policy.Attachments = "drop" }, `policy.attachments: "drop" is unknown`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := DefaultConfig()
			cfg.Relay.Domains = []string{"example.com"}
			tt.change(&cfg)
			if _, err := Load(cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}
