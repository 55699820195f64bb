package proxy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
	"strconv"
	"strings"
)

// The PROXY protocol of HAProxy, versions 1 and 2: what a balancer says of the
// client before the first byte of that one.
const (
	v2Signature = "\r\n\r\n\x00\r\nQUIT\n"
	v1Start     = "PROXY "
	maxV1       = 107     // octets of a line with its CRLF
	maxV2       = 4 << 10 // octets behind the fixed part; some hundred are usual
)

var errProxyHeader = errors.New("no PROXY header")

// readProxyHeader reads a header and not one byte more: read returns exactly as
// many as it is asked for. The result is not valid where the header names no
// client: a health check of the balancer, or a connection that it knows nothing
// of.
func readProxyHeader(read func(n int) ([]byte, error)) (netip.AddrPort, error) {
	start, err := read(len(v2Signature))
	if err != nil {
		return netip.AddrPort{}, err
	}
	switch {
	case string(start) == v2Signature:
		return readV2(start, read)
	case strings.HasPrefix(string(start), v1Start):
		return readV1(start, read)
	}
	return netip.AddrPort{}, errProxyHeader
}

func readV1(line []byte, read func(n int) ([]byte, error)) (netip.AddrPort, error) {
	line = bytes.Clone(line)
	for !bytes.HasSuffix(line, []byte("\r\n")) {
		if len(line) == maxV1 {
			return netip.AddrPort{}, fmt.Errorf("%w: the line is too long", errProxyHeader)
		}
		next, err := read(1)
		if err != nil {
			return netip.AddrPort{}, err
		}
		line = append(line, next...)
	}
	return parseV1(string(line[:len(line)-2]))
}

// parseV1 reads "PROXY TCP4 source destination sport dport", by the letter.
func parseV1(line string) (netip.AddrPort, error) {
	f := strings.Split(line, " ")
	if len(f) >= 2 && f[0] == "PROXY" && f[1] == "UNKNOWN" {
		return netip.AddrPort{}, nil // the rest means nothing
	}
	if len(f) != 6 || f[0] != "PROXY" || f[1] != "TCP4" && f[1] != "TCP6" {
		return netip.AddrPort{}, fmt.Errorf("%w: %q", errProxyHeader, clip(line, maxV1))
	}
	source, errSource := netip.ParseAddr(f[2])
	dest, errDest := netip.ParseAddr(f[3])
	sport, errSport := parsePort(f[4])
	_, errDport := parsePort(f[5])
	if err := errors.Join(errSource, errDest, errSport, errDport); err != nil {
		return netip.AddrPort{}, fmt.Errorf("%w: %q", errProxyHeader, clip(line, maxV1))
	}
	if v4 := f[1] == "TCP4"; source.Is4() != v4 || dest.Is4() != v4 {
		return netip.AddrPort{}, fmt.Errorf("%w: an address of another family", errProxyHeader)
	}
	return clientOf(source, sport)
}

// parsePort reads a number without leading zeros.
func parsePort(s string) (uint16, error) {
	if !isDigits(s) || len(s) > 1 && s[0] == '0' {
		return 0, errProxyHeader
	}
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err
}

// clientOf refuses what can't be the source of a connection.
func clientOf(addr netip.Addr, port uint16) (netip.AddrPort, error) {
	addr = addr.Unmap()
	if !isHost(addr) {
		return netip.AddrPort{}, fmt.Errorf("%w: %s is not the address of a host", errProxyHeader, addr)
	}
	return netip.AddrPortFrom(addr, port), nil
}

func isHost(addr netip.Addr) bool {
	broadcast := netip.AddrFrom4([4]byte{255, 255, 255, 255})
	return addr.IsValid() && addr.Zone() == "" && !addr.IsUnspecified() && !addr.IsMulticast() && addr != broadcast
}

func readV2(start []byte, read func(n int) ([]byte, error)) (netip.AddrPort, error) {
	fixed, err := read(4)
	if err != nil {
		return netip.AddrPort{}, err
	}
	n := int(binary.BigEndian.Uint16(fixed[2:]))
	if n > maxV2 {
		return netip.AddrPort{}, fmt.Errorf("%w: %d octets", errProxyHeader, n)
	}
	head := append(bytes.Clone(start), fixed...)
	if n > 0 {
		rest, err := read(n)
		if err != nil {
			return netip.AddrPort{}, err
		}
		head = append(head, rest...)
	}
	return parseV2(head)
}

// What the fixed part of version 2 may say.
const (
	v2Fixed  = 16
	v2Local  = 0x20
	v2Proxy  = 0x21
	v2Unspec = 0x00
	v2TCP4   = 0x11
	v2TCP6   = 0x21
	v2Unix   = 0x31
)

// parseV2 reads a whole header of version 2.
func parseV2(head []byte) (netip.AddrPort, error) {
	command, family, body := head[12], head[13], head[v2Fixed:]
	if command != v2Local && command != v2Proxy {
		return netip.AddrPort{}, fmt.Errorf("%w: version and command %#x", errProxyHeader, command)
	}
	if command == v2Local {
		return netip.AddrPort{}, nil // what stands behind it is to be ignored
	}
	size := map[byte]int{v2Unspec: 0, v2TCP4: 12, v2TCP6: 36, v2Unix: 216}
	n, known := size[family]
	if !known || len(body) < n {
		return netip.AddrPort{}, fmt.Errorf("%w: family %#x with %d octets", errProxyHeader, family, len(body))
	}
	if family != v2Unspec {
		if err := checkTLVs(head, v2Fixed+n); err != nil {
			return netip.AddrPort{}, err
		}
	}
	switch family {
	case v2TCP4:
		return clientOf(netip.AddrFrom4([4]byte(body[:4])), binary.BigEndian.Uint16(body[8:]))
	case v2TCP6:
		return clientOf(netip.AddrFrom16([16]byte(body[:16])), binary.BigEndian.Uint16(body[32:]))
	}
	return netip.AddrPort{}, nil
}

const (
	tlvHead  = 3 // type and length
	tlvCRC32 = 3
)

// checkTLVs looks whether what stands behind the addresses is what it claims to
// be, its checksum included. Nothing else in it is believed: TLS is what we see
// of it.
func checkTLVs(head []byte, at int) error {
	for at < len(head) {
		rest := head[at:]
		if len(rest) < tlvHead {
			return fmt.Errorf("%w: cut off", errProxyHeader)
		}
		n := int(binary.BigEndian.Uint16(rest[1:]))
		if len(rest) < tlvHead+n {
			return fmt.Errorf("%w: cut off", errProxyHeader)
		}
		if rest[0] == tlvCRC32 {
			if n != 4 || !checksumFits(head, at+tlvHead) {
				return fmt.Errorf("%w: wrong checksum", errProxyHeader)
			}
		}
		at += tlvHead + n
	}
	return nil
}

// checksumFits compares the CRC32c at a place with that of the header with
// zeros in this place.
func checksumFits(head []byte, at int) bool {
	zeroed := bytes.Clone(head)
	clear(zeroed[at : at+4])
	return crc32.Checksum(zeroed, crc32.MakeTable(crc32.Castagnoli)) == binary.BigEndian.Uint32(head[at:])
}
