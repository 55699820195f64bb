package recipients

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// session is a connection to a directory, used by one at a time.
type session struct {
	*ldap.Conn
	guard *guard
}

// open connects to the first server that answers, and says who we are.
func (d *directory) open(ctx context.Context) (*session, error) {
	var errs []error
	for _, u := range d.cfg.Servers {
		s, err := d.dial(ctx, u)
		if err == nil {
			return s, nil
		}
		errs = append(errs, fmt.Errorf("ldap: %s: %w", u, err))
	}
	return nil, errors.Join(errs...)
}

func (d *directory) dial(ctx context.Context, address string) (*session, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Timeout)
	defer cancel()
	network, at := "tcp", u.Host
	switch {
	case u.Scheme == "ldapi":
		network, at = "unix", u.Path
	case u.Port() == "" && u.Scheme == "ldaps":
		at = net.JoinHostPort(u.Hostname(), "636")
	case u.Port() == "":
		at = net.JoinHostPort(u.Hostname(), "389")
	}
	raw, err := new(net.Dialer).DialContext(ctx, network, at)
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	if err := raw.SetReadDeadline(deadline); err != nil { // until we are known there
		return nil, errors.Join(err, raw.Close())
	}
	g := &guard{Conn: raw, patience: d.cfg.Timeout}
	g.left.Store(maxAnswer)
	secure := d.tls.Clone()
	secure.ServerName = u.Hostname()
	var conn net.Conn = g
	if u.Scheme == "ldaps" {
		tc := tls.Client(g, secure)
		if err := tc.HandshakeContext(ctx); err != nil {
			return nil, errors.Join(err, raw.Close())
		}
		conn = tc
	}
	c := ldap.NewConn(conn, u.Scheme == "ldaps")
	c.SetTimeout(d.cfg.Timeout)
	c.Start()
	s := &session{Conn: c, guard: g}
	if err := d.introduce(s, secure, raw); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (d *directory) introduce(s *session, secure *tls.Config, raw net.Conn) error {
	if d.cfg.StartTLS {
		if err := s.StartTLS(secure); err != nil {
			return fmt.Errorf("starttls: %w", err)
		}
	}
	if d.cfg.BindDN != "" {
		if err := s.Bind(d.cfg.BindDN, d.secret); err != nil {
			return fmt.Errorf("bind: %w", ungraded(err))
		}
	}
	return raw.SetReadDeadline(time.Time{}) // each question has its own
}

// ungraded is an error that is no answer to a question: a bind that is refused
// says nothing of recipients.
func ungraded(err error) error { return errors.New(err.Error()) }

// search asks once. What comes may have so many bytes.
func (s *session) search(r *ldap.SearchRequest, max int64) (*ldap.SearchResult, error) {
	s.guard.left.Store(max)
	return s.Search(r)
}

// close ends a session, if there is one.
func (s *session) close() {
	if s != nil {
		_ = s.guard.Conn.Close() // first: nothing waits for the peer then
		_ = s.Conn.Close()
	}
}

// guard keeps a server from making us wait for a write, or remember what it
// sends without end.
type guard struct {
	net.Conn
	patience time.Duration
	left     atomic.Int64 // bytes that may come
}

var errTooMuch = errors.New("ldap: the answer is too large")

func (g *guard) Read(b []byte) (int, error) {
	if g.left.Load() <= 0 {
		return 0, errTooMuch
	}
	n, err := g.Conn.Read(b)
	g.left.Add(-int64(n))
	return n, err
}

func (g *guard) Write(b []byte) (int, error) {
	if err := g.SetWriteDeadline(time.Now().Add(g.patience)); err != nil {
		return 0, err
	}
	return g.Conn.Write(b)
}

// SetDeadline and SetReadDeadline are ours.
func (g *guard) SetDeadline(time.Time) error     { return nil }
func (g *guard) SetReadDeadline(time.Time) error { return nil }

// pause keeps a server that does not answer from costing every client its
// timeout.
type pause struct {
	max time.Duration

	mu       sync.Mutex
	failures int
	until    time.Time
	why      error
}

// left is an error while the pause lasts. Who comes first behind it is the
// probe: the others wait a little longer.
func (p *pause) left(now time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failures == 0 {
		return nil
	}
	if now.Before(p.until) {
		return fmt.Errorf("left alone for %v: %w", p.until.Sub(now).Round(time.Second), p.why)
	}
	p.until = now.Add(time.Second)
	return nil
}

func (p *pause) failed(now time.Time, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failures++
	p.until, p.why = now.Add(min(time.Second<<min(p.failures-1, 20), p.max)), ungraded(err)
}

func (p *pause) ended() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failures, p.until, p.why = 0, time.Time{}, nil
}
