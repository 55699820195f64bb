package backscatter

import (
	"fmt"
	"math/big"
	"regexp"
	"strconv"
)

// Score is a spam score, exact: 10.0 is not above 10, and 10.01 is.
type Score struct {
	value *big.Rat
	text  string
}

// Nobody's score has more digits; who writes them wants to be looked at.
var decimal = regexp.MustCompile(`^[-+]?[0-9]{1,9}(\.[0-9]{1,18})?$`)

// ParseScore reads a decimal number.
func ParseScore(s string) (Score, error) {
	if !decimal.MatchString(s) {
		return Score{}, fmt.Errorf("backscatter: %q is no score", s)
	}
	v, ok := new(big.Rat).SetString(s)
	if !ok {
		return Score{}, fmt.Errorf("backscatter: %q is no score", s)
	}
	return Score{v, s}, nil
}

// SumScore is a score that was added up of decimals in binary: what is below
// a thousandth is not meant.
func SumScore(f float64) (Score, error) {
	return ParseScore(strconv.FormatFloat(f, 'f', 3, 64))
}

// Above reports whether s is greater than limit. A zero Score is never.
func (s Score) Above(limit Score) bool {
	return s.value != nil && limit.value != nil && s.value.Cmp(limit.value) > 0
}

// String is the score as it was written.
func (s Score) String() string { return s.text }

// IsZero reports whether s is no score at all; 0.0 is one.
func (s Score) IsZero() bool { return s.value == nil }

var (
	// SpamAssassin, amavis, rspamd and our own write "Yes, score=15.2
	// required=5.0 tests=…"; before 2004 it was "hits=".
	spamStatus = regexp.MustCompile(`(?i)^(?:yes|no)\s*,?\s*(?:score|hits)\s*=\s*([-+]?[0-9]{1,9}(?:\.[0-9]{1,18})?)(?:[\s,;]|$)`)
	spamScore  = regexp.MustCompile(`^([-+]?[0-9]{1,9}(?:\.[0-9]{1,18})?)(?:[\s,;(/]|$)`)
)

// scoreOf is the score that a header tells. Of several the smallest counts: one
// of them was made elsewhere, and nobody knows which.
func scoreOf(header []field) (least Score, ok bool) {
	for _, f := range header {
		var form *regexp.Regexp
		switch {
		case f.is("X-Spam-Status"):
			form = spamStatus
		case f.is("X-Spam-Score"):
			form = spamScore
		default:
			continue
		}
		m := form.FindStringSubmatch(f.value)
		if m == nil {
			continue
		}
		s, err := ParseScore(m[1])
		if err == nil && (!ok || least.Above(s)) {
			least, ok = s, true
		}
	}
	return least, ok
}
