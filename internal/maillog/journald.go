package maillog

import (
	"strings"

	"github.com/coreos/go-systemd/v22/journal"
)

// toJournal gives an event to the journal, its attributes as fields:
// GATEPOST_ID, GATEPOST_FROM…
func toJournal(e *event) error {
	fields := make(map[string]string, len(e.pairs)+1)
	fields["SYSLOG_IDENTIFIER"] = "gatepost"
	for _, p := range e.pairs {
		fields["GATEPOST_"+journalName(p.key)] = p.value
	}
	return journal.Send(string(textLine(nil, e)), journal.Priority(severity(e.level)), fields)
}

// journalName keeps what a field may be called: A-Z, 0-9, and _.
func journalName(key string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z' || r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, key)
}
