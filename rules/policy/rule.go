package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/expr-lang/expr"

	"gatepost/internal/mail"
	"gatepost/internal/tomltext"
)

// rule is one [[rule]].
type rule struct {
	index       int
	name, where string
	stage       mail.Stage
	since       time.Time
	until       time.Time
	observe     bool
	final       bool
	shared      []condition // the same for all recipients
	own         []condition // of each
	to          *who        // also in own; for Class
	asksRcpt    bool        // its conditions name the recipient in ways that Class can't see
	whenText    string
	bare        bool // no condition: it is for all
	inside      bool
	reads       bool // its condition asks for the text of messages

	does effects
	from section // where it stands, for what is checked later
}

// condition is part of what a rule asks. An error means that it can't tell.
type condition interface {
	holds(*Run) (bool, error)
}

var ruleKeys = []string{
	"name", "when", "from", "to", "client", "time", "what", "stage", "score", "action", "reply", "tag", "header", "redirect", "copy",
	"strip", "rename", "notify", "final", "mode", "until", "since", "ticket", "note", "list_add", "test",
}

// rule reads a section.
func (l *loader) rule(s section) *rule {
	r := &rule{index: len(l.set.rules), where: s.line(), from: s}
	r.name, _ = s.text1("name")
	s.of = fmt.Sprintf("rule %q", r.name)
	if r.name == "" {
		s.of = "rule"
		s.wrong("name", "a rule needs a name", `write name = "what-it-is-for"`)
	} else if strings.TrimLeft(r.name, nameRunes) != "" || len(r.name) > 64 {
		s.wrong("name", fmt.Sprintf("%q is no name", clip(r.name)), "write up to 64 letters, digits and .:_/-, which stand in logs as they are")
	} else if other := l.names[r.name]; other != "" {
		s.wrong("name", "is the name of the rule at "+other, "names are what logs and records know a rule by: give it another one")
	} else {
		l.names[r.name] = r.where
	}
	s.only(ruleKeys...)
	r.from = s
	r.readStage(s)
	r.final = s.flag("final")
	l.readLife(r, s)
	l.readConditions(r, s)
	l.readEffects(r, s)
	for _, key := range []string{"ticket", "note"} {
		s.text1(key)
	}
	l.readTests(r, s)
	return r
}

const nameRunes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:_/-"

func (r *rule) readStage(s section) {
	r.stage = mail.StageMessage
	word, ok := s.text1("stage")
	if !ok {
		return
	}
	stage, known := stages[word]
	if !known {
		s.wrong("stage", fmt.Sprintf("%q is no stage", clip(word)), tomltext.DidYouMean(word, stageWords()))
		return
	}
	r.stage = stage
}

// readLife reads since, until and mode.
func (l *loader) readLife(r *rule, s section) {
	r.since, r.until = s.day("since", false), s.day("until", true)
	if !r.until.IsZero() && !l.now.Before(r.until) {
		s.strange("until", "the rule has expired: it does nothing", "remove it, or give it more time")
	}
	if !r.until.IsZero() && !r.since.IsZero() && !r.since.Before(r.until) {
		s.wrong("since", "is behind until: the rule would never act", "swap them")
	}
	if mode, ok := s.text1("mode"); ok {
		switch mode {
		case "observe":
			r.observe = true
		case "act":
		default:
			s.wrong("mode", fmt.Sprintf("%q is no mode", clip(mode)), tomltext.DidYouMean(mode, []string{"act", "observe"}))
		}
	}
}

// readConditions reads when and its short forms, which must all hold.
func (l *loader) readConditions(r *rule, s section) {
	if w := l.patterns(s, "from", mailbox(s, "from")); w != nil {
		r.needs(s, "from", mail.StageMail)
		l.kinds(s, "from", w, ListAddress, ListDomain, ListHost, ListRegexp, ListString)
		r.shared = append(r.shared, address{who: w})
	}
	if w := l.patterns(s, "client", clients(s, "client")); w != nil {
		l.kinds(s, "client", w, ListCIDR, ListDomain, ListHost, ListRegexp, ListString)
		r.shared = append(r.shared, client{w})
	}
	if h := readHours(s); h != nil {
		r.shared = append(r.shared, h)
	}
	if w := l.patterns(s, "to", mailbox(s, "to")); w != nil {
		r.needs(s, "to", mail.StageRcpt)
		l.kinds(s, "to", w, ListAddress, ListDomain, ListHost, ListRegexp, ListString)
		r.to = w
		r.own = append(r.own, address{who: w, rcpt: true})
	}
	if w := l.patterns(s, "what", content); w != nil {
		r.needs(s, "what", mail.StageMessage)
		l.kinds(s, "what", w, ListHash, ListHost, ListRegexp, ListString)
		r.inside = true
		r.shared = append(r.shared, what{w})
	}
	if text, ok := s.text1("when"); ok {
		r.whenText = strings.Join(strings.Fields(text), " ")
		if p := l.expression(s, "when", text, r.stage, expr.AsBool()); p != nil {
			r.inside, r.reads = r.inside || p.inside, p.reads
			if p.perRcpt {
				r.own, r.asksRcpt = append(r.own, p), true
			} else {
				r.shared = append(r.shared, p)
			}
		}
	}
	r.bare = !slices.ContainsFunc([]string{"when", "from", "to", "client", "time", "what"}, s.has)
}

func (r *rule) needs(s section, key string, stage mail.Stage) {
	if r.stage < stage {
		s.wrong(key, fmt.Sprintf("is not known at stage %q", stageWord(r.stage)), fmt.Sprintf("the rule needs stage = %q or a later one", stageWord(stage)))
	}
}

// kinds refuses named lists whose entries could never be found there.
func (l *loader) kinds(s section, key string, w *who, allowed ...ListType) {
	for _, found := range slices.Concat(w.lists, w.not.lists) {
		if found.name != "" && !slices.Contains(allowed, found.kind) {
			s.wrong(key, fmt.Sprintf("the list %q has entries of type %q, which are never found here", found.name, string(found.kind)), "use a list of another type")
		}
	}
}

// expression compiles a condition, or notes what is wrong with it.
func (l *loader) expression(s section, key, text string, stage mail.Stage, want expr.Option) *program {
	p, faults := l.compiler.compile(text, stage, want)
	for _, f := range faults {
		problem := s.place(s.node(key))
		problem.Key, problem.What, problem.Do = joinKey(s.of, key), f.what, f.do
		problem.Position, problem.Near = s.near(key, text, f.at)
		s.problem(problem)
	}
	return p
}

// active reports whether the rule is in force at a time.
func (r *rule) active(now time.Time) bool {
	return (r.since.IsZero() || !now.Before(r.since)) && (r.until.IsZero() || now.Before(r.until))
}
