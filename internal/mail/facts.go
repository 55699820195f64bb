package mail

import "net/netip"

// Facts are what a next hop may be told of a message besides its envelope and
// content: who brought it, as it was seen when it was accepted. Our own
// notifications have an ID and nothing else.
type Facts struct {
	ID         string // of the message; for the log
	Listener   string
	ClientName string // verified name of the client; "" when unknown
	ClientAddr netip.AddrPort
	Helo       string
	Proto      string // "SMTP", "ESMTP", "ESMTPS", "ESMTPSA"… (RFC 3848); "" when unknown
	User       string // authenticated user, "" for none
}
