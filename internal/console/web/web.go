// Package web is the console: pages made on the server, over the API that the
// commands use. It knows nothing that the API does not tell whoever is logged
// in.
package web

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"gatepost/internal/console"
	"gatepost/internal/console/audit"
	"gatepost/internal/users"
)

// Config of the pages.
type Config struct {
	Hostname string // for the title
	Secure   bool   // the listener has TLS: cookies go nowhere else
}

// Deps is what the pages work with.
type Deps struct {
	API http.Handler // of console.Control
	// Accounts knows who may log in; nil: nobody yet.
	Accounts Accounts
	Throttle *users.Throttle
	Audit    *audit.Log // of logins; nil: none. The API keeps the rest
	Log      *slog.Logger
}

// Server is the console.
type Server struct {
	cfg      Config
	deps     Deps
	api      *console.Client
	views    views
	sessions *sessions
	mux      *http.ServeMux
	pages    []page
}

// New makes the console. It does no I/O and starts nothing.
func New(cfg Config, deps Deps) (*Server, error) {
	s := &Server{cfg: cfg, deps: deps, api: console.ClientOf(deps.API), sessions: newSessions(), mux: http.NewServeMux(), pages: allPages()}
	var err error
	if s.views, err = parseViews(s.pages); err != nil {
		return nil, fmt.Errorf("console: pages: %w", err)
	}
	s.mux.HandleFunc("GET /static/{file}", static)
	s.mux.HandleFunc("GET /login", s.loginForm)
	s.mux.HandleFunc("POST /login", s.login)
	s.mux.HandleFunc("POST /logout", s.loggedIn(s.logout))
	s.mux.HandleFunc("/api/v1/", s.loggedIn(s.passOn))
	s.mux.HandleFunc("GET /reports.csv", s.loggedIn(s.reportCSV))
	s.mux.HandleFunc("GET /content/{id}/html", s.loggedIn(s.contentHTML))
	s.mux.HandleFunc("GET /content/{id}/raw", s.loggedIn(s.contentRaw))
	s.mux.HandleFunc("POST /test/judge", s.loggedIn(s.trial))
	s.mux.HandleFunc("POST /rules/rehearse/run", s.loggedIn(s.rehearse))
	for _, p := range s.pages {
		s.mux.HandleFunc("GET "+p.path, s.loggedIn(s.show(p)))
		for name, do := range p.posts {
			s.mux.HandleFunc("POST "+strings.TrimSuffix(strings.TrimSuffix(p.path, "{$}"), "/")+"/"+name, s.loggedIn(s.act(p, do)))
		}
	}
	return s, nil
}

// maxForm is room for a message that is pasted into a form; a stranger has a name
// and a password to say.
const (
	maxForm     = 32 << 20
	maxStranger = 16 << 10
)

// Handler is all pages, with what guards them. Requests that other sites made a
// browser send end here.
func (s *Server) Handler() http.Handler {
	guarded := http.NewCrossOriginProtection().Handler(s.mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if s.cfg.Secure {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		room := int64(maxStranger)
		if _, ok := s.sessions.find(s.keyOf(r)); ok {
			room = maxForm
		}
		r.Body = http.MaxBytesReader(w, r.Body, room)
		guarded.ServeHTTP(w, r)
	})
}

// longAnswer is how long a slow client may take over a large message or list.
const longAnswer = 10 * time.Minute

// passOn gives a request to the API, for programs that log in as users do.
func (s *Server) passOn(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead && !s.hasHeaderToken(r) {
		http.Error(w, `{"error":"the header X-CSRF-Token is missing or wrong"}`, http.StatusForbidden)
		return
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(longAnswer))
	http.StripPrefix("/api", s.deps.API).ServeHTTP(w, r)
}

// codeOf is the status of a page for an error of the API.
func codeOf(err error) int {
	var refused *console.Refusal
	var wrong *badInput
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &wrong):
		return http.StatusBadRequest
	case errors.As(err, &tooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.As(err, &refused) && refused.Status != 0:
		return refused.Status
	}
	return http.StatusInternalServerError
}

// badInput is a mistake of the user, told as it is.
type badInput struct{ text string }

func (e *badInput) Error() string { return e.text }

var errOldForm = &badInput{"This form is too old, or not of this console. Go back, load the page again, and repeat what you did."}
