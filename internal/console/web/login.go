package web

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"gatepost/internal/console"
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
		switch {
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
	s.setCookie(w, s.sessions.begin(id), absolute)
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
	http.Redirect(w, r, "/login", http.StatusSeeOther)
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
