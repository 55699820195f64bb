package policy

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/expr-lang/expr"

	"gatepost/internal/mail"
	"gatepost/internal/tomltext"
)

// effects are what a rule does where it matches.
type effects struct {
	score    float64
	action   mail.Action // Continue: none
	reply    mail.Reply
	flag     bool
	subject  string // in front of the subject
	add      []field
	change   []field
	remove   []string
	redirect mail.Address // IsNull: none
	copies   []mail.Address
	strip    *program // of parts
	stripWhy string
	rename   *program
	notify   []mail.Address
	listing  []listing
	words    string // for people: "reject", "score 3.5"
}

type field struct{ name, value string }

// listing is what list_add asks for.
type listing struct {
	list *list
	key  string // what of the message: "client", "sender"…
	span time.Duration
}

// actions by their words. hold is a quarantine: one store.
var actions = map[string]mail.Action{
	"accept": mail.Accept, "discard": mail.Discard, "quarantine": mail.Quarantine, "hold": mail.Quarantine, "tempfail": mail.TempFail, "reject": mail.Reject,
}

// changesBytes reports whether copies with and without the effects differ.
func (e *effects) changesBytes() bool {
	return e.subject != "" || len(e.add)+len(e.change)+len(e.remove)+len(e.copies) > 0 || !e.redirect.IsNull() || e.strip != nil || e.rename != nil
}

func (l *loader) readEffects(r *rule, s section) {
	e := &r.does
	e.score, _ = s.number("score")
	if e.score < -1000 || e.score > 1000 {
		s.wrong("score", "is not between -1000 and 1000", "thresholds are about 5 to 15")
	}
	r.readAction(s)
	r.readTag(s)
	l.readHeader(r, s)
	if text, ok := s.text1("redirect"); ok {
		e.redirect = s.address("redirect", text)
	}
	for _, text := range s.texts("copy") {
		e.copies = append(e.copies, s.address("copy", text))
	}
	for _, text := range s.texts("notify") {
		e.notify = append(e.notify, s.address("notify", text))
	}
	l.readParts(r, s)
	l.readListings(r, s)
	e.words = e.tell(s)
	if r.stage < mail.StageMessage {
		r.onlyEarly(s)
	}
	if e.words == "" && !r.final && !r.observe {
		s.wrong("", "does nothing", `write an action, a score or another effect, or mode = "observe"`)
	}
}

// onlyEarly refuses what can be done only when the message is there.
func (r *rule) onlyEarly(s section) {
	for _, key := range []string{"score", "tag", "header", "redirect", "copy", "strip", "rename", "notify"} {
		if s.has(key) {
			s.wrong(key, fmt.Sprintf("can't be done at stage %q", stageWord(r.stage)), "leave stage out: then the message is judged")
		}
	}
	if a := r.does.action; a == mail.Discard || a == mail.Quarantine {
		s.wrong("action", fmt.Sprintf("can't be done at stage %q", stageWord(r.stage)), "only accept, tempfail and reject can; leave stage out: then the message is judged")
	}
}

func (r *rule) readAction(s section) {
	if word, ok := s.text1("action"); ok {
		action, known := actions[word]
		if !known {
			s.wrong("action", fmt.Sprintf("%q is no action", clip(word)), tomltext.DidYouMean(word, slices.Sorted(maps.Keys(actions))))
		}
		r.does.action = action
	}
	text, ok := s.text1("reply")
	if !ok {
		return
	}
	reply, valid := mail.ParseReply(text)
	switch {
	case !valid || reply.Text == "":
		s.wrong("reply", fmt.Sprintf("%q is no reply", clip(text)), `write one such as "550 5.7.1 We take no programs by mail"`)
	case strings.ContainsAny(text, "\r\n"):
		s.wrong("reply", "has several lines", "write one line")
	case r.does.action != mail.Reject && r.does.action != mail.TempFail:
		s.wrong("reply", "is never given: the client is told nothing", `it belongs to action = "reject" or "tempfail"`)
	case r.does.action == mail.Reject && reply.Code/100 != 5:
		s.wrong("reply", fmt.Sprintf("%d does not reject", reply.Code), "write a code of 500 to 599")
	case r.does.action == mail.TempFail && reply.Code/100 != 4:
		s.wrong("reply", fmt.Sprintf("%d does not put off", reply.Code), "write a code of 400 to 499")
	case reply.Code == 421 || reply.Code == 521:
		s.wrong("reply", fmt.Sprintf("%d ends the session", reply.Code), "write 550 or 451")
	}
	r.does.reply = reply
}

// readTag reads tag = "[SPAM] " or tag = { subject = "[SPAM] ", flag = true }.
func (r *rule) readTag(s section) {
	switch s.values["tag"].(type) {
	case nil:
		return
	case string:
		r.does.subject, _ = s.text1("tag")
	default:
		t, ok := s.table("tag")
		if !ok {
			return
		}
		t.only("subject", "flag")
		r.does.subject, _ = t.text1("subject")
		r.does.flag = t.flag("flag")
	}
	if r.does.subject != mail.CleanText(r.does.subject) || len(r.does.subject) > 100 {
		s.wrong("tag", "is no text for a subject", "write up to 100 printable characters")
	}
	if r.does.subject == "" && !r.does.flag {
		s.wrong("tag", "says nothing", `write tag = "[SPAM] ", or tag = { flag = true }`)
	}
}

// readHeader reads header = { add = { … }, change = { … }, remove = [ … ] }.
func (l *loader) readHeader(r *rule, s section) {
	t, ok := s.table("header")
	if !ok {
		return
	}
	t.only("add", "change", "remove")
	r.does.add, r.does.change = t.fields("add"), t.fields("change")
	for _, name := range t.texts("remove") {
		t.fieldName("remove", name)
		r.does.remove = append(r.does.remove, name)
	}
	if len(r.does.add)+len(r.does.change)+len(r.does.remove) == 0 {
		s.wrong("header", "changes nothing", `write header = { add = { X-Name = "value" } }`)
	}
}

func (s section) fields(key string) []field {
	t, ok := s.table(key)
	if !ok {
		return nil
	}
	var all []field
	for _, name := range slices.Sorted(maps.Keys(t.values)) {
		value, _ := t.text1(name)
		s.fieldName(key, name)
		if value != mail.CleanText(value) || len(value) > 2000 {
			t.wrong(name, "is no text for a header field", "write up to 2000 printable characters on one line")
		}
		all = append(all, field{name, value})
	}
	return all
}

// ownFields may not be changed: the path of the message, how it is built, and
// what other parts of Gatepost write.
var ownFields = []string{"received", "return-path", "mime-version", "dkim-signature", "authentication-results", "x-gatepost-id"}

func (s section) fieldName(key, name string) {
	lower := strings.ToLower(name)
	switch {
	case name == "" || len(name) > 76 || strings.IndexFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' }) >= 0:
		s.wrong(key, fmt.Sprintf("%q is no name of a header field", clip(name)), "write letters, digits and hyphens")
	case slices.Contains(ownFields, lower) || strings.HasPrefix(lower, "content-") || strings.HasPrefix(lower, "arc-"):
		s.wrong(key, name+" can't be changed by a rule", "it tells how the message came, or how it is built")
	}
}

func (s section) address(key, text string) mail.Address {
	a, err := mail.ParseAddress(strings.Trim(text, "<>"), true)
	if err != nil || a.IsNull() || a.Domain == "" {
		s.wrong(key, fmt.Sprintf("%q is no address", clip(text)), "write user@example.com")
	}
	return a
}

// readParts reads strip = 'CONDITION on a part', why, and rename.
func (l *loader) readParts(r *rule, s section) {
	e := &r.does
	switch s.values["strip"].(type) {
	case nil:
	case string:
		text, _ := s.text1("strip")
		e.strip = l.partCondition(r, s, "strip", text)
	default:
		if t, ok := s.table("strip"); ok {
			t.only("parts", "why")
			text, _ := t.text1("parts")
			e.strip = l.partCondition(r, t, "parts", text)
			e.stripWhy, _ = t.text1("why")
		}
	}
	if e.stripWhy == "" {
		e.stripWhy = "It is not allowed here."
	}
	if text, ok := s.text1("rename"); ok {
		e.rename = l.partCondition(r, s, "rename", text)
	}
}

// partCondition compiles a condition on one part to the list of those that
// meet it.
func (l *loader) partCondition(r *rule, s section, key, text string) *program {
	const before = "filter(parts, "
	p, faults := l.compiler.compile(before+text+")", mail.StageMessage, expr.AsAny())
	for _, f := range faults {
		problem := s.place(s.node(key))
		problem.Key, problem.What, problem.Do = joinKey(s.of, key), f.what, f.do
		problem.Position, problem.Near = s.near(key, text, f.at-len(before))
		s.problem(problem)
	}
	r.inside = true
	return p
}

// listKeys are what of a message can be put on a list, with the types of list
// that can have it.
var listKeys = map[string][]ListType{
	"client":        {ListCIDR},
	"sender":        {ListAddress, ListString},
	"sender.domain": {ListDomain, ListHost, ListString},
	"urls":          {ListHost, ListString},
	"sha256":        {ListHash, ListString},
}

func (l *loader) readListings(r *rule, s section) {
	for _, t := range s.oneOrMore("list_add") {
		t.only("list", "key", "for")
		name, _ := t.text1("list")
		key, _ := t.text1("key")
		span := t.span("for")
		if span == 0 && !t.has("for") {
			t.wrong("for", "is missing", `write for = "24h": every entry ends`)
		}
		if span > maxSpan {
			t.wrong("for", "is longer than a year", "write a shorter time; what stays for ever belongs into a file")
		}
		to := l.lists[name]
		kinds, known := listKeys[key]
		switch {
		case to == nil:
			t.wrong("list", fmt.Sprintf("there is no list %q", clip(name)), tomltext.DidYouMean(name, l.listNames()))
		case to.dynamic == nil:
			t.wrong("list", fmt.Sprintf("the list %q is not dynamic", name), "write dynamic = true in its section")
		case !known:
			t.wrong("key", fmt.Sprintf("%q can't be put on a list", clip(key)), tomltext.DidYouMean(key, slices.Sorted(maps.Keys(listKeys))))
		case !slices.Contains(kinds, to.kind):
			t.wrong("key", fmt.Sprintf("%s does not go on a list of type %q", key, string(to.kind)), fmt.Sprintf("use a list of type %q", string(kinds[0])))
		case r.stage < mail.StageMail && key != "client" || r.stage < mail.StageMessage && (key == "urls" || key == "sha256"):
			t.wrong("key", fmt.Sprintf("%s is not known at stage %q", key, stageWord(r.stage)), "use a later stage")
		default:
			r.inside = r.inside || key == "urls" || key == "sha256"
			r.does.listing = append(r.does.listing, listing{to, key, span})
		}
	}
}

const maxSpan = 366 * 24 * time.Hour

// oneOrMore reads a table, or a list of them.
func (s section) oneOrMore(key string) []section {
	if _, ok := s.values[key].(map[string]any); ok {
		t, _ := s.table(key)
		return []section{t}
	}
	return s.tables(key)
}

// tell says in a few words what the effects are.
func (e *effects) tell(s section) string {
	var words []string
	if e.score != 0 {
		words = append(words, "score "+strconv.FormatFloat(e.score, 'g', -1, 64))
	}
	if word, ok := s.values["action"].(string); ok {
		words = append(words, word)
	}
	for _, key := range []string{"tag", "header", "redirect", "copy", "strip", "rename", "notify", "list_add"} {
		if s.has(key) {
			words = append(words, key)
		}
	}
	return strings.Join(words, ", ")
}
