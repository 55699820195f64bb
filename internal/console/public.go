// Package console is what people and machines see of a running gateway: health
// and metrics over HTTP, and the control API on a unix socket, with its client.
package console

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"sync/atomic"
	"time"
)

// Config of the HTTP listener.
type Config struct {
	// Address is the host and port of the pages, of health checks and metrics,
	// "127.0.0.1:8025". Empty: there is no listener.
	Address string `toml:"address"`
	// Users is the file of those who may log in, made by "gatepost user add
	// --role". Empty: nobody may.
	Users string `toml:"users"`
	// Certificate and Key are PEM files; with them the listener has TLS.
	Certificate string `toml:"tls_cert"`
	Key         string `toml:"tls_key"`
	// Insecure lets users log in without TLS from other hosts, for a proxy that
	// has TLS in front. Default false.
	Insecure bool `toml:"insecure"`
	// Metrics says who gets /metrics: everybody who reaches the address (open,
	// the default), programs on this host (loopback), or nobody (off).
	Metrics Metrics `toml:"metrics"`
	// Audit is the file that keeps who looked at whose mail and who did what.
	// Default: audit.jsonl beside the file of the key state, or in
	// /var/lib/gatepost where that is no file.
	Audit string `toml:"audit"`
}

// Metrics says who gets the metrics.
type Metrics string

// The words for Metrics.
const (
	MetricsOpen     Metrics = "open"
	MetricsLoopback Metrics = "loopback"
	MetricsOff      Metrics = "off"
)

// Validate refuses other words.
func (m Metrics) Validate() error {
	switch m {
	case "", MetricsOpen, MetricsLoopback, MetricsOff:
		return nil
	}
	return fmt.Errorf("metrics: %q is not one of open, loopback, off", string(m))
}

// guard serves the metrics to those who get them.
func (m Metrics) guard(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer, err := netip.ParseAddrPort(r.RemoteAddr)
		if m == MetricsOff || m == MetricsLoopback && (err != nil || !peer.Addr().Unmap().IsLoopback()) {
			http.NotFound(w, r)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// Validate returns all that is wrong with c.
func (c Config) Validate() error {
	var errs []error
	if (c.Certificate == "") != (c.Key == "") {
		errs = append(errs, errors.New("tls_cert and tls_key belong together"))
	}
	if c.Users != "" && c.Address == "" {
		errs = append(errs, errors.New("users: there is no address where they could log in"))
	}
	if c.Users != "" && c.Certificate == "" && !c.Insecure && !isLoopback(c.Address) {
		errs = append(errs, errors.New("users: passwords would cross the network in clear; set tls_cert and tls_key, listen on 127.0.0.1, or write insecure = true where a proxy in front has TLS"))
	}
	errs = append(errs, c.Metrics.Validate())
	if c.Audit != "" && !filepath.IsAbs(c.Audit) {
		errs = append(errs, fmt.Errorf("audit: %q is no absolute path; write one like /var/lib/gatepost/audit.jsonl", c.Audit))
	}
	return errors.Join(errs...)
}

func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip, bad := netip.ParseAddr(host)
	return err == nil && (host == "localhost" || bad == nil && ip.IsLoopback())
}

// DefaultConfig has no listener.
func DefaultConfig() Config { return Config{Metrics: MetricsOpen} }

// Deps is what the HTTP listener shows.
type Deps struct {
	// Ready returns why the gateway can't take mail now, nil when it can.
	Ready   func() error
	Metrics http.Handler
	Held    http.Handler // what links of digests lead to, without login; nil: there are none
	Pages   http.Handler // all other paths; nil: there are none
	Log     *slog.Logger
}

// Public is the HTTP listener for pages, health checks and metrics. The last two
// need no password because they show nothing of any mail.
type Public struct {
	address     string
	listener    net.Listener
	server      *http.Server
	certificate atomic.Pointer[tls.Certificate] // nil: no TLS
}

// NewPublic makes the listener; Listen opens it.
func NewPublic(cfg Config, deps Deps) (*Public, error) {
	if _, _, err := net.SplitHostPort(cfg.Address); err != nil {
		return nil, fmt.Errorf("console: address: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := deps.Ready(); err != nil {
			say(w, http.StatusServiceUnavailable, err.Error())
			return
		}
		say(w, http.StatusOK, "ok")
	})
	mux.Handle("GET /metrics", cfg.Metrics.guard(deps.Metrics))
	if deps.Held != nil {
		mux.Handle("/held/", deps.Held)
	}
	if deps.Pages != nil {
		mux.Handle("/", deps.Pages)
	}
	p := &Public{address: cfg.Address, server: newServer(mux, deps.Log)}
	return p, p.Update(cfg)
}

// Update reads the certificate again. Whether there is one stays as it was.
func (p *Public) Update(cfg Config) error {
	if cfg.Certificate == "" {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(cfg.Certificate, cfg.Key)
	if err != nil {
		return fmt.Errorf("console: certificate: %w", err)
	}
	p.certificate.Store(&pair)
	return nil
}

// newServer sets the limits that both listeners have.
func newServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// say answers with one line of text.
func say(w http.ResponseWriter, code int, line string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, line+"\n") // the client may be gone
}

// Listen opens the listener.
func (p *Public) Listen() error {
	l, err := net.Listen("tcp", p.address)
	if err != nil {
		return fmt.Errorf("console: %w", err)
	}
	p.listener = &bounded{Listener: l, slots: make(chan struct{}, maxConnections)}
	if p.certificate.Load() != nil {
		p.listener = tls.NewListener(p.listener, &tls.Config{
			MinVersion:     tls.VersionTLS12,
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return p.certificate.Load(), nil },
		})
	}
	return nil
}

// Addr is where it listens.
func (p *Public) Addr() net.Addr { return p.listener.Addr() }

// Run serves until ctx ends, then gives running requests a few seconds.
func (p *Public) Run(ctx context.Context) error {
	if err := serve(ctx, p.server, p.listener); err != nil {
		return fmt.Errorf("console: %w", err)
	}
	return nil
}

const stopWithin = 5 * time.Second

func serve(ctx context.Context, s *http.Server, l net.Listener) error {
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
	defer cancel()
	if s.Shutdown(stop) != nil {
		_ = s.Close() // what still runs after the time given is cut
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
