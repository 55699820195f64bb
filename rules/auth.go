package rules

import (
	"slices"
	"strings"

	"gatepost/internal/mail"
)

// Authentication is what the policy makes of findings about who a message is
// from. What DMARC leads to is in Limits, as it may differ between recipients.
type Authentication struct {
	// DMARCTempError is done where nobody could tell whether a message is its
	// author's, and his domain may want forgeries refused. Default "tempfail".
	DMARCTempError PutOffAction `toml:"dmarc_temperror"`
	// SPFFail is done where the sender's domain denies the client ("-all").
	// Forwarders look like this, too, and DMARC knows better: default
	// "continue", the score counts.
	SPFFail SPFAction `toml:"spf_fail"`
	// MalformedFrom is done with messages that have no one clear author: no
	// From, several, or one that readers may read in different ways. They never
	// pass DMARC, whatever this says. Default "continue".
	MalformedFrom FromAction `toml:"malformed_from"`
}

// DMARCAction is what is done with a message that fails DMARC.
type DMARCAction string

// The values of policy.dmarc.
const (
	DMARCHonour     DMARCAction = "honour"     // what the owner of the author's domain wants: 550, or hold
	DMARCQuarantine DMARCAction = "quarantine" // hold in both cases
	DMARCTag        DMARCAction = "tag"        // deliver with X-Gatepost-Forged
	DMARCIgnore     DMARCAction = "ignore"     // only Authentication-Results tells
)

// Validate refuses unknown words.
func (a DMARCAction) Validate() error {
	return oneOf(a, DMARCHonour, DMARCQuarantine, DMARCTag, DMARCIgnore)
}

// SPFAction is what is done with recipients of mail whose sender SPF denies.
type SPFAction string

// The values of policy.spf_fail.
const (
	SPFContinue SPFAction = "continue" // only the score counts
	SPFReject   SPFAction = "reject"   // 550 to each recipient but postmaster and abuse
)

// Validate refuses unknown words.
func (a SPFAction) Validate() error { return oneOf(a, SPFContinue, SPFReject) }

// FromAction is what is done with a message without one clear author.
type FromAction string

// The values of policy.malformed_from.
const (
	FromContinue   FromAction = "continue"
	FromQuarantine FromAction = "quarantine" // accept and hold
	FromReject     FromAction = "reject"     // refuse in the session
)

// Validate refuses unknown words.
func (a FromAction) Validate() error { return oneOf(a, FromContinue, FromQuarantine, FromReject) }

func defaultAuthentication() Authentication {
	return Authentication{DMARCTempError: PutOffTempFail, SPFFail: SPFContinue, MalformedFrom: FromContinue}
}

// authorship is what the findings say of the author.
type authorship struct {
	value, applied, domain string // of DMARC
	odd                    string // about From
}

func (a *authorship) weigh(f mail.Finding) {
	switch {
	case f.Name == mail.FindingDMARC && a.value == "":
		a.value, a.applied, a.domain = f.Value, f.Property("policy.applied"), plain(f.Property("header.from"), "any of the authors that it names")
	case f.Name == mail.FindingFrom && f.Value != "display":
		a.odd = plain(f.Value, "malformed")
	}
}

// judgeAuthor does what the owner of the author's domain wants.
func (l limits) judgeAuthor(e evidence, m marks) outcome {
	a := e.author
	o := outcome{action: mail.Accept, marks: m}
	wants := a.applied
	if a.value == mail.AuthTempError && wants != "unknown" {
		wants = "none"
	}
	switch {
	case wants == "unknown" && (l.dmarc == DMARCHonour || l.dmarc == DMARCQuarantine) && l.auth.DMARCTempError != PutOffContinue:
		o.action = mail.TempFail
		o.reply = mail.Reply{Code: 451, Detail: "7.1", Text: "Whether this message is from its author can't be told now; please try again later"}
		o.reason = "DMARC: nobody could tell whether it is from " + a.domain
	case wants != "reject" && wants != "quarantine":
	case l.dmarc == DMARCTag:
		o.marks.forged = a.domain
		o.reason = "DMARC: not from " + a.domain + l.of
	case l.dmarc == DMARCIgnore:
	case wants == "reject" && l.dmarc == DMARCHonour:
		o.action = mail.Reject
		o.reply = mail.Reply{Code: 550, Detail: "7.1", Text: "Message refused: it is not from " + a.domain + ", whose owner wants such mail refused (DMARC)"}
		o.reason, o.kind = "DMARC: not from "+a.domain+", which wants it refused"+l.of, mail.HeldDMARC
	default:
		o.action, o.kind = mail.Quarantine, mail.HeldDMARC
		o.reason = "DMARC: not from " + a.domain + ", which wants it " + map[string]string{"reject": "refused", "quarantine": "held"}[wants] + l.of
	}
	return o
}

// judgeFrom does what is done with a message without one clear author.
func (l limits) judgeFrom(e evidence, m marks) outcome {
	o := outcome{action: mail.Accept, marks: m}
	if e.author.odd == "" {
		return o
	}
	switch l.auth.MalformedFrom {
	case FromQuarantine:
		o.action, o.reason, o.kind = mail.Quarantine, "From is "+e.author.odd, mail.HeldDMARC
	case FromReject:
		o.action, o.reason, o.kind = mail.Reject, "From is "+e.author.odd, mail.HeldDMARC
		o.reply = mail.Reply{Code: 550, Detail: "7.1", Text: "Message refused: it has no one clear author (From is " + e.author.odd + ")"}
	}
	return o
}

// denies refuses recipients of a sender whom SPF denies. Whoever is denied can
// reach those who can help him.
func (s *Set) denies(tx *mail.Transaction, to mail.Address) mail.Verdict {
	if s.limits.base.auth.SPFFail != SPFReject || to.IsPostmaster() || strings.EqualFold(to.Local, "abuse") {
		return mail.Verdict{}
	}
	for _, f := range tx.Find(mail.FindingSPF) {
		if domain := f.Property("smtp.mailfrom") + f.Property("smtp.helo"); f.Value == mail.AuthFail && domain != "" {
			return mail.Verdict{
				Action: mail.Reject,
				Reply:  mail.Reply{Code: 550, Detail: "7.23", Text: "SPF of " + domain + " does not allow this client to send in its name"},
				Reason: "SPF of " + domain + " denies the client",
			}
		}
	}
	return mail.Verdict{}
}

// authResults is the value of Authentication-Results (RFC 8601), "" where nobody
// looked. All of it is of our own words and of properties in a plain grammar.
func (s *Set) authResults(findings []mail.Finding) string {
	var b strings.Builder
	b.WriteString(s.hostname)
	results := 0
	for _, method := range [...]string{mail.FindingIPRev, mail.FindingSPF, mail.FindingDKIM, mail.FindingARC, mail.FindingDMARC} {
		for _, f := range findings {
			if f.Name != method || !isAuthResult(f.Value) || results == maxResults {
				continue
			}
			results++
			b.WriteString("; " + method + "=" + f.Value)
			for p := range strings.FieldsSeq(f.Text) {
				if p, ok := printProperty(p); ok {
					b.WriteString(" " + p)
				}
			}
		}
	}
	if results == 0 {
		return ""
	}
	return b.String()
}

const maxResults = 70 // in one field; there are at most 50 signatures

func isAuthResult(v string) bool {
	return slices.Contains([]string{mail.AuthNone, mail.AuthPass, mail.AuthFail, mail.AuthSoftFail, mail.AuthNeutral,
		mail.AuthPolicy, mail.AuthTempError, mail.AuthPermError}, v)
}

const (
	lower    = "abcdefghijklmnopqrstuvwxyz"
	tokens   = lower + "0123456789.-_+"
	maxValue = 255
)

// printProperty prints ptype.property=value, with the value in quotes where it is
// no token (RFC 8601 2.2). What is not of the plain characters that names and
// addresses have is left out.
func printProperty(p string) (string, bool) {
	name, value, ok := strings.Cut(p, "=")
	kind, property, dot := strings.Cut(name, ".")
	if !ok || !dot || kind == "" || property == "" || strings.Trim(kind, lower) != "" || strings.Trim(property, lower+"-") != "" {
		return "", false
	}
	low := strings.ToLower(value)
	switch {
	case value == "" || len(value) > maxValue || strings.Trim(low, tokens+":/=") != "":
		return "", false
	case strings.Trim(low, tokens) != "":
		value = `"` + value + `"`
	}
	return name + "=" + value, true
}

// signedBy reports whether one of the domains signed the message, as
// filters/auth has found; ok is false where that can't be told now.
func signedBy(findings []mail.Finding, kind, property string, domains []string) (signed, ok bool) {
	ok = true
	for _, f := range findings {
		if f.Name != kind {
			continue
		}
		ours := slices.Contains(domains, f.Property(property))
		switch {
		case f.Value == mail.AuthPass && ours:
			return true, true
		case f.Value == mail.AuthTempError && (ours || kind == mail.FindingARC):
			ok = false
		}
	}
	return false, ok
}
