package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"gatepost/internal/mail"
)

// Server accepts mail on one listener.
type Server struct {
	deps     Deps
	store    store
	log      *slog.Logger
	settings atomic.Pointer[settings]
	listener net.Listener
	buffers  sync.Pool // of *[bigBuffer]byte
	places   occupancy
	repeats  repeats

	mu        sync.Mutex
	sessions  map[*session]struct{}
	stopping  bool
	refused   int // connections, since the last line about them
	refusedAt time.Time
}

// settings is what a session is held to from its beginning to its end.
type settings struct {
	Config
	tls        *tls.Config // nil: no STARTTLS
	certs      clientCerts
	postmaster mail.Address
}

// New checks the configuration. It does no I/O.
func New(cfg Config, deps Deps) (*Server, error) {
	if deps.NewHandler == nil || deps.Spool == nil || deps.Log == nil {
		return nil, errors.New("proxy: a handler, a spool and a log are needed")
	}
	return newServer(cfg, deps, spoolStore{deps.Spool})
}

func newServer(cfg Config, deps Deps, st store) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	if deps.Queue == nil {
		deps.Queue = noQueue{}
	}
	if deps.Resolver == nil {
		deps.Resolver = noNames{}
	}
	if deps.Throttle == nil {
		deps.Throttle = noThrottle{}
	}
	if deps.Stats == nil {
		deps.Stats = noStats{}
	}
	s := &Server{
		deps:     deps,
		store:    st,
		log:      deps.Log.With("listener", cfg.Name),
		sessions: make(map[*session]struct{}),
	}
	s.buffers.New = func() any { return new([bigBuffer]byte) }
	s.settings.Store(&settings{Config: cfg})
	return s, nil
}

// Listen reads the certificate and opens the listening socket.
func (s *Server) Listen() error {
	cfg := s.settings.Load().Config
	if err := s.take(cfg); err != nil {
		return err
	}
	// Dead peers are found by our own deadlines: no keep-alive.
	lc := net.ListenConfig{KeepAlive: -1}
	l, err := lc.Listen(context.Background(), "tcp", cfg.Address)
	if err != nil {
		return fmt.Errorf("proxy: listener %s: %w", cfg.Name, err)
	}
	s.listener = l
	return nil
}

// Addr is where the server listens; nil before Listen.
func (s *Server) Addr() net.Addr {
	if s.listener == nil {
		return nil
	}
	return s.listener.Addr()
}

// Update takes a new configuration for the connections to come, and reads the
// certificate again. Name, address and role stay.
func (s *Server) Update(cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("proxy: %w", err)
	}
	old := s.settings.Load()
	if cfg.Name != old.Name || cfg.Address != old.Address || cfg.Role != old.Role {
		return fmt.Errorf("proxy: listener %s: name, address and role need a restart", old.Name)
	}
	return s.take(cfg)
}

func (s *Server) take(cfg Config) error {
	set := &settings{Config: cfg, postmaster: cfg.Postmaster}
	if set.postmaster.IsNull() {
		domain, err := mail.ParseDomain(cfg.Hostname)
		if err != nil {
			return fmt.Errorf("proxy: listener %s: hostname: %w", cfg.Name, err)
		}
		set.postmaster = mail.Address{Local: "postmaster", Domain: domain}
	}
	if cfg.Certificate != "" {
		cert, err := tls.LoadX509KeyPair(cfg.Certificate, cfg.Key)
		if err != nil {
			return fmt.Errorf("proxy: listener %s: certificate: %w", cfg.Name, err)
		}
		set.tls = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
		if set.certs, err = newClientCerts(cfg); err != nil {
			return fmt.Errorf("proxy: listener %s: %w", cfg.Name, err)
		}
		set.certs.ask(set.tls)
	}
	if len(cfg.Auth) != len(cfg.Sources) {
		return fmt.Errorf("proxy: listener %s: auth names %d sources of users, there are %d", cfg.Name, len(cfg.Auth), len(cfg.Sources))
	}
	s.settings.Store(set)
	return nil
}

// lastWords is how long sessions that the grace time did not suffice for may
// take to say so, before their connections are closed.
const lastWords = 2 * time.Second

// Run accepts mail until ctx ends. Then sessions that wait for a command are
// told to come again; messages on their way in have the grace time, and their
// clients are told to come again after it. It returns when all sessions have
// ended.
func (s *Server) Run(ctx context.Context) error {
	if s.listener == nil {
		if err := s.Listen(); err != nil {
			return err
		}
	}
	hard, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	var accepting, sessions sync.WaitGroup
	accepting.Go(func() { s.accept(ctx, hard, &sessions) })
	<-ctx.Done()
	_ = s.listener.Close() // we are done with it either way
	accepting.Wait()
	s.stopSessions()
	ended := make(chan struct{})
	go func() {
		sessions.Wait()
		close(ended)
	}()
	grace := time.NewTimer(s.settings.Load().Grace)
	defer grace.Stop()
	select {
	case <-ended:
		return nil
	case <-grace.C:
	}
	cut()
	s.cutSessions()
	grace.Reset(lastWords)
	select {
	case <-ended:
	case <-grace.C:
		s.closeSessions()
		<-ended
	}
	return nil
}

// Backoff of accept, when the process is short of files or memory.
const (
	firstWait = 5 * time.Millisecond
	maxWait   = time.Second
)

// accept starts a session for each connection until ctx ends. No error of the
// listener ends it.
func (s *Server) accept(ctx, hard context.Context, sessions *sync.WaitGroup) {
	wait := firstWait
	for ctx.Err() == nil {
		conn, err := s.listener.Accept()
		if err == nil {
			wait = firstWait
			s.admit(hard, conn, sessions)
			continue
		}
		if ctx.Err() != nil {
			return
		}
		s.log.Error("accept", "error", err, "wait", wait)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, maxWait)
	}
}

// admit starts a session, if there is a place for it.
func (s *Server) admit(hard context.Context, conn net.Conn, sessions *sync.WaitGroup) {
	set := s.settings.Load()
	client := clientAddr(conn)
	limits, trusted := set.Limits, isTrusted(set.Trusted, client.Addr())
	if isTrusted(set.ProxyProtocol, client.Addr()) { // it speaks for others, who are counted when they are known
		limits.MaxConnectionsPerClient, trusted = limits.MaxConnections, false
	}
	if result := s.places.enter(client.Addr(), trusted, limits); result != connAccepted {
		s.deps.Stats.Connection(set.Name, result)
		s.logRefused(client.Addr(), result)
		refuseConn(conn, set.Role)
		return
	}
	sessions.Go(func() {
		ses := s.newSession(set, conn, client, trusted)
		defer func() { s.places.leave(ses.place) }() // whose place that is may change
		s.deps.Stats.Active(set.Name, 1)
		defer s.deps.Stats.Active(set.Name, -1)
		ctx, cancel := context.WithCancel(hard)
		defer cancel()
		s.enlist(ses)
		defer s.dismiss(ses)
		ses.serve(ctx)
	})
}

func (s *Server) newSession(set *settings, conn net.Conn, client netip.AddrPort, trusted bool) *session {
	now := time.Now()
	ses := &session{
		wire:  newWire(conn, &s.buffers, set.Limits),
		set:   set,
		deps:  &s.deps,
		store: s.store,
		log:   s.log,

		repeats: &s.repeats,
		places:  &s.places,
		place:   client.Addr(),

		noteRefused: s.logRefused,
		facts: &mail.Session{
			ID:       mail.NewID(now),
			Listener: set.Name,
			Role:     string(set.Role),
			Via:      mail.ViaSMTP,
			Client:   client,
			Trusted:  trusted,
			Start:    now,
		},
		client: clientName("", client.Addr()),
	}
	ses.base.Session = ses.facts
	ses.base.Start = now
	return ses
}

// logRefused notes at most one refused connection a second: a flood of them
// must not become one of the log.
func (s *Server) logRefused(client netip.Addr, result string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused++
	if now := time.Now(); now.Sub(s.refusedAt) >= time.Second {
		s.log.Info("closed", "client", clientName("", client), "cause", result, "count", s.refused)
		s.refused, s.refusedAt = 0, now
	}
}

// refuseConn turns a connection away without spending anything on it: the reply
// fits into the buffer of a fresh socket.
func refuseConn(conn net.Conn, role Role) {
	if role != Submissions && conn.SetWriteDeadline(time.Now().Add(100*time.Millisecond)) == nil {
		_, _ = conn.Write(closing("3.2", "too many connections").Wire())
	}
	_ = conn.Close()
}

func isTrusted(networks []netip.Prefix, ip netip.Addr) bool {
	for _, n := range networks {
		if n.Contains(ip) {
			return true
		}
	}
	return false
}

func (s *Server) enlist(ses *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions[ses] = struct{}{}
	if s.stopping {
		ses.stop()
	}
}

func (s *Server) dismiss(ses *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, ses)
}

func (s *Server) stopSessions() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopping = true
	for ses := range s.sessions {
		ses.stop()
	}
}

func (s *Server) cutSessions() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ses := range s.sessions {
		ses.cut()
	}
}

func (s *Server) closeSessions() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ses := range s.sessions {
		_ = ses.raw.Close() // its session notices
	}
}
