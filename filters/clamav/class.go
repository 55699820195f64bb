package clamav

import (
	"strings"

	"gatepost/internal/mail"
)

// classes says which findings are no infections, by the beginning of the
// signature's name. Phishing heuristics are not here: they count as viruses.
var classes = [...]struct{ prefix, name, text string }{
	{"Heuristics.Limits.Exceeded", mail.FindingNotScanned, "over a limit of clamd"},
	{"Heuristics.Encrypted.", mail.FindingNotScanned, "clamd can't look inside"},
	{"Heuristics.OLE2.ContainsMacros", FindingSuspicious, "office document with macros"},
	{"Heuristics.Structured.", FindingSuspicious, "card or social security numbers"},
	{"Heuristics.Broken.", FindingSuspicious, "broken file"},
	{"PUA.", FindingSuspicious, "possibly unwanted application"},
}

// classify turns the name of a signature into a finding.
func classify(signature string) mail.Finding {
	for _, c := range classes {
		if strings.HasPrefix(signature, c.prefix) {
			return mail.Finding{Name: c.name, Value: signature, Text: c.text}
		}
	}
	return mail.Finding{Name: mail.FindingVirus, Value: signature}
}
