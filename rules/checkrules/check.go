package checkrules

import (
	"context"
	"net/netip"
	"strings"

	"gatepost/internal/mail"
)

// Kind is what the rules say of one recipient.
type Kind int

// The kinds.
const (
	NoMatch Kind = iota // no rule fits
	Allow               // the list has no objection
	NoTo                // refused, the session goes on
	Deny                // refused, and the connection is closed
)

// Query is one recipient of one client.
type Query struct {
	Name     string // of the client, verified; "" for none
	Addr     netip.Addr
	Ident    string // "" for none
	From, To mail.Address
}

// Lookup asks the DNS. An error is no answer, and fits nothing.
type Lookup interface {
	// Listed reports whether a zone of addresses lists one.
	Listed(ctx context.Context, zone string, addr netip.Addr) (bool, error)
	// Servers returns the name servers and mail hosts of a name, or of the
	// closest name above it that has some and is no top-level domain, with
	// their addresses.
	Servers(ctx context.Context, name string) (hosts []string, addrs []netip.Addr, err error)
	// Exists reports whether a name has an address, a name server or a mail
	// host of its own.
	Exists(ctx context.Context, name string) (bool, error)
}

// Answer is what the first rule that fits says.
type Answer struct {
	Kind  Kind
	Delay bool       // the refusal is to come late
	Reply mail.Reply // of NoTo and Deny
	Line  int        // of the rule; 0 for none
	Text  string     // the rule
	Debug []int      // lines of debug rules that fit before it
}

// Check holds one recipient against the rules.
func (r *Rules) Check(ctx context.Context, ask Lookup, q Query) Answer {
	m := matching{ctx: ctx, ask: ask, Query: q}
	m.Addr = q.Addr.Unmap().WithZone("")
	var debug []int
	for _, rule := range r.rules {
		if !m.source(&rule.source) || !m.address(&rule.sender, q.From) || !m.address(&rule.target, q.To) {
			continue
		}
		if rule.action.goOn {
			debug = append(debug, rule.line)
			continue
		}
		a := Answer{Kind: rule.action.kind, Delay: rule.action.delay, Line: rule.line, Text: rule.text, Debug: debug}
		if a.Kind != Allow {
			a.Reply = rule.reply(m.Query)
		}
		return a
	}
	return Answer{Debug: debug}
}

// matching is one Query on its way through the rules.
type matching struct {
	Query
	ctx context.Context
	ask Lookup
}

func (l *list) any(fits func(*pattern) bool) bool {
	for i := range l.patterns {
		if fits(&l.patterns[i]) {
			return l.except == nil || !l.except.any(fits)
		}
	}
	return false
}

func (m *matching) source(l *list) bool { return l.any(m.client) }

func (m *matching) client(p *pattern) bool {
	switch {
	case p.domain != nil:
		return m.ident(p) && m.client(p.domain)
	case p.servers != nil:
		name := m.Name
		if name == "" {
			name = reverseName(m.Addr)
		}
		return m.servers(p.servers, name)
	}
	return m.host(p, m.Name, m.Addr)
}

// host holds a name with its address against a pattern.
func (m *matching) host(p *pattern, name string, addr netip.Addr) bool {
	switch {
	case p.special == all:
		return true
	case p.special == knownName:
		return name != ""
	case p.special == unknownName:
		return name == ""
	case p.prefix.IsValid():
		return p.prefix.Contains(addr)
	case p.zone != "":
		listed, err := m.ask.Listed(m.ctx, p.zone, addr)
		return err == nil && listed
	case p.text != nil:
		return name != "" && p.text.fits(name) || addr.IsValid() && p.text.fits(addr.String())
	}
	return false
}

func (m *matching) ident(p *pattern) bool {
	switch {
	case p.special == all:
		return true
	case p.special == anyIdent:
		return m.Ident != ""
	}
	return m.Ident != "" && p.user.fits(m.Ident)
}

func (m *matching) address(l *list, a mail.Address) bool {
	return l.any(func(p *pattern) bool { return m.mailbox(p, a) })
}

func (m *matching) mailbox(p *pattern, a mail.Address) bool {
	switch {
	case p.special == all && p.right == nil:
		return true
	case p.servers != nil:
		return m.servers(p.servers, a.ASCIIDomain())
	case p.text != nil:
		return p.text.fits(plain(a))
	case a.Domain == "" || !p.right.fits(a.Domain):
		return false
	case p.special == identUser:
		return m.Ident != "" && !strings.Contains(m.Ident, "*") && strings.EqualFold(m.Ident, a.Local)
	}
	return p.user.fits(a.Local)
}

// plain is an address without quotes, as the rules are written.
func plain(a mail.Address) string {
	if a.Domain == "" {
		return a.Local
	}
	return a.Local + "@" + a.Domain
}

// servers holds the name servers and mail hosts of a name against a pattern.
func (m *matching) servers(p *pattern, name string) bool {
	if name == "" {
		return p.special == unknownName
	}
	if p.special == knownName || p.special == unknownName {
		exists, err := m.ask.Exists(m.ctx, name)
		return err == nil && exists == (p.special == knownName)
	}
	hosts, addrs, err := m.ask.Servers(m.ctx, name)
	if err != nil {
		return false
	}
	for _, h := range hosts {
		if m.host(p, h, netip.Addr{}) {
			return true
		}
	}
	for _, a := range addrs {
		if m.host(p, "", a.Unmap()) && p.special != unknownName {
			return true
		}
	}
	return false
}
