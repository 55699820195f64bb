package mail

import "net/netip"

// Names of findings about who sends. Rcpt is set where a finding is about one
// recipient.
const (
	FindingListed     = "listed"     // a block list has the client or a name of the mail. Value: the list, Text: what it says
	FindingDenied     = "denied"     // the same, of a list that the operator lets refuse
	FindingAllowed    = "allowed"    // an allow list has the client. Value: the list
	FindingGreylisted = "greylisted" // Value: how long until it may come again
	FindingReturned   = "returned"   // what was greylisted came again. Value: of whom: "triple", "network"
	FindingRate       = "rate"       // over a limit. Value: of what, from the list below; Text: whose
	FindingBlocked    = "blocked"    // the client is blocked for now. Value: why
	FindingClient     = "client"     // something is odd about the client. Value: what
)

// What a FindingRate can be about, each at its stage.
const (
	RateConnections = "connections" // at connect
	RateConcurrency = "concurrency" // at connect: how many are open
	RateMessages    = "messages"    // at MAIL
	RateRecipients  = "recipients"  // at RCPT
	RateBytes       = "bytes"       // at the message
)

// IsOurs reports whether the client is no stranger: it is trusted, has logged
// in, or has an open relay window.
func (s *Session) IsOurs() bool { return s.Trusted || s.User != "" || s.Window }

// Addr is the client's address, an IPv4 one in its own form and without a zone;
// the zero Addr for a connection over a unix socket.
func (s *Session) Addr() netip.Addr { return s.Client.Addr().Unmap().WithZone("") }

// IsLocal reports whether the client is this host: sendmail's 127.0.0.1 and ::1,
// or a unix socket; or a peer that could not say for whom it speaks.
func (s *Session) IsLocal() bool {
	a := s.Addr()
	return !a.IsValid() || s.Proxied == s.Client.Addr() || a == netip.AddrFrom4([4]byte{127, 0, 0, 1}) || a == netip.IPv6Loopback()
}
