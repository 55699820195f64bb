package dnsbl

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

var (
	loopback = netip.MustParsePrefix("127.0.0.0/8")
	// refusals are no statement about anybody: "127.255.255.254: you ask by way
	// of a public resolver" (Spamhaus), 127.0.0.1 (SURBL, URIBL), 127.0.1.255
	// (DBL: you ask for an address).
	refusals = []netip.Prefix{
		netip.MustParsePrefix("127.255.255.0/24"), netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("127.0.1.255/32"),
	}
)

// meaning is what the records of one answer say.
type meaning int

const (
	nothing meaning = iota // not listed
	other                  // listed, for a reason that does not count
	counts                 // listed
	refused                // the list does not answer us
	foreign                // this is no list
)

// read tells what an answer means, and the address that says so. One that
// refuses, or makes no sense, spoils the rest.
func read(addrs []netip.Addr, answers []netip.Prefix) (meaning, netip.Addr) {
	m, by := nothing, netip.Addr{}
	for _, a := range addrs {
		is := other
		switch {
		case !loopback.Contains(a):
			is = foreign
		case within(refusals, a):
			is = refused
		case within(answers, a):
			is = counts
		}
		if is > m {
			m, by = is, a
		}
	}
	return m, by
}

func within(all []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(all, func(p netip.Prefix) bool { return p.Contains(a) })
}

const hexDigits = "0123456789abcdef"

// reversed is an address as it stands before a zone (RFC 5782 2.1, 2.4).
func reversed(a netip.Addr) string {
	var b strings.Builder
	if a = a.Unmap(); a.Is4() {
		raw := a.As4()
		for i := len(raw) - 1; i >= 0; i-- {
			b.WriteString(strconv.Itoa(int(raw[i])))
			b.WriteByte('.')
		}
		return b.String()
	}
	raw := a.As16()
	for i := len(raw) - 1; i >= 0; i-- {
		b.Write([]byte{hexDigits[raw[i]&15], '.', hexDigits[raw[i]>>4], '.'})
	}
	return b.String()
}
