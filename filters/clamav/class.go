package clamav

import (
	"fmt"
	"strconv"
	"strings"

	"gatepost/internal/mail"
)

// Class says what a class of clamd's findings is taken for: "virus",
// "suspicious", "not-scanned" or "score N".
type Class string

const (
	classVirus      Class = "virus"
	classSuspicious Class = "suspicious"
	classNotScanned Class = "not-scanned"
)

const maxScore = 1000

// finding is the name and score of what it makes of a finding.
func (c Class) finding() (name string, score float64, err error) {
	switch c {
	case classVirus:
		return mail.FindingVirus, 0, nil
	case classSuspicious:
		return FindingSuspicious, 0, nil
	case classNotScanned:
		return mail.FindingNotScanned, 0, nil
	}
	if n, ok := strings.CutPrefix(string(c), "score "); ok {
		score, err := strconv.ParseFloat(n, 64)
		if err == nil && score >= 0 && score <= maxScore {
			return FindingSuspicious, score, nil
		}
	}
	return "", 0, fmt.Errorf("%q is none of virus, suspicious, not-scanned; write one of them or a score from 0 to %d such as \"score 5\"", string(c), maxScore)
}

// classify turns the name of a signature into a finding. What is over a limit
// of clamd can't be called anything else: more may be inside.
func (c Config) classify(signature string) mail.Finding {
	for _, k := range [...]struct {
		prefix string
		class  Class
		text   string
	}{
		{"Heuristics.Limits.Exceeded", classNotScanned, "over a limit of clamd"},
		{"Heuristics.Encrypted.", c.Encrypted, "clamd can't look inside"},
		{"Heuristics.Phishing.", c.Phishing, "a link or a sender that is not what it seems"},
		{"Heuristics.OLE2.ContainsMacros", c.Macros, "office document with macros"},
		{"Heuristics.Structured.", c.Structured, "card or social security numbers"},
		{"Heuristics.Broken.", c.Broken, "broken file"},
		{"PUA.", c.PUA, "possibly unwanted application"},
	} {
		if strings.HasPrefix(signature, k.prefix) {
			return k.class.of(signature, k.text)
		}
	}
	return mail.Finding{Name: mail.FindingVirus, Value: signature}
}

// of is a finding of the class.
func (c Class) of(value, text string) mail.Finding {
	name, score, err := c.finding()
	if err != nil {
		name = mail.FindingVirus // not reached: the configuration was checked
	}
	return mail.Finding{Name: name, Value: value, Score: score, Text: text}
}
