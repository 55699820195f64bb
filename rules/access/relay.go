package access

import (
	"cmp"
	"strings"

	"gatepost/internal/mail"
)

// RelaysTo says why mail to this recipient is relayed, whoever sends it. Its
// local part must have no route any more.
func (e *Engine) RelaysTo(to Mailbox, tr *Trace) (why string, ok bool) {
	if e.RelayEntireDomain {
		if l, ok := e.Own.traced(ownNames, to.Domain, tr); ok {
			return l.String(), true
		}
	}
	if l, ok := e.Local.traced(localNames, to.Domain, tr); ok {
		return l.String(), true
	}
	if l, ok := e.Relay.traced(relayNames, to.Domain, tr); ok {
		return l.String(), true
	}
	h, ok := e.relayHit(to, tr)
	if !ok || h.Says != RELAY {
		return "", false
	}
	return h.String(), true
}

func (e *Engine) relayHit(to Mailbox, tr *Trace) (Hit, bool) {
	if to.Domain == "" {
		return Hit{}, false
	}
	if e.RelayToFullAddress {
		if e.RelayHostsOnly {
			if h, ok := e.Table.get(To, []byte(strings.ToLower(to.String())), tr); ok {
				return h, true
			}
		} else if h, ok := e.Table.Full(To, to, tr); ok {
			return h, true
		}
	}
	if h, ok := e.toDomain(to.Domain, tr); ok || !e.RelayToFullAddress || e.RelayHostsOnly {
		return h, ok
	}
	return e.Table.Exact(To, to.Local+"@", tr)
}

// RelaysFor says whether a client may relay to anybody: by its address, then by
// its verified name. A client whose name could not be verified is told why not.
func (e *Engine) RelaysFor(c Client, tr *Trace) Answer {
	if l, ok := e.Relay.HasAddr(c.Addr); ok {
		tr.list(relayNames, c.text(), l, true)
		return accept("RELAY", l.String())
	}
	tr.list(relayNames, c.text(), Listed{}, false)
	if c.Addr.IsValid() {
		if h, ok := e.Table.Address(Connect, c.Addr, tr); ok && h.Says == RELAY {
			return accept("RELAY", h.String())
		}
	}
	switch c.Resolve {
	case mail.ResolveTemp:
		return refuse(450, "4.0", "Relaying temporarily denied. Cannot resolve PTR record for "+c.text())
	case mail.ResolveForged:
		return refuse(550, "7.1", "Relaying denied. IP name possibly forged "+cmp.Or(c.Name, c.bracketed()))
	case mail.ResolveFail:
		return refuse(550, "7.1", "Relaying denied. IP name lookup failed "+cmp.Or(c.Name, c.bracketed()))
	}
	if c.Name != "" {
		if a := e.relaysForName(c.Name, tr); a.Action == mail.Accept {
			return a
		}
	}
	text := "Relaying denied"
	if len(e.Mechs) > 0 {
		text += ". Proper authentication required."
	}
	return refuse(550, "7.1", text)
}

func (e *Engine) relaysForName(name string, tr *Trace) Answer {
	if e.RelayEntireDomain {
		if l, ok := e.Own.traced(ownNames, name, tr); ok {
			return accept("RELAY", l.String())
		}
	}
	if l, ok := e.Relay.traced(relayNames, name, tr); ok {
		return accept("RELAY", l.String())
	}
	walk := e.Table.Domain
	if e.RelayHostsOnly {
		walk = e.Table.Exact
	}
	if h, ok := walk(Connect, name, tr); ok && h.Says == RELAY {
		return accept("RELAY", h.String())
	}
	return Answer{}
}

// sendmailClient is RelaysFor with what only sendmail trusts: programs of its
// own host, and clients with one of its own names.
func (e *Engine) sendmailClient(c Client, tr *Trace) Answer {
	if !c.Addr.IsValid() || c.Addr.IsLoopback() && (c.Addr.Unmap().String() == "127.0.0.1" || c.Addr.Is6()) {
		return accept("RELAY", "our own host")
	}
	if l, ok := e.Local.Has(c.bracketed()); ok {
		return accept("RELAY", l.String())
	}
	a := e.RelaysFor(c, tr)
	if a.Action == mail.Accept || c.Name == "" || c.Resolve != mail.ResolveOK {
		return a
	}
	if l, ok := e.Local.Has(c.Name); ok {
		return accept("RELAY", l.String())
	}
	return a
}
