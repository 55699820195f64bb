package rules

import (
	"maps"
	"slices"
)

// RelayDomains lists the relay domains of the configuration and of the files
// that it names, in ASCII form; ".example.com" is what lies below that.
func (s *Set) RelayDomains() []string {
	names := slices.Collect(maps.Keys(s.domains.exact))
	for name := range s.domains.below {
		names = append(names, "."+name)
	}
	slices.Sort(names)
	return names
}
