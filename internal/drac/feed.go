package drac

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	"gatepost/internal/unixsocket"
)

// feed takes windows by HTTP over a unix socket.
type feed struct {
	listener net.Listener
	server   *http.Server
}

const (
	feedTimeout = 10 * time.Second
	maxForm     = 4 << 10
)

func listenFeed(s *Server) (*feed, error) {
	mode, err := s.cfg.mode()
	if err != nil {
		return nil, err
	}
	l, err := unixsocket.Listen(s.cfg.Socket, func(file string) error { return os.Chmod(file, mode) })
	if err != nil {
		return nil, fmt.Errorf("drac: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /", s.take)
	return &feed{l, &http.Server{
		Handler: mux, ReadTimeout: feedTimeout, WriteTimeout: feedTimeout, IdleTimeout: feedTimeout, MaxHeaderBytes: 8 << 10,
	}}, nil
}

// take is one POST with the form field addr.
func (s *Server) take(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	addr, err := netip.ParseAddr(r.PostFormValue("addr"))
	if err == nil {
		err = s.add(r.Context(), addr.Unmap(), "socket")
	} else {
		err = errNoHost
	}
	switch {
	case errors.Is(err, errNoHost):
		http.Error(w, "addr: want the address of a host, like 192.0.2.1", http.StatusBadRequest)
	case err != nil:
		http.Error(w, "the window could not be recorded", http.StatusServiceUnavailable)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

func (f *feed) run(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = f.server.Serve(f.listener) // ends with close
	}()
	<-ctx.Done()
	f.close()
	<-done
}

func (f *feed) close() {
	_ = f.server.Close()
	_ = f.listener.Close()
}
