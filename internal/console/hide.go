package console

import (
	"slices"
	"strings"

	"gatepost/internal/history"
)

// What is told of a message in words may name its other recipients, who are
// nobody's business that does not look after them.

// hidden stands for an address.
const hidden = "(somebody else)"

// hide takes addresses out of a text, but for those that may be seen, and those
// of the sender.
func (id Identity) hide(text string, sender ...string) string {
	if id.SeesAll() || !strings.Contains(text, "@") {
		return text
	}
	var b strings.Builder
	for text != "" {
		n := strings.IndexFunc(text, betweenWords)
		if n < 0 {
			n = len(text)
		}
		word := text[:n]
		if strings.Contains(word, "@") && !slices.Contains(sender, strings.ToLower(word)) && !id.SeesRecipient(strings.TrimRight(word, ".:")) {
			word = hidden
		}
		b.WriteString(word)
		text = text[n:]
		n = strings.IndexFunc(text, func(r rune) bool { return !betweenWords(r) })
		if n < 0 {
			n = len(text)
		}
		b.WriteString(text[:n])
		text = text[n:]
	}
	return b.String()
}

// betweenWords are the runes around an address in a sentence.
func betweenWords(r rune) bool { return strings.ContainsRune(" \t\r\n,;\"'()<>[]{}", r) }

// hideRecord hides others in what is told of a decision.
func (id Identity) hideRecord(r *history.Record) {
	sender := strings.ToLower(r.Sender.Address)
	tell := func(s string) string { return id.hide(s, sender) }
	r.Reason, r.Reply, r.Edits = tell(r.Reason), tell(r.Reply), mapped(r.Edits, tell)
	for i := range r.Recipients {
		p := &r.Recipients[i]
		p.Reason, p.Reply, p.Edits = tell(p.Reason), tell(p.Reply), mapped(p.Edits, tell)
	}
	for i := range r.Rules {
		r.Rules[i].Did = tell(r.Rules[i].Did)
	}
}

func mapped(all []string, f func(string) string) []string {
	all = slices.Clone(all)
	for i, s := range all {
		all[i] = f(s)
	}
	return all
}
