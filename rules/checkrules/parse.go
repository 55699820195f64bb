package checkrules

import (
	"errors"
	"fmt"
	"strings"
)

// Rules is a file that was read.
type Rules struct {
	file  string
	rules []rule
}

// action is what a rule does.
type action struct {
	kind  Kind
	delay bool
	goOn  bool // debug
}

var actions = map[string]action{
	"allow":      {kind: Allow},
	"noto":       {kind: NoTo},
	"noto_delay": {kind: NoTo, delay: true},
	"deny":       {kind: Deny},
	"deny_delay": {kind: Deny, delay: true},
	"debug":      {goOn: true},
}

type rule struct {
	line           int
	action         action
	text           string // as it stands in the file
	source         list
	sender, target list
	message        string
}

// maxLine is the longest line of the original.
const maxLine = 1022

// Parse reads rules. Its error names every line that is wrong; warnings are what
// is read but does less, or more, than it seems.
func Parse(file, text string) (r *Rules, warnings []string, err error) {
	r = &Rules{file: file}
	var errs []error
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimRight(line, "\r\n")
		if line == "" || line[0] == '#' {
			continue
		}
		one, warned, err := parseRule(line)
		for _, w := range warned {
			warnings = append(warnings, fmt.Sprintf("%s:%d: %s", file, n, w))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s:%d: %w", file, n, err))
			continue
		}
		one.line, one.text = n, line
		r.rules = append(r.rules, one)
	}
	return r, warnings, errors.Join(errs...)
}

func parseRule(line string) (r rule, warnings []string, err error) {
	if len(line) > maxLine {
		return r, nil, fmt.Errorf("longer than %d bytes", maxLine)
	}
	f := fields(line)
	if len(f) < 4 {
		return r, nil, fmt.Errorf("%d fields; want ACTION:SOURCE:FROM:TO, and perhaps :MESSAGE", len(f))
	}
	var known bool
	if r.action, known = actions[f[0]]; !known {
		return r, nil, fmt.Errorf("action %q; want allow, deny, noto, deny_delay, noto_delay or debug", f[0])
	}
	rest := f[4:]
	if len(rest) > 0 && !isComment(rest[0]) {
		r.message, rest = strings.TrimLeft(rest[0], " \t"), rest[1:]
	}
	if len(rest) > 0 && !isComment(rest[0]) {
		return r, nil, fmt.Errorf("%q behind the message; a colon in it is written %%C", rest[0])
	}
	var errs []error
	for _, part := range []struct {
		name string
		text string
		to   *list
		kind patternKind
	}{{"source", f[1], &r.source, ofSource}, {"from", f[2], &r.sender, ofAddress}, {"to", f[3], &r.target, ofAddress}} {
		l, warned, err := parseList(part.text, part.kind)
		*part.to = l
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", part.name, err))
		}
		for _, w := range warned {
			warnings = append(warnings, part.name+": "+w)
		}
	}
	if r.message != "" && !goodMessage(r.message) {
		warnings = append(warnings, fmt.Sprintf("message %q begins with no code, or has an unknown %%: clients read %q", r.message, plainRefusal))
	}
	return r, warnings, errors.Join(errs...)
}

func isComment(field string) bool { return strings.HasPrefix(strings.TrimLeft(field, " \t"), "#") }

// fields splits at runs of colons, as strtok does, but for those in brackets
// that stand in the source.
func fields(line string) []string {
	var out []string
	var b strings.Builder
	bracket, last := false, ' '
	for _, c := range line {
		switch {
		case c == '[' && len(out) == 1 && strings.ContainsRune(": ,\t", last):
			bracket = true
		case c == ']':
			bracket = false
		}
		last = c
		if c != ':' || bracket {
			b.WriteRune(c)
			continue
		}
		if b.Len() > 0 {
			out = append(out, b.String())
			b.Reset()
		}
	}
	if b.Len() > 0 {
		out = append(out, b.String())
	}
	return out
}

// list is tokens of which one must fit, and none of the exceptions.
type list struct {
	patterns []pattern
	except   *list
}

// maxExcepts bounds how deep a list goes.
const maxExcepts = 20

func parseList(text string, kind patternKind) (l list, warnings []string, err error) {
	var errs []error
	at, depth := &l, 0
	for _, token := range strings.FieldsFunc(text, func(c rune) bool { return c == ',' || c == ' ' || c == '\t' }) {
		if strings.EqualFold(token, "EXCEPT") {
			if depth++; depth > maxExcepts {
				return l, warnings, errors.New("too many EXCEPTs")
			}
			at.except = &list{}
			at = at.except
			continue
		}
		p, warned, err := parsePattern(token, kind)
		if err != nil {
			errs = append(errs, fmt.Errorf("%q: %w", token, err))
			continue
		}
		if warned != "" {
			warnings = append(warnings, fmt.Sprintf("%q: %s", token, warned))
		}
		at.patterns = append(at.patterns, p)
	}
	for at := &l; at != nil && len(errs) == 0; at = at.except {
		if len(at.patterns) == 0 {
			errs = append(errs, errors.New("an empty list fits nothing; write ALL"))
		}
	}
	return l, warnings, errors.Join(errs...)
}
