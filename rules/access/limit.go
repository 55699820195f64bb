package access

import (
	"net/netip"
	"time"

	"gatepost/internal/mail"
)

// Client is who is connected, as the rulesets see it.
type Client struct {
	Addr    netip.Addr // the zero Addr is a unix socket
	Name    string     // verified; "" is a client without one: its address in brackets
	Resolve mail.Resolve
}

// Limit is what ClientRate: or ClientConn: says of a client: its address and
// the beginnings of that, then the tag alone. Zero is without a limit. A client
// may have as many as n; the next one is refused.
func (t *Table) Limit(tag Tag, client netip.Addr, tr *Trace) (n int, h Hit, ok bool) {
	if len(t.slots[tag]) == 0 {
		return 0, Hit{}, false
	}
	if client.IsValid() {
		h, ok = t.Address(tag, client, tr)
	}
	if !ok {
		h, ok = t.Exact(tag, "", tr)
	}
	if !ok || h.Says != NUMBER {
		return 0, Hit{}, false
	}
	return h.Number, h, true
}

// Pause is what GreetPause: says of a client, by its name and then by its
// address: how long it waits for the greeting.
func (t *Table) Pause(c Client, tr *Trace) (d time.Duration, h Hit, ok bool) {
	if len(t.slots[GreetPause]) == 0 {
		return 0, Hit{}, false
	}
	if h, ok = t.client(GreetPause, c, tr); !ok {
		return 0, Hit{}, false
	}
	return time.Duration(h.Number) * time.Millisecond, h, true
}

// Requirement is what TLS_Clt: says of a client, by its name, by its address,
// and then the tag alone.
func (t *Table) Requirement(c Client, tr *Trace) (r *Requirement, h Hit, ok bool) {
	if len(t.slots[TLSClt]) == 0 {
		return nil, Hit{}, false
	}
	if h, ok = t.client(TLSClt, c, tr); !ok {
		h, ok = t.Exact(TLSClt, "", tr)
	}
	if !ok || h.Says != REQUIRE {
		return nil, Hit{}, false
	}
	return h.TLS, h, true
}

// client asks for the client's name, then for its address.
func (t *Table) client(tag Tag, c Client, tr *Trace) (Hit, bool) {
	switch {
	case c.Name != "":
		if h, ok := t.Domain(tag, c.Name, tr); ok {
			return h, true
		}
	case c.Addr.IsValid():
		if h, ok := t.bracket(tag, c.Addr, tr); ok {
			return h, true
		}
	}
	if !c.Addr.IsValid() {
		return Hit{}, false
	}
	return t.Address(tag, c.Addr, tr)
}
