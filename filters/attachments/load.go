package attachments

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gatepost/internal/mail"
)

// loader makes lists of a Config and collects what is wrong with it.
type loader struct {
	files bool // read them
	types map[string]kind
	errs  []error
	names map[string]string // of lists, with their keys
}

func (l *loader) fail(err error) { l.errs = append(l.errs, err) }

// load makes the lists of c, and names every mistake.
func load(c Config, files bool) (*lists, error) {
	l := &loader{files: files, types: with(known(), c.Types), names: make(map[string]string)}
	l.checkTypes(c.Types)
	set := new(lists)
	deny, allow := c.lists()
	for i, d := range deny {
		set.deny = append(set.deny, l.deny(fmt.Sprintf("deny[%d]", i), d))
	}
	for i, a := range allow {
		set.allow = append(set.allow, l.allow(fmt.Sprintf("allow[%d]", i), a))
	}
	if len(l.errs) == 0 {
		l.conflicts(set)
	}
	return set, errors.Join(append([]error{c.check()}, l.errs...)...)
}

func (l *loader) checkTypes(types map[string]Names) {
	for _, name := range slices.Sorted(maps.Keys(types)) {
		key := "types." + strconv.Quote(name)
		if !isType(name) || strings.HasSuffix(name, "*") {
			l.fail(fmt.Errorf("%s: is no media type; write one like \"application/x-foo\"", key))
		}
		if len(types[name].Extensions) == 0 {
			l.fail(fmt.Errorf("%s.extensions: missing; write the endings of such files, like [\"foo\"]", key))
		}
		for i, e := range types[name].Extensions {
			if !isExtension(strings.TrimPrefix(e, ".")) {
				l.fail(fmt.Errorf("%s.extensions[%d]: %q is no ending of a name; write one like \"foo\"", key, i, e))
			}
		}
	}
}

// scope checks what all lists have.
func (l *loader) scope(key string, s Scope) scope {
	switch other, twice := l.names[s.Name]; {
	case s.Name == "":
		l.fail(fmt.Errorf("%s.name: missing; write a name for the list, like \"programs\"", key))
	case strings.Trim(strings.ToLower(s.Name), "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" || len(s.Name) > 40:
		l.fail(fmt.Errorf("%s.name: %q is no name; write up to 40 letters, digits, - and _", key, s.Name))
	case twice:
		l.fail(fmt.Errorf("%s.name: %q is the name of %s, too; write another", key, s.Name, other))
	default:
		l.names[s.Name] = key
	}
	if err := s.Action.Validate(); err != nil {
		l.fail(fmt.Errorf("%s.%w", key, err))
	}
	made := scope{name: s.Name, key: key, action: s.Action, topOnly: s.TopOnly}
	made.of = l.recipients(key+".recipients", s.Recipients)
	made.not = l.recipients(key+".not_recipients", s.NotRecipients)
	for _, r := range slices.Sorted(maps.Keys(made.of)) {
		if where, both := made.not[r]; both {
			l.fail(fmt.Errorf("%s: %q is in recipients, too; remove one of them", where, r))
		}
	}
	made.some = len(s.Recipients) > 0
	return made
}

// recipients reads addresses and domains; each with where it stands.
func (l *loader) recipients(key string, list []string) map[string]string {
	found := make(map[string]string)
	for _, e := range l.entries(key, list) {
		name, err := recipientKey(e.text)
		if err != nil {
			l.fail(e.problem("%q is no recipient; write user@example.com, example.com or .example.com", e.text))
			continue
		}
		l.once(found, name, e)
	}
	return found
}

// once notes an entry, and that it is there already.
func (l *loader) once(seen map[string]string, text string, e entry) {
	if where, twice := seen[text]; twice {
		l.fail(e.problem("%q is at %s already; remove one of them", e.text, where))
		return
	}
	seen[text] = e.where
}

func recipientKey(s string) (string, error) {
	if strings.Contains(s, "@") {
		a, err := mail.ParseAddress(s, true)
		return strings.ToLower(a.Local) + "@" + a.ASCIIDomain(), err
	}
	name, below := strings.CutPrefix(s, ".")
	d, err := mail.ParseDomain(name)
	if err == nil && strings.HasPrefix(d, "[") {
		err = errors.New("a literal")
	}
	if below {
		return "." + mail.ASCIIDomain(d), err
	}
	return mail.ASCIIDomain(d), err
}

func (l *loader) deny(key string, d Deny) denyList {
	known := len(l.errs)
	made := denyList{
		scope:    l.scope(key, d.Scope),
		ext:      l.extensions(key+".extensions", d.Extensions),
		double:   l.extensions(key+".double_extensions", d.DoubleExtensions),
		patterns: l.patterns(key+".names", d.Names),
		ignore:   l.patterns(key+".ignore", d.Ignore),
		declared: l.mediaTypes(key+".declared", d.Declared),
		detected: l.mediaTypes(key+".detected", d.Detected),
		clsid:    d.CLSID, programs: d.Programs, macros: d.Macros, encrypted: d.Encrypted,
	}
	if made.empty() && !d.Standard && len(l.errs) == known && (l.files || len(d.Extensions)+len(d.DoubleExtensions)+len(d.Names)+len(d.Declared)+len(d.Detected) == 0) {
		l.fail(fmt.Errorf("%s: bans nothing; write extensions, names, standard = true, or another of its keys", key))
	}
	if !d.Standard {
		return made
	}
	rest := standard(Deny{Standard: true})
	quiet := &loader{types: l.types} // ours may repeat what the operator writes
	addAll(made.ext, quiet.extensions("standard", rest.Extensions))
	addAll(made.double, quiet.extensions("standard", rest.DoubleExtensions))
	made.declared = append(made.declared, rest.Declared...)
	made.detected = append(made.detected, rest.Detected...)
	made.clsid = true
	return made
}

func addAll(to, from map[string]string) {
	for k, v := range from {
		if _, there := to[k]; !there {
			to[k] = v
		}
	}
}

func (l *loader) extensions(key string, list []string) map[string]string {
	found := make(map[string]string)
	for _, e := range l.entries(key, list) {
		ext := strings.ToLower(strings.TrimPrefix(e.text, "."))
		if !isExtension(ext) {
			l.fail(e.problem("%q is no ending of a name; write one like \"exe\", or a regular expression under names", e.text))
			continue
		}
		l.once(found, ext, e)
	}
	return found
}

func isExtension(s string) bool {
	return s != "" && len(s) <= 40 && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || strings.ContainsRune(`./\*?[]()"`, r) })
}

const maxPattern = 1000 // octets of a regular expression

func (l *loader) patterns(key string, list []string) []pattern {
	var found []pattern
	seen := make(map[string]string)
	for _, e := range l.entries(key, list) {
		re, err := regexp.Compile("(?is)" + e.text)
		switch {
		case len(e.text) > maxPattern:
			l.fail(e.problem("is longer than %d octets", maxPattern))
		case err != nil:
			l.fail(e.problem("%s", strings.Replace(strings.TrimPrefix(err.Error(), "error parsing regexp: "), "(?is)", "", 1)))
		case re.MatchString(""):
			l.fail(e.problem("%q fits every name; write what the names have in common", e.text))
		default:
			l.once(seen, e.text, e)
			found = append(found, pattern{re, e.where})
		}
	}
	return found
}

func (l *loader) mediaTypes(key string, list []string) []string {
	var found []string
	seen := make(map[string]string)
	for _, e := range l.entries(key, list) {
		t := strings.ToLower(e.text)
		if !isType(t) {
			l.fail(e.problem("%q is no media type; write one like \"application/hta\" or \"video/*\"", e.text))
			continue
		}
		l.once(seen, t, e)
		found = append(found, t)
	}
	return found
}

func isType(s string) bool {
	family, sub, ok := strings.Cut(s, "/")
	return ok && isWord(family) && (sub == "*" || isWord(sub))
}

func isWord(s string) bool {
	return s != "" && strings.Trim(strings.ToLower(s), "abcdefghijklmnopqrstuvwxyz0123456789.+-_") == ""
}

func (l *loader) allow(key string, a Allow) allowList {
	made := allowList{scope: l.scope(key, a.Scope), types: make(map[string]kind), macros: a.Macros, encrypted: a.Encrypted, anyName: a.AnyName}
	entries := l.entries(key+".types", a.Types)
	if len(entries) == 0 && (l.files || len(a.Types) == 0) {
		l.fail(fmt.Errorf("%s.types: missing; write what is allowed, like [\"images\", \"pdf\", \"office\"]", key))
	}
	seen := make(map[string]string)
	for _, e := range entries {
		want := strings.ToLower(e.text)
		l.once(seen, want, e)
		fits := 0
		for name, k := range l.types {
			if k.group == want || fitsType(want, name) {
				made.types[name] = k
				fits++
			}
		}
		switch {
		case fits > 0:
		case isType(want) && a.AnyName:
			made.wide = append(made.wide, want)
		default:
			l.fail(e.problem("%q is not known here; write a group (%s), or a section types with the endings of its names, or any_name = true", e.text, strings.Join(groups(l.types), ", ")))
		}
	}
	return made
}
