package rules

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"gatepost/internal/mail"
	"gatepost/rules/access"
)

// Tenant is a section [relay.tenant.NAME]: a customer of a provider who sends
// for all its customers from the same addresses. These alone prove nothing, so
// the message has to. All kinds of proof that are written must hold.
type Tenant struct {
	// Networks are the addresses that the provider sends from.
	Networks []netip.Prefix `toml:"networks"`
	// Header is a field in which the provider notes the tenant, like
	// X-MS-Exchange-CrossTenant-Id. It must be in the message just once.
	Header string `toml:"header"`
	// Values are what it may say, in any case of letters.
	Values []string `toml:"values"`
	// DKIM are domains one of which must have signed, as a filter of kind "auth"
	// has found, or as one of kind "milter" says in Authentication-Results of
	// our name.
	DKIM []string `toml:"dkim"`
	// ARC are domains one of which must be the newest sealer of a chain that
	// holds, as a filter of kind "auth" has found.
	ARC []string `toml:"arc"`
}

// tenant is a Tenant whose domains are in their table form.
type tenant struct {
	Tenant
	name string
}

func newTenants(cfg Config) ([]tenant, error) {
	var list []tenant
	var errs access.Problems
	for _, name := range slices.Sorted(maps.Keys(cfg.Relay.Tenant)) {
		t := tenant{Tenant: cfg.Relay.Tenant[name], name: name}
		t.DKIM = slices.Clone(t.DKIM)
		for i, d := range t.DKIM {
			domain, err := access.CanonicalDomain(d)
			errs.Note(fmt.Sprintf("%s.dkim[%d]", t.key(), i), err)
			t.DKIM[i] = domain
		}
		t.ARC = slices.Clone(t.ARC)
		for i, d := range t.ARC {
			domain, err := access.CanonicalDomain(d)
			errs.Note(fmt.Sprintf("%s.arc[%d]", t.key(), i), err)
			t.ARC[i] = domain
		}
		t.check(cfg, &errs)
		list = append(list, t)
	}
	return list, errs.Join()
}

func (t *tenant) key() string { return "relay.tenant." + quoteName(t.name) }

// quoteName writes a name as TOML wants it in a key.
func quoteName(s string) string {
	bare := strings.Trim(strings.ToLower(s), "abcdefghijklmnopqrstuvwxyz0123456789-_") == ""
	if bare && s != "" {
		return s
	}
	return strconv.Quote(s)
}

func (t *tenant) check(cfg Config, errs *access.Problems) {
	bad := func(key, text string) { errs.Note(t.key()+key, errors.New(text)) }
	if len(t.Networks) == 0 {
		bad(".networks", "missing; write the addresses that the provider sends from")
	}
	for i, n := range t.Networks {
		if n.Bits() == 0 {
			bad(fmt.Sprintf(".networks[%d]", i), strconv.Quote(n.String())+" is everybody; write the addresses that the provider sends from")
		}
	}
	if t.Header == "" && len(t.DKIM)+len(t.ARC) == 0 {
		bad("", "others send from these addresses, too; write header and values, dkim, or arc")
	}
	switch {
	case t.Header != "" && len(t.Values) == 0:
		bad(".values", "missing; write what "+t.Header+" says for this tenant")
	case t.Header == "" && len(t.Values) > 0:
		bad(".header", "missing; write the field that has these values")
	case strings.ContainsFunc(t.Header, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' }):
		bad(".header", fmt.Sprintf("%q is no name of a field; write one like X-MS-Exchange-CrossTenant-Id", t.Header))
	case slices.Contains(t.Values, ""):
		bad(".values", "an empty one would fit an empty field; remove it")
	}
	if len(t.DKIM) > 0 && !cfg.Authenticates && !cfg.Verifies {
		bad(".dkim", `nobody verifies signatures; write a section [filter.auth], or a filter of kind = "milter" that does, like OpenDKIM`)
	}
	if len(t.ARC) > 0 && !cfg.Verifies {
		bad(".arc", "nobody verifies chains; write a section [filter.auth]")
	}
}

// tenantOf is the tenant that a client may be speaking for.
func (s *Set) tenantOf(sess *mail.Session) *tenant {
	ip := clientOf(sess).Addr
	if isNobody(sess) || !ip.IsValid() {
		return nil
	}
	for i := range s.tenants {
		if slices.ContainsFunc(s.tenants[i].Networks, func(n netip.Prefix) bool { return n.Contains(ip) }) {
			return &s.tenants[i]
		}
	}
	return nil
}

// mixes reports whether a recipient for whom the message has to prove something
// would share it with one for whom it has not: there is one answer to both.
func (s *Set) mixes(tx *mail.Transaction, g grant) bool {
	to := tx.Envelope.Recipients
	if len(to) == 0 || len(s.tenants) == 0 {
		return false
	}
	first, _ := s.grants(tx.Session, to[0].Address, nil)
	return (first.tenant == nil) != (g.tenant == nil)
}

// unproven refuses a message of a shared provider that does not prove whose it
// is, where that is what lets it pass. ok is false where nothing is wrong.
func (s *Set) unproven(tx *mail.Transaction) (v mail.Verdict, ok bool) {
	if len(s.tenants) == 0 || tx.Session.Via != mail.ViaSMTP {
		return v, false
	}
	needs := slices.ContainsFunc(tx.Envelope.Recipients, func(r mail.Path) bool {
		g, _ := s.grants(tx.Session, r.Address, nil)
		return g.tenant != nil
	})
	if !needs {
		return v, false
	}
	var reasons []string
	unsure := len(tx.Find(mail.FindingFailed)) > 0 // who failed may have had the proof
	ip := clientOf(tx.Session).Addr
	for i := range s.tenants {
		t := &s.tenants[i]
		if !slices.ContainsFunc(t.Networks, func(n netip.Prefix) bool { return n.Contains(ip) }) {
			continue
		}
		why, unknown := t.lacks(tx, s.hostname)
		if why == "" {
			return v, false
		}
		unsure = unsure || unknown
		reasons = append(reasons, "relay.tenant."+t.name+": "+why)
	}
	reason := strings.Join(reasons, "; ")
	if unsure {
		return denied(mail.Reply{Code: 451, Detail: "7.1", Text: "Whose message this is can't be told now"}, reason), true
	}
	return denied(mail.Reply{Code: 550, Detail: "7.1", Text: "Relaying denied: this message is of no tenant that may send here"}, reason), true
}

// lacks says what a message does not prove, "" for nothing; unknown is whether
// it may prove it at another time.
func (t *tenant) lacks(tx *mail.Transaction, hostname string) (why string, unknown bool) {
	if t.Header != "" {
		value := tx.Message.Header.Get(t.Header)
		is := func(v string) bool { return strings.EqualFold(v, value) }
		switch n := tx.Message.Header.Count(t.Header); {
		case n != 1:
			return fmt.Sprintf("%d fields %s", n, t.Header), false
		case !slices.ContainsFunc(t.Values, is):
			return t.Header + " is " + strconv.Quote(clip(value)), false
		}
	}
	if len(t.DKIM) > 0 && !signed(tx.Message.Header, hostname, t.DKIM) {
		if ok, known := signedBy(tx.Findings, mail.FindingDKIM, "header.d", t.DKIM); !ok {
			return "no signature of " + strings.Join(t.DKIM, ", "), !known
		}
	}
	if len(t.ARC) > 0 {
		if ok, known := signedBy(tx.Findings, mail.FindingARC, "policy.sealer", t.ARC); !ok {
			return "no chain sealed by " + strings.Join(t.ARC, ", "), !known
		}
	}
	return "", false
}

func clip(s string) string { return mail.CleanText(s[:min(len(s), 80)]) }

// signed reports whether one of the domains has signed the message, by what a
// filter of ours has noted. A forged note in our name was taken out before.
func signed(h mail.Header, hostname string, domains []string) bool {
	for _, f := range h {
		if !f.Is("Authentication-Results") {
			continue
		}
		parts, ok := resultParts(f.Value())
		if !ok || len(parts) == 0 || len(parts[0]) == 0 || !strings.EqualFold(parts[0][0], hostname) {
			continue
		}
		for _, words := range parts[1:] {
			if len(words) > 0 && strings.EqualFold(words[0], "dkim=pass") && slices.ContainsFunc(words, func(w string) bool {
				name, d, _ := strings.Cut(w, "=")
				return strings.EqualFold(name, "header.d") && slices.Contains(domains, strings.ToLower(mail.ASCIIDomain(d)))
			}) {
				return true
			}
		}
	}
	return false
}

// resultParts splits Authentication-Results at its semicolons, and each part
// into words, without comments (RFC 8601 2.2). A value with a quoted string is
// not read: what we look for needs none.
func resultParts(value string) (parts [][]string, ok bool) {
	var b strings.Builder
	depth := 0
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case c == '\\':
			i++
		case c == '(':
			depth++
		case c == ')':
			depth--
			b.WriteByte(' ')
		case c == '"' && depth == 0:
			return nil, false
		case depth == 0:
			b.WriteByte(c)
		}
		if depth < 0 {
			return nil, false
		}
	}
	if depth != 0 {
		return nil, false
	}
	for part := range strings.SplitSeq(b.String(), ";") {
		parts = append(parts, strings.Fields(part))
	}
	return parts, true
}
