package spool

import (
	"net/netip"
	"strconv"

	"gatepost/internal/mail"
)

// The later fields of an entry are tagged: each is there when it has a value,
// and a program that does not know a tag passes over it. So a field can be
// added without a new version.
type tag uint64

// The numbers are on disk: none may change.
const (
	tagClientName tag = 1 + iota
	tagClientAddr
	tagProto
	tagUser
	tagTrusted
	tagSilent
	tagUnscanned
	tagReplaces
	tagWindow
	tagKind
)

// tagged writes the later fields of m.
func (e *encoder) tagged(m *Entry) {
	addr, trusted, window := "", "", ""
	if m.ClientAddr.IsValid() {
		addr = m.ClientAddr.String()
	}
	if m.Trusted {
		trusted = strconv.FormatBool(true)
	}
	if m.Window {
		window = strconv.FormatBool(true)
	}
	values := [...]string{
		tagClientName: m.ClientName, tagClientAddr: addr, tagProto: m.Proto, tagUser: m.User,
		tagTrusted: trusted, tagSilent: m.Silent, tagUnscanned: m.Unscanned, tagReplaces: m.Replaces,
		tagWindow: window, tagKind: string(m.Kind),
	}
	n := uint64(0)
	for _, v := range values {
		if v != "" {
			n++
		}
	}
	e.uint(n)
	for t, v := range values {
		if v != "" {
			e.uint(uint64(t))
			e.str(v)
		}
	}
}

// tagged reads them into m.
func (d *decoder) tagged(m *Entry) {
	for n := d.length(); n > 0 && d.err == nil; n-- {
		t, v := tag(d.uint()), d.str()
		switch t {
		case tagClientName:
			m.ClientName = v
		case tagClientAddr:
			addr, err := netip.ParseAddrPort(v)
			if err != nil && d.err == nil {
				d.fail(errValue)
			}
			m.ClientAddr = addr
		case tagProto:
			m.Proto = v
		case tagUser:
			m.User = v
		case tagTrusted:
			m.Trusted = v != ""
		case tagSilent:
			m.Silent = v
		case tagUnscanned:
			m.Unscanned = v
		case tagReplaces:
			m.Replaces = v
		case tagWindow:
			m.Window = v != ""
		case tagKind:
			m.Kind = mail.HeldKind(v)
		}
	}
}
