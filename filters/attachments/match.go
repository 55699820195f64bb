package attachments

import (
	"regexp"
	"strings"

	"gatepost/internal/mail"
)

// lists are all lists in the order of the configuration.
type lists struct {
	deny  []denyList
	allow []allowList
}

// scope is whom a list is for.
type scope struct {
	name, key string
	action    Action
	topOnly   bool
	some      bool // only for some recipients
	of, not   map[string]string
}

// has reports whether the list is for a recipient.
func (s *scope) has(to mail.Address) bool {
	return (!s.some || listed(s.of, to)) && !listed(s.not, to)
}

// everybody reports whether it is for all.
func (s *scope) everybody() bool { return !s.some && len(s.not) == 0 }

// covers reports whether every recipient of the other list is one of this, as
// far as can be told without knowing who there is.
func (s *scope) covers(other scope) bool {
	if s.topOnly && !other.topOnly {
		return false
	}
	if s.everybody() {
		return true
	}
	if s.some != other.some || len(s.not) != len(other.not) || len(s.of) != len(other.of) {
		return false
	}
	for r := range s.of {
		if other.of[r] == "" {
			return false
		}
	}
	for r := range s.not {
		if other.not[r] == "" {
			return false
		}
	}
	return true
}

// listed looks for an address, its domain, and the domains above it.
func listed(list map[string]string, a mail.Address) bool {
	if len(list) == 0 {
		return false
	}
	domain := a.ASCIIDomain()
	if list[strings.ToLower(a.Local)+"@"+domain] != "" || list[domain] != "" {
		return true
	}
	for {
		_, rest, ok := strings.Cut(domain, ".")
		if !ok {
			return false
		}
		if list["."+rest] != "" {
			return true
		}
		domain = rest
	}
}

type pattern struct {
	re    *regexp.Regexp
	where string
}

type denyList struct {
	scope
	ext, double                        map[string]string // with where they stand
	patterns, ignore                   []pattern
	declared, detected                 []string
	clsid, programs, macros, encrypted bool
}

func (d *denyList) empty() bool {
	return len(d.ext)+len(d.double)+len(d.patterns)+len(d.declared)+len(d.detected) == 0 && !d.clsid && !d.programs && !d.macros && !d.encrypted
}

// match is why a part is not wanted: its class, and words for people. An empty
// class is a part that passes.
type match struct{ class, why string }

func (d *denyList) match(p *seen) match {
	if d.topOnly && p.Depth > 0 {
		return match{}
	}
	for _, n := range p.names {
		if m := d.matchName(n); m.class != "" {
			return m
		}
	}
	switch {
	case fitsAny(d.declared, p.declared):
		return match{mail.AttachmentDeclared, "is declared as " + p.declared}
	case fitsAny(d.detected, p.detected):
		return match{mail.AttachmentContent, "its content is " + p.detected}
	case d.programs && p.Program:
		return match{mail.AttachmentProgram, "is a program or a script"}
	case d.macros && p.Macros:
		return match{mail.AttachmentMacros, "may run macros"}
	case d.encrypted && p.Encrypted:
		return match{mail.AttachmentEncrypted, "is encrypted"}
	}
	return match{}
}

func (d *denyList) matchName(n string) match {
	for _, i := range d.ignore {
		if i.re.MatchString(n) {
			return match{}
		}
	}
	if d.clsid && endsInCLSID(n) {
		return match{mail.AttachmentCLSID, "its name ends in a class ID"}
	}
	before, ext := cutExtension(n)
	if _, inner := cutExtension(before); inner != "" && d.double[ext] != "" {
		return match{mail.AttachmentDouble, "has a double extension, ." + inner + "." + ext}
	}
	if ext != "" && d.ext[ext] != "" {
		return match{mail.AttachmentExtension, "ends in ." + ext}
	}
	for _, p := range d.patterns {
		if p.re.MatchString(n) {
			return match{mail.AttachmentName, "has a name that is not accepted"}
		}
	}
	return match{}
}

func fitsAny(patterns []string, mediaType string) bool {
	for _, p := range patterns {
		if mediaType != "" && fitsType(p, mediaType) {
			return true
		}
	}
	return false
}
