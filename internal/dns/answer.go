package dns

import (
	"errors"
	"net/netip"
)

// ErrNoName is the answer that a name does not exist at all (NXDOMAIN,
// RFC 2308 2.1). A name without records of the type asked for is no error:
// there are none. Any other error says that the question was not answered.
var ErrNoName = errors.New("no such name")

// MX is one mail exchanger of a domain.
type MX struct {
	Host       string // lower case, no final dot; "" is "." (RFC 7505)
	Preference uint16
}

// Host is what is known of a host name.
type Host struct {
	Name  string // at the end of all CNAMEs
	Addrs []netip.Addr
}

// TLSA is one TLSA record (RFC 6698 2.1).
type TLSA struct {
	Usage, Selector, Matching uint8
	Data                      []byte
}
