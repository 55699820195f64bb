package drac

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// ONC RPC version 2 over UDP (RFC 5531), as far as DRAC needs it.
const (
	msgCall  = 0
	msgReply = 1

	rpcVersion = 2

	accepted    = 0
	denied      = 1
	rpcMismatch = 0

	// accept_stat
	success      = 0
	progUnavail  = 1
	progMismatch = 2
	procUnavail  = 3
	garbageArgs  = 4
)

const maxAuth = 400 // RFC 5531 8.2

var errPacket = errors.New("drac: not an RPC call")

// call is an RPC call without its credentials, which nobody checks.
type call struct {
	xid, rpcVersion             uint32
	program, version, procedure uint32
	args                        []byte
}

// words reads big-endian numbers from a packet.
type words struct {
	b   []byte
	bad bool
}

func (w *words) next() uint32 {
	if len(w.b) < 4 {
		w.bad = true
		return 0
	}
	n := binary.BigEndian.Uint32(w.b)
	w.b = w.b[4:]
	return n
}

// auth passes over credentials or a verifier.
func (w *words) auth() {
	w.next()
	n := w.next()
	padded := (n + 3) &^ 3
	if n > maxAuth || int(padded) > len(w.b) {
		w.bad = true
		return
	}
	w.b = w.b[padded:]
}

func parseCall(packet []byte) (call, error) {
	w := words{b: packet}
	c := call{xid: w.next()}
	if kind := w.next(); w.bad || kind != msgCall {
		return call{}, errPacket
	}
	c.rpcVersion, c.program, c.version, c.procedure = w.next(), w.next(), w.next(), w.next()
	if c.rpcVersion != rpcVersion && !w.bad {
		return c, nil
	}
	w.auth()
	w.auth()
	if w.bad {
		return call{}, errPacket
	}
	c.args = w.b
	return c, nil
}

// reply makes an answer: what the RPC layer says, and the results.
func (c call) reply(status uint32, results ...uint32) []byte {
	return pack(append([]uint32{c.xid, msgReply, accepted, 0, 0, status}, results...)...)
}

// wrongVersion is the answer to another version of RPC itself.
func (c call) wrongVersion() []byte {
	return pack(c.xid, msgReply, denied, rpcMismatch, rpcVersion, rpcVersion)
}

func pack(numbers ...uint32) []byte {
	var b []byte
	for _, n := range numbers {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	return b
}

// address reads the argument of DRACPROC_ADD. Version 1 has one number with the
// bytes of an IPv4 address, version 2 a char[16], which rpcgen makes sixteen
// numbers of: sign-extended, so only the low byte counts.
func (c call) address() (netip.Addr, bool) {
	switch {
	case c.version == 1 && len(c.args) == 4:
		return netip.AddrFrom4([4]byte(c.args)), true
	case c.version == 2 && len(c.args) == 64:
		var a [16]byte
		for i := range a {
			a[i] = c.args[4*i+3]
		}
		return netip.AddrFrom16(a).Unmap(), true
	}
	return netip.Addr{}, false
}
