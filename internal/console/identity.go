package console

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"gatepost/internal/mail"
)

// Capability is what a request needs its user to be allowed.
type Capability string

// The capabilities.
const (
	ViewMail     Capability = "view mail"             // who wrote to whom, when, what became of it
	ViewContent  Capability = "view content"          // header and body
	ActQueue     Capability = "act on the queue"      // retry, hold, delete, bounce
	ActHeld      Capability = "act on the quarantine" // release, delete, learn
	ApproveHeld  Capability = "approve"               // release viruses and banned files
	ViewSystem   Capability = "view the system"       // filters, rules, settings, figures of all domains
	EditRules    Capability = "edit rules"
	AdministerIt Capability = "administer" // reload, users, state, audit
)

// Role is what a user is.
type Role string

// The roles.
const (
	Admin    Role = "admin"
	Security Role = "security" // rules, quarantine and content, but no queue and no users
	Helpdesk Role = "helpdesk" // mail and quarantine, of its own domains
	Viewer   Role = "viewer"   // looks on
)

// Roles lists all of them.
func Roles() []Role { return []Role{Admin, Security, Helpdesk, Viewer} }

// Validate refuses what is no role.
func (r Role) Validate() error {
	if slices.Contains(Roles(), r) {
		return nil
	}
	return fmt.Errorf("%q is no role; write one of admin, security, helpdesk, viewer", string(r))
}

// May reports whether the role has a capability.
func (r Role) May(c Capability) bool {
	switch r {
	case Admin:
		return true
	case Security:
		return c != ActQueue && c != AdministerIt
	case Helpdesk:
		return c == ViewMail || c == ViewContent || c == ActHeld
	case Viewer:
		return c == ViewMail || c == ViewSystem
	}
	return false
}

// Identity is who asks.
type Identity struct {
	Name    string
	Role    Role
	Domains []string // of recipients whose mail it may see; none: of all
	From    string   // where it asks from, for the audit
}

// May reports whether this one has a capability. Who sees the mail of some domains
// only has none that is about all of them.
func (id Identity) May(c Capability) bool {
	switch c {
	case ViewMail, ViewContent, ActHeld, ApproveHeld:
		return id.Role.May(c)
	}
	return id.Role.May(c) && id.SeesAll()
}

// root is whoever may open the control socket.
var root = Identity{Name: "root", Role: Admin, From: "control socket"}

type identityKey struct{}

// WithIdentity lets the requests of ctx be those of id.
func WithIdentity(ctx context.Context, id Identity) context.Context {
	return context.WithValue(ctx, identityKey{}, id)
}

// IdentityOf is who asks. Without one it is nobody, who may do nothing.
func IdentityOf(ctx context.Context) Identity {
	id, _ := ctx.Value(identityKey{}).(Identity)
	return id
}

// SeesAll reports whether mail of every domain may be seen.
func (id Identity) SeesAll() bool { return id.Role != Helpdesk && len(id.Domains) == 0 }

// Sees reports whether mail for one of these recipients may be seen. A helpdesk
// without domains sees none.
func (id Identity) Sees(recipients ...string) bool {
	return id.SeesAll() || slices.ContainsFunc(recipients, id.SeesRecipient)
}

// SeesRecipient reports whether a recipient is of one of the domains; ".domain"
// is all below it.
func (id Identity) SeesRecipient(recipient string) bool {
	a, err := mail.ParseAddress(strings.Trim(recipient, "<>"), true)
	if err != nil {
		return id.SeesAll()
	}
	domain := strings.ToLower(a.ASCIIDomain())
	return id.SeesAll() || slices.ContainsFunc(id.Domains, func(d string) bool {
		d = strings.ToLower(d)
		return domain == d || strings.HasPrefix(d, ".") && strings.HasSuffix(domain, d)
	})
}

// local reports whether it is who may open the control socket.
func (id Identity) local() bool { return id.From == root.From }

// route registers a handler for those who have a capability. All of the API is
// registered so, and what changes something, or shows content, is kept in the
// audit.
func (c *Control) route(pattern string, needs Capability, h http.HandlerFunc) {
	route := Route{pattern, needs}
	c.routes = append(c.routes, route)
	c.mux.HandleFunc(pattern, c.keep(route, func(w http.ResponseWriter, r *http.Request) {
		if id := IdentityOf(r.Context()); !id.May(needs) {
			forbid(id, needs)(w, r)
			return
		}
		h(w, r)
	}))
}

// Route is one entry of the API.
type Route struct {
	Pattern string // as of http.ServeMux
	Needs   Capability
}

// Routes lists the API.
func (c *Control) Routes() []Route { return slices.Clone(c.routes) }

// asRoot makes everybody root who comes over the socket.
func asRoot(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r.WithContext(WithIdentity(r.Context(), root)))
	})
}

// Handler is the API for whoever the context of a request says (WithIdentity).
func (c *Control) Handler() http.Handler { return c.mux }
