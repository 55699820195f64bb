package rules

import (
	"slices"

	"gatepost/internal/mail"
)

// RelayDomains lists the domains that mail is relayed to, of the configuration
// and of the files that it names, in ASCII form; ".example.com" is what lies
// below that.
func (s *Set) RelayDomains() []string {
	names := append(s.engine.Local.Names(), s.engine.Relay.Names()...)
	slices.Sort(names)
	return slices.Compact(names)
}

// Ours reports whether mail for a recipient is ours to pass on, whoever sends
// it.
func (s *Set) Ours(to mail.Address) bool {
	_, ok := s.oursToRelay(to, nil)
	return ok
}
