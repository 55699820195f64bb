package policy

import (
	"maps"
	"slices"
	"strings"

	"gatepost/internal/mail"
)

// Warnings are about what is probably not meant.
func (s *Set) Warnings() Problems { return slices.Clone(s.warnings) }

// Generation names what was read: it is another for another text of any file.
// "" where there are no files.
func (s *Set) Generation() string { return s.generation }

// Files are those that were read, without the lists.
func (s *Set) Files() []string { return slices.Clone(s.files) }

// Empty reports whether there are no rules at a stage.
func (s *Set) Empty(at mail.Stage) bool { return len(s.at[at]) == 0 }

// Stages lists those at which a rule may refuse.
func (s *Set) Stages() []mail.Stage { return slices.Sorted(maps.Keys(s.at)) }

// WantsInside reports whether a rule asks what is in a message.
func (s *Set) WantsInside() bool {
	return slices.ContainsFunc(s.rules, func(r *rule) bool { return r.inside })
}

// Alters reports whether a rule changes the text or the parts of messages.
func (s *Set) Alters() bool {
	return slices.ContainsFunc(s.rules, func(r *rule) bool {
		return r.does.subject != "" || r.does.strip != nil || r.does.rename != nil
	})
}

// Info is what there is to know of a rule.
type Info struct {
	Name, Where string
	Stage       mail.Stage
	Does        string
	Observe     bool
	Expired     bool
	Inside      bool // it asks what is in messages
	Reads       bool // of that, for their text
}

// Rules lists them in their order.
func (s *Set) Rules() []Info {
	all := make([]Info, len(s.rules))
	for i, r := range s.rules {
		all[i] = Info{r.name, r.where, r.stage, r.does.words, r.observe, !r.until.IsZero() && !s.now.Before(r.until), r.inside, r.reads}
	}
	return all
}

// ListInfo is what there is to know of a list.
type ListInfo struct {
	Name, Where string
	Type        ListType
	Entries     int
	Dynamic     bool
	Managed     bool
}

// Lists lists them by name.
func (s *Set) Lists() []ListInfo {
	var all []ListInfo
	for _, name := range slices.Sorted(maps.Keys(s.lists)) {
		l := s.lists[name]
		all = append(all, ListInfo{name, l.where, l.kind, l.size, l.dynamic != nil, l.managed})
	}
	return all
}

// DynamicLists are those that rules add to.
func (s *Set) DynamicLists() []DynamicList {
	var all []DynamicList
	for _, name := range slices.Sorted(maps.Keys(s.lists)) {
		if d := s.lists[name].dynamic; d != nil {
			all = append(all, *d)
		}
	}
	return all
}

// Class names what rules make of a recipient before the message is there: two
// recipients of one class get the same outcome of whatever comes. Where a rule
// asks for the recipient in its own way, each is a class of its own.
func (s *Set) Class(rcpt mail.Address) string {
	var b strings.Builder
	r := s.Begin(&mail.Transaction{Stage: mail.StageRcpt, Session: &mail.Session{}}, 0)
	r.env.Rcpt = mailboxOf(rcpt)
	for _, rule := range s.at[mail.StageMessage] {
		switch {
		case rule.asksRcpt && rule.mentionsRcpt():
			return r.env.Rcpt.Address
		case rule.to != nil:
			if ok, _ := (address{who: rule.to, rcpt: true}).holds(r); ok {
				b.WriteByte('1')
			} else {
				b.WriteByte('0')
			}
		}
	}
	return b.String()
}

// mentionsRcpt reports whether a condition names the recipient, not the score
// alone.
func (r *rule) mentionsRcpt() bool { return strings.Contains(r.whenText, "rcpt") }

// Cases is how many test cases there are.
func (s *Set) Cases() int { return len(s.cases) }
