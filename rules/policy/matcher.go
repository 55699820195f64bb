package policy

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
	"unicode/utf8"
)

// matcher is a regular expression with a text that must be in whatever it
// matches, where it has one: to look for that is a hundred times faster.
type matcher struct {
	text   string
	re     *regexp.Regexp
	needle string
	fold   bool // needle is in lower case, and so must be what is searched
}

// newMatcher compiles a regular expression. The error says what is wrong; what
// to do.
func newMatcher(text string) (*matcher, error) {
	if text == "" {
		return nil, fmt.Errorf("an empty regular expression matches everything; remove it")
	}
	if len(text) > maxExpr {
		return nil, fmt.Errorf("the regular expression is longer than %d bytes; use a list", maxExpr)
	}
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil, fmt.Errorf("the regular expression is not valid: %s; %s", strings.TrimPrefix(err.Error(), "error parsing regexp: "), adviceFor(text))
	}
	parsed = parsed.Simplify()
	program, err := syntax.Compile(parsed)
	if err != nil || len(program.Inst) > maxRegexp {
		return nil, fmt.Errorf("the regular expression is too expensive; shorten its repetitions, such as {1,1000}")
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, fmt.Errorf("the regular expression is not valid: %s; see the syntax of RE2", err)
	}
	m := &matcher{text: text, re: re}
	m.needle, m.fold = required(parsed)
	return m, nil
}

// adviceFor names what people bring along from PCRE.
func adviceFor(text string) string {
	for _, pcre := range []string{"(?=", "(?!", "(?<=", "(?<!", "(?>", `\1`, `\2`} {
		if strings.Contains(text, pcre) {
			return pcre + " is of PCRE: write two conditions, joined with and, or and not"
		}
	}
	return "see the syntax of RE2"
}

// match searches s.
func (m *matcher) match(s string, charge func(int)) bool {
	if m.needle != "" {
		charge(len(s) / 16)
		if m.fold && !containsFold(s, m.needle) || !m.fold && !strings.Contains(s, m.needle) {
			return false
		}
	}
	charge(len(s))
	return m.re.MatchString(s)
}

// containsFold looks for lower, ASCII in lower case without k and s, which have
// relatives elsewhere.
func containsFold(s, lower string) bool {
	first, upper := lower[0], lower[0]
	if first >= 'a' && first <= 'z' {
		upper -= 'a' - 'A'
	}
	for i := 0; i+len(lower) <= len(s); i++ {
		if c := s[i]; (c == first || c == upper) && strings.EqualFold(s[i:i+len(lower)], lower) {
			return true
		}
	}
	return false
}

// required is the longest text that every match has in it, "" for none.
func required(re *syntax.Regexp) (text string, fold bool) {
	switch re.Op {
	case syntax.OpLiteral:
		fold = re.Flags&syntax.FoldCase != 0
		text = string(re.Rune)
		if fold {
			text = foldable(strings.ToLower(text))
		}
		return text, fold
	case syntax.OpCapture, syntax.OpPlus:
		return required(re.Sub[0])
	case syntax.OpConcat:
		for _, sub := range re.Sub {
			if t, f := required(sub); len(t) > len(text) {
				text, fold = t, f
			}
		}
	}
	return text, fold
}

// foldable is the longest run of ASCII without k and s, whose other cases are
// not all in ASCII.
func foldable(text string) string {
	best := ""
	for _, run := range strings.FieldsFunc(text, func(r rune) bool { return r >= utf8.RuneSelf || r == 'k' || r == 's' }) {
		if len(run) > len(best) {
			best = run
		}
	}
	return best
}
