package web

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"reflect"
	"strings"

	"gatepost/internal/console"
	"gatepost/internal/console/audit"
	"gatepost/internal/users"
)

// Accounts knows who may log in, and as what. users.File has it.
type Accounts interface {
	users.Source
	Account(name string) users.Account
}

// loggedIn serves those who are, and sends all others to the login.
func (s *Server) loggedIn(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		in, ok := s.sessions.find(s.keyOf(r))
		if ok && !s.still(in) {
			s.sessions.endUser(in.id.Name)
			ok = false
		}
		switch {
		case ok && !s.sessions.use(s.keyOf(r), isRefresh(r)):
			w.Header().Set("Retry-After", "5")
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusTooManyRequests)
			_, _ = w.Write([]byte(`{"error":"too many requests; wait some seconds"}` + "\n"))
		case ok:
			h(w, r.WithContext(console.WithIdentity(r.Context(), in.id)))
		case strings.HasPrefix(r.URL.Path, "/api/"):
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = w.Write([]byte(`{"error":"not logged in"}` + "\n"))
		case r.Method == http.MethodGet:
			http.Redirect(w, r, "/login?to="+url.QueryEscape(r.URL.RequestURI()), http.StatusSeeOther)
		default:
			http.Redirect(w, r, "/login", http.StatusSeeOther)
		}
	}
}

// still reports whether the account is what it was at the login: password, role
// and domains.
func (s *Server) still(in session) bool {
	return reflect.DeepEqual(s.deps.Accounts.Account(in.id.Name), in.as)
}

// loginPage is what the login shows.
type loginPage struct {
	To, Name, Why string
	Nobody        bool // there are no users yet
}

func (s *Server) loginForm(w http.ResponseWriter, r *http.Request) {
	s.views.login(w, http.StatusOK, s.cfg.Hostname, loginPage{To: ownPath(r.FormValue("to")), Nobody: s.deps.Accounts == nil})
}

// ownPath keeps a link from leading elsewhere after the login.
func ownPath(to string) string {
	if !strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") || strings.ContainsAny(to, "\\\r\n\t") || strings.HasPrefix(to, "/login") {
		return "/"
	}
	return to
}

func (s *Server) login(w http.ResponseWriter, r *http.Request) {
	p := loginPage{To: ownPath(r.FormValue("to")), Name: r.FormValue("name"), Nobody: s.deps.Accounts == nil}
	if p.Nobody {
		s.views.login(w, http.StatusForbidden, s.cfg.Hostname, p)
		return
	}
	id, why := s.verify(r.Context(), clientOf(r), p.Name, r.FormValue("password"))
	if why != "" {
		p.Why = why
		s.views.login(w, http.StatusForbidden, s.cfg.Hostname, p)
		return
	}
	s.sessions.end(s.keyOf(r)) // nobody goes on with a key that somebody else may know
	s.setCookie(w, s.sessions.begin(id, s.deps.Accounts.Account(id.Name)), absolute)
	s.note(id, "login")
	http.Redirect(w, r, p.To, http.StatusSeeOther)
}

// verify says who logs in, or why not. Who guesses is told no more than that it
// was wrong, after as long a time as it takes for a user who is there.
func (s *Server) verify(ctx context.Context, client netip.Addr, name, password string) (id console.Identity, why string) {
	if s.deps.Throttle != nil && s.deps.Throttle.Refuses(ctx, client, name) != "" {
		s.deps.Log.WarnContext(ctx, "console login refused", "user", name, "client", client.String(), "reason", "too many failed logins")
		return id, "Too many failed logins. Please try again in some minutes."
	}
	known, ok, err := s.deps.Accounts.Verify(ctx, users.Login{User: name, Password: password, Client: client.String()})
	if err != nil {
		s.deps.Log.ErrorContext(ctx, "console login", "user", name, "error", err)
		return id, "Nobody could check the password now. Please try again."
	}
	role := console.Role("")
	if ok {
		a := s.deps.Accounts.Account(known)
		role = console.Role(a.Role)
		id = console.Identity{Name: known, Role: role, Domains: a.Domains, From: client.String()}
		ok = role.Validate() == nil // users who may only send mail have none
	}
	if s.deps.Throttle != nil {
		s.deps.Throttle.Tried(ctx, client, name, ok)
	}
	if !ok {
		s.deps.Log.WarnContext(ctx, "console login failed", "user", name, "client", client.String())
		return console.Identity{}, "The name or the password is wrong."
	}
	s.deps.Log.InfoContext(ctx, "console login", "user", known, "role", string(role), "client", client.String())
	return id, ""
}

func (s *Server) logout(w http.ResponseWriter, r *http.Request) {
	if !s.hasToken(r) {
		http.Error(w, "this form is too old; go back and load the page again", http.StatusForbidden)
		return
	}
	s.sessions.end(s.keyOf(r))
	s.setCookie(w, "", -1)
	s.note(console.IdentityOf(r.Context()), "logout")
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}

// note tells the audit who came and went. Failed logins are in the log alone:
// strangers must not fill the audit.
func (s *Server) note(id console.Identity, what string) {
	if s.deps.Audit == nil {
		return
	}
	if err := s.deps.Audit.Note(audit.Entry{Who: id.Name, Role: string(id.Role), From: id.From, What: what, Result: "done"}); err != nil {
		s.deps.Log.Error("audit not written", "who", id.Name, "what", what, "error", err)
	}
}

// clientOf is the address that a request came from.
func clientOf(r *http.Request) netip.Addr {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	a, _ := netip.ParseAddr(host)
	return a.Unmap()
}
