package web

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"sync"
	"time"

	"gatepost/internal/console"
	"gatepost/internal/users"
)

// How long somebody stays logged in, and how many at a time.
const (
	idle        = 30 * time.Minute
	absolute    = 12 * time.Hour
	maxSessions = 1000
)

// How much one session may ask for: so many requests at once, and so many each
// second.
const (
	burst = 200
	rate  = 20
)

// session is somebody who is logged in.
type session struct {
	id    console.Identity
	as    users.Account // what the account was at the login
	left  float64       // requests that may come at once
	asked time.Time     // when left was right
	token string        // that forms must carry
	began time.Time
	seen  time.Time
	flash string // what the next page says first
}

// sessions are kept in memory: after a restart everybody logs in again.
type sessions struct {
	mu  sync.Mutex
	all map[string]*session
	now func() time.Time
}

func newSessions() *sessions { return &sessions{all: make(map[string]*session), now: time.Now} }

// secret is a value that nobody guesses.
func secret() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

// begin makes a session. When there are too many, the one that was idle longest
// ends.
func (s *sessions) begin(id console.Identity, as users.Account) (key string) {
	key = secret()
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	oldest := ""
	for k, other := range s.all {
		if other.over(now) {
			delete(s.all, k)
		} else if oldest == "" || other.seen.Before(s.all[oldest].seen) {
			oldest = k
		}
	}
	if len(s.all) >= maxSessions {
		delete(s.all, oldest)
	}
	s.all[key] = &session{id: id, as: as, token: secret(), began: now, seen: now, left: burst, asked: now}
	return key
}

func (s *session) over(now time.Time) bool {
	return now.Sub(s.seen) > idle || now.Sub(s.began) > absolute
}

// find returns who is logged in with a key.
func (s *sessions) find(key string) (session, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.all[key]
	if found == nil || found.over(s.now()) {
		delete(s.all, key)
		return session{}, false
	}
	return *found, true
}

// use takes one request off what a session may ask for; a refresh that nobody
// asked for does not keep it alive.
func (s *sessions) use(key string, refresh bool) (ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.all[key]
	if found == nil {
		return false
	}
	now := s.now()
	found.left = min(burst, found.left+rate*now.Sub(found.asked).Seconds())
	found.asked = now
	if !refresh {
		found.seen = now
	}
	if found.left < 1 {
		return false
	}
	found.left--
	return true
}

// isRefresh reports whether the page asked by itself.
func isRefresh(r *http.Request) bool { return r.Header.Get("X-Refresh") != "" }

func (s *sessions) end(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, key)
}

// count is how many sessions each user has.
func (s *sessions) count() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	open := make(map[string]int)
	for _, one := range s.all {
		if !one.over(s.now()) {
			open[one.id.Name]++
		}
	}
	return open
}

// say lets the next page begin with a line; takeFlash takes it.
func (s *sessions) say(key, line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if found := s.all[key]; found != nil {
		found.flash = line
	}
}

func (s *sessions) takeFlash(key string) (line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if found := s.all[key]; found != nil {
		line, found.flash = found.flash, ""
	}
	return line
}

// endUser ends all sessions of a user.
func (s *sessions) endUser(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, other := range s.all {
		if other.id.Name == name {
			delete(s.all, k)
		}
	}
}

// cookieName: with the prefix browsers take the cookie over TLS only, for this
// host and all of it (RFC 6265bis 4.1.3).
func (s *Server) cookieName() string {
	if s.cfg.Secure {
		return "__Host-gatepost"
	}
	return "gatepost"
}

func (s *Server) setCookie(w http.ResponseWriter, value string, age time.Duration) {
	http.SetCookie(w, &http.Cookie{
		Name: s.cookieName(), Value: value, Path: "/", MaxAge: int(age.Seconds()),
		HttpOnly: true, Secure: s.cfg.Secure, SameSite: http.SameSiteStrictMode,
	})
}

func (s *Server) keyOf(r *http.Request) string {
	c, err := r.Cookie(s.cookieName())
	if err != nil {
		return ""
	}
	return c.Value
}

// hasToken reports whether a request carries the token of its session.
func (s *Server) hasToken(r *http.Request) bool {
	return s.hasHeaderToken(r) || s.isToken(r, r.FormValue("token"))
}

// hasHeaderToken is hasToken for requests whose body is no form: it is left alone.
func (s *Server) hasHeaderToken(r *http.Request) bool {
	return s.isToken(r, r.Header.Get("X-CSRF-Token"))
}

func (s *Server) isToken(r *http.Request, given string) bool {
	in, ok := s.sessions.find(s.keyOf(r))
	return ok && subtle.ConstantTimeCompare([]byte(given), []byte(in.token)) == 1
}
