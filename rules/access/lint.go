package access

import (
	"fmt"
	"slices"
	"strings"
)

// doubt notes what is written rightly and probably means something else.
func (p *parser) doubt(t Tag, key string, s slot) {
	v := &p.table.values[s.value]
	at := func(err error) { p.warnings.noteLine(p.table.path, int(s.line), err) }
	at(v.doubts())
	if t == Untagged {
		at(p.untagged.doubts(key, v, s.line))
	}
}

// doubts are those of a value alone.
func (v *Value) doubts() error {
	if v.Says != ANSWER {
		return nil
	}
	text, isError := cutKeyword(v.Text, "ERROR:")
	first, _, more := strings.Cut(text, " ")
	_, known := words[strings.ToUpper(strings.Trim(first, ":,;"))]
	switch {
	case strings.EqualFold(v.Text, "SKIP"):
		return fmt.Errorf("SKIP is no keyword without relay.skip, so it refuses with %q", v.Reply)
	case !isError && (known || !more && first == strings.ToUpper(first)):
		return fmt.Errorf("%q is no keyword, so clients are refused with %q; a comment needs a line of its own", v.Text, v.Reply)
	case isError && text != "" && (text[0] == '4' || text[0] == '5') && v.Reply.Enhanced()[0] != text[0]:
		return fmt.Errorf("%q: the code decides, so clients are told %q; make the two agree", v.Text, v.Reply)
	case v.Reply.Code == 553 && len(text) >= 3 && strings.Trim(text[:3], "0123456789") == "" && !hasCode(text):
		return fmt.Errorf("%q has no code and a blank in front, so clients are refused with %q", v.Text, v.Reply)
	}
	return nil
}

// untagged counts the lines without a tag. They speak of clients, senders and
// recipients alike, which few authors mean.
type untagged struct {
	count int
	first int32
}

func (u *untagged) doubts(key string, v *Value, line int32) error {
	if u.count++; u.count == 1 {
		u.first = line
	}
	if v.Says != RELAY && v.Says != OK {
		return nil
	}
	return fmt.Errorf("%s %s has no tag: it holds for senders, too, who can be forged; write Connect: or To: before it", key, v.Text)
}

func (u *untagged) summary(path string) error {
	if u.count == 0 {
		return nil
	}
	return fmt.Errorf("%s:%d: %d entries without a tag, this is the first; each holds for clients, senders and recipients", path, u.first, u.count)
}

// finish notes what is known only of the whole table.
func (p *parser) finish() {
	p.warnings.Add(p.untagged.summary(p.table.path))
	var late []doubt
	for _, t := range []Tag{From, To} {
		late = append(late, p.mailboxes(t)...)
	}
	late = append(late, p.spamTags()...)
	slices.SortFunc(late, func(a, b doubt) int { return int(a.line - b.line) })
	for _, d := range late {
		p.warnings.noteLine(p.table.path, int(d.line), d.err)
	}
}

// doubt is one that belongs to a line.
type doubt struct {
	line int32
	err  error
}

// mailboxes notes those whose exception ends at their own domain: u@dom is not
// u@sub.dom, while the line of dom is for sub.dom, too; and that a refusal goes
// further than it looks.
func (p *parser) mailboxes(t Tag) (late []doubt) {
	refused, first := 0, doubt{}
	for key, s := range p.table.slots[t] {
		local, domain, isMailbox := strings.Cut(key, "@")
		if !isMailbox || strings.Contains(local, "+") {
			continue
		}
		v := &p.table.values[s.value]
		if t == To && v.refuses() {
			if refused++; refused == 1 || s.line < first.line {
				first = doubt{s.line, fmt.Errorf("%s%s refuses mail to %s+anything@%s, too", t, key, local, domain)}
			}
		}
		if v.Says == OK && domain != "" && p.refuses(t, domain) {
			late = append(late, doubt{s.line, fmt.Errorf("%s%s is for this domain alone, while the line of %s is for those below it, too; write one more for each", t, key, domain)})
		}
	}
	if refused > 1 {
		first.err = fmt.Errorf("%w, and %d more lines are like this", first.err, refused-1)
	}
	if refused > 0 {
		late = append(late, first)
	}
	return late
}

func (v *Value) refuses() bool { return v.Says == REJECT || v.Says == ANSWER || v.Says == DISCARD }

func (p *parser) refuses(t Tag, key string) bool {
	s, ok := p.table.slots[t][key]
	return ok && p.table.values[s.value].refuses()
}

// spamTags notes lines that nobody asks for.
func (p *parser) spamTags() (late []doubt) {
	want := map[DelayChecks]Says{DelayFriend: FRIEND, DelayHater: HATER}[p.options.DelayChecks]
	for key, s := range p.table.slots[Spam] {
		if v := p.table.values[s.value]; v.Says != want {
			late = append(late, doubt{s.line, fmt.Errorf("the line Spam:%s %s does nothing with relay.delay_checks = %q; it is for %q", key, v.Text, string(p.options.DelayChecks), strings.ToLower(v.Text))})
		}
	}
	return late
}

// Warnings are about what the table and the classes say together.
func (e *Engine) Warnings() []string {
	var all []string
	if e.LooseRelayCheck {
		all = append(all, "relay.loose_relay_check does nothing: user%other@ours is never taken for other; remove it")
	}
	for name, at := range e.Relay.belowNames() {
		if wide(name) {
			all = append(all, fmt.Sprintf("%s:%d: %s relays for every name below it; write the domains that are meant", at.file, at.line, name))
		}
	}
	for _, t := range []Tag{Connect, To, Untagged} {
		for key, s := range e.Table.slots[t] {
			if wide(key) && e.Table.values[s.value].Says == RELAY {
				all = append(all, fmt.Sprintf("%s:%d: %s%s RELAY is for every name below it; write the domains that are meant", e.Table.path, s.line, t, key))
			}
		}
	}
	for key, s := range e.Table.slots[To] {
		_, domain, isMailbox := strings.Cut(key, "@")
		v := &e.Table.values[s.value]
		if isMailbox && domain == "" && v.refuses() && (e.Local.Empty() || !e.Relay.Empty()) {
			all = append(all, fmt.Sprintf("%s:%d: To:%s counts for the domains of relay.domains and relay.local_host_names_file alone; write the domains behind it for others", e.Table.path, s.line, key))
		}
	}
	slices.Sort(all)
	return all[:min(len(all), maxProblems)]
}

// wide reports whether a key is a top-level domain, or all of IPv6.
func wide(key string) bool {
	return strings.Trim(key, "0123456789") != "" && !strings.ContainsAny(key, ".@[:")
}
