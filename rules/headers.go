package rules

import (
	"math"
	"strings"

	"gatepost/internal/mail"
)

const (
	maxStars = 50  // of X-Spam-Level
	maxRules = 300 // named in X-Spam-Status
	foldRule = 60  // octets of rule names between two places to fold
)

// fields are our header fields as edits. They stand below the Received field
// that the proxy put on top, as each gateway's trace fields stand together, and
// on top where an MTA adds its own later.
func (s *Set) fields(tx *mail.Transaction, e evidence, m marks) []mail.Edit {
	at := 0
	if tx.Session.Via == mail.ViaSMTP && tx.Message != nil && len(tx.Message.Header) > 0 && tx.Message.Header[0].Is("Received") {
		at = 1
	}
	edits := []mail.Edit{}
	add := func(name, value string) {
		edits = append(edits, mail.InsertHeader{At: at, Field: mail.NewField(name, value)})
	}
	if v := s.authResults(tx.Findings); v != "" {
		add("Authentication-Results", v)
	}
	if m.forged != "" {
		add("X-Gatepost-Forged", "not from "+m.forged+" (DMARC)")
	}
	if m.tagged {
		add("X-Spam-Flag", "YES")
	}
	if m.scored {
		add("X-Spam-Score", score(m.score))
		if stars := int(min(m.score, maxStars)); stars > 0 {
			add("X-Spam-Level", strings.Repeat("*", stars))
		}
		add("X-Spam-Status", spamStatus(tx.Findings, m))
	}
	if m.alters.note != "" {
		add("X-Gatepost-Attachment", m.alters.note)
	}
	if m.ambiguous {
		add("X-Gatepost-Ambiguous", e.ambiguous)
	}
	switch {
	case m.unscanned:
		add("X-Virus-Status", "Not scanned ("+e.why+")")
	case (e.scanned || e.infected) && !e.unscanned:
		add("X-Virus-Scanned", "Gatepost at "+s.hostname)
	}
	return edits
}

// spamStatus is the value of X-Spam-Status in SpamAssassin's form.
func spamStatus(findings []mail.Finding, m marks) string {
	var b strings.Builder
	if m.tagged {
		b.WriteString("Yes,")
	} else {
		b.WriteString("No,")
	}
	b.WriteString(" score=" + score(m.score))
	if !math.IsInf(m.required, 0) {
		b.WriteString(" required=" + score(m.required))
	}
	b.WriteString(" tests=")
	count, width := 0, 0
	for _, f := range findings {
		if f.Name != mail.FindingSpamRule || count == maxRules {
			continue
		}
		name := ruleName(f.Value)
		if count > 0 {
			b.WriteByte(',')
			if width += len(name) + 1; width > foldRule {
				b.WriteByte(' ') // a place to fold
				width = len(name)
			}
		} else {
			width = len(name)
		}
		b.WriteString(name)
		count++
	}
	if count == 0 {
		b.WriteString("none")
	}
	return b.String()
}

// ruleName keeps a rule's name from looking like something else in the list.
func ruleName(s string) string {
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' || r == ',' || r == '=' {
			return '_'
		}
		return r
	}, s)
	return s[:min(len(s), foldRule)]
}
