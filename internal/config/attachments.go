package config

import (
	"strings"

	"gatepost/filters/attachments"
	"gatepost/rules"
)

// readAttachments reads a filter of what is in a message, and reports whether
// the section is of one. The rules are told what each of its lists wants done.
func (c *Config) readAttachments(top table, s named, kind string, f *Filter, extra any) bool {
	if kind != "attachments" {
		return false
	}
	cfg := attachments.DefaultConfig()
	s.bind(&cfg, extra)
	f.Attachments = &cfg
	_, err := attachments.Load(cfg)
	texts := split(err)
	for i, text := range texts {
		texts[i] = strings.TrimPrefix(text, "attachments: ")
	}
	c.attachFiles(top, s.table, texts, &cfg, cfg.Files()...)
	if c.Rules.Attachments == nil {
		c.Rules.Attachments = make(rules.AttachmentLists)
	}
	for list, action := range cfg.Actions() {
		c.Rules.Attachments[rules.AttachmentList(s.name, list)] = rules.AttachmentAction(action)
	}
	return true
}

// readTexts reads [subject] and [text]; their files are read with the rules.
func (c *Config) readTexts(top table) {
	top.table("subject").bind(&c.Rules.Subject)
	top.table("text").bind(&c.Rules.Text)
}

// checkTexts refuses what would stand nowhere.
func (c *Config) checkTexts(top table) {
	text := top.table("text")
	ours := len(c.relayDomains)+len(c.Rules.Relay.Domains) > 0
	if b := c.Rules.Text.Banner; b != nil && len(b.Domains) == 0 && !ours {
		text.table("banner").child("domains").missing(`domains = ["example.com"], whose recipients see it`)
	}
	for name, f := range c.Rules.Text.Footer {
		if len(f.Senders) == 0 && !ours {
			text.table("footer").table(name).child("senders").missing(`senders = ["example.com"], below whose mail it stands`)
		}
	}
	if c.Rules.Policy.Attachments != "" && len(c.Rules.Attachments) == 0 {
		top.table("policy").child("attachments").warn("there is no filter of attachments", "write a section [filter.attachments]")
	}
}
