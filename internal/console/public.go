// Package console is what people and machines see of a running gateway: health
// and metrics over HTTP, and the control API on a unix socket, with its client.
package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Config of the HTTP listener.
type Config struct {
	// Address is the host and port of health checks and metrics,
	// "127.0.0.1:8025". Empty: there is no listener.
	Address string `toml:"address"`
}

// DefaultConfig has no listener.
func DefaultConfig() Config { return Config{} }

// Deps is what the HTTP listener shows.
type Deps struct {
	// Ready returns why the gateway can't take mail now, nil when it can.
	Ready   func() error
	Metrics http.Handler
	Log     *slog.Logger
}

// Public is the HTTP listener for health checks and metrics. It needs no
// password because it shows nothing of any mail.
type Public struct {
	address  string
	listener net.Listener
	server   *http.Server
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
	mux.Handle("GET /metrics", deps.Metrics)
	return &Public{address: cfg.Address, server: newServer(mux, deps.Log)}, nil
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
