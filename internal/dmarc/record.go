package dmarc

import (
	"strings"
)

// Policy is what the owner of a domain wants done with what is not his.
type Policy string

// The policies.
const (
	None       Policy = "none"
	Quarantine Policy = "quarantine"
	Reject     Policy = "reject"
)

func (p Policy) weight() int {
	switch p {
	case Reject:
		return 3
	case Quarantine:
		return 2
	case None:
		return 1
	}
	return 0
}

// Record is what a domain publishes (RFC 9989 4.7).
type Record struct {
	Policy     Policy // p=
	Subdomains Policy // sp=; "": as Policy
	Missing    Policy // np=, of subdomains that don't exist; "": as Subdomains
	StrictDKIM bool   // adkim=s
	StrictSPF  bool   // aspf=s
	Testing    bool   // t=y: it is not to be done
	PSD        string // psd=: "y", "n" or "u"
}

const maxRecord = 4 << 10

// ParseRecord reads a TXT record; ok is false where it is no DMARC record.
//
// Only v= decides about that, and it has to come first. What is wrong behind it
// is as if it weren't there: an owner who mistypes a request for reports has
// still said what is to become of forgeries. Where p= is missing, or no word
// that is known, the policy is none.
func ParseRecord(text string) (r Record, ok bool) {
	if len(text) > maxRecord {
		return r, false
	}
	version, rest, _ := strings.Cut(text, ";")
	name, value, _ := strings.Cut(version, "=")
	if strings.Trim(name, " \t") != "v" || strings.Trim(value, " \t") != "DMARC1" {
		return r, false
	}
	r = Record{Policy: None, PSD: "u"}
	seen := make(map[string]bool)
	for tag := range strings.SplitSeq(rest, ";") {
		name, value, _ := strings.Cut(tag, "=")
		name, value = strings.ToLower(strings.Trim(name, " \t")), strings.ToLower(strings.Trim(value, " \t"))
		if seen[name] { // the first one stands
			continue
		}
		seen[name] = true
		r.set(name, value)
	}
	return r, true
}

func (r *Record) set(name, value string) {
	policy := func(to *Policy) {
		if p := Policy(value); p.weight() > 0 {
			*to = p
		}
	}
	switch name {
	case "p":
		policy(&r.Policy)
	case "sp":
		policy(&r.Subdomains)
	case "np":
		policy(&r.Missing)
	case "adkim":
		r.StrictDKIM = value == "s"
	case "aspf":
		r.StrictSPF = value == "s"
	case "t":
		r.Testing = value == "y"
	case "psd":
		if value == "y" || value == "n" {
			r.PSD = value
		}
	}
}

// below is the policy for a domain below the one that has the record.
func (r Record) below(exists bool) Policy {
	switch {
	case !exists && r.Missing != "":
		return r.Missing
	case r.Subdomains != "":
		return r.Subdomains
	}
	return r.Policy
}
