package access

// Mailbox is an address as the rulesets see it after their canonical form:
// without quotes, its domain in lower case and without a final dot. Without a
// domain it is a local user.
type Mailbox struct{ Local, Domain string }

func (m Mailbox) String() string {
	if m.Domain == "" {
		return m.Local
	}
	return m.Local + "@" + m.Domain
}
