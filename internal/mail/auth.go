package mail

import "strings"

// Names of findings about who a message is from, of filters/auth. Value is the
// result, in the words of RFC 8601 below. Text is properties as they stand in
// Authentication-Results: "header.d=example.com header.s=sel", of DMARC
// "header.from=example.com policy.published=reject policy.applied=reject".
const (
	FindingIPRev = "iprev" // the client's name; the address is the property
	FindingSPF   = "spf"   // the envelope sender, or HELO where that is null
	FindingDKIM  = "dkim"  // one for each signature
	FindingDMARC = "dmarc" // the author. What to do is policy.applied: none, quarantine, reject, unknown
	FindingARC   = "arc"   // the chain of those who passed it on
	FindingFrom  = "from"  // something is wrong with the From fields. Value: what
)

// Results of authentication (RFC 8601 2.7).
const (
	AuthNone      = "none"
	AuthPass      = "pass"
	AuthFail      = "fail"
	AuthSoftFail  = "softfail"
	AuthNeutral   = "neutral"
	AuthPolicy    = "policy"
	AuthTempError = "temperror"
	AuthPermError = "permerror"
)

// Property returns a property of a finding about who a message is from, ""
// where it has none of that name.
func (f Finding) Property(name string) string {
	for p := range strings.FieldsSeq(f.Text) {
		if n, v, ok := strings.Cut(p, "="); ok && n == name {
			return v
		}
	}
	return ""
}

// IsForgedAuthor reports whether the domain of a message's author says that it
// is not by that author, and nobody whom we trust has said otherwise.
func (t *Transaction) IsForgedAuthor() bool {
	for _, f := range t.Findings {
		if f.Name == FindingDMARC && f.Value == AuthFail && f.Property("policy.override") == "" {
			return true
		}
	}
	return false
}
