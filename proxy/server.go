package proxy

import (
	"context"
	"net"
)

// Server accepts mail on one listener.
type Server struct{}

// New checks the configuration. It does no I/O.
func New(cfg Config, deps Deps) (*Server, error) { panic("proxy") }

// Listen reads the certificate and opens the listening socket.
func (s *Server) Listen() error { panic("proxy") }

// Addr is where the server listens; nil before Listen.
func (s *Server) Addr() net.Addr { panic("proxy") }

// Run accepts mail until ctx ends. It returns when all sessions have ended.
func (s *Server) Run(ctx context.Context) error { panic("proxy") }

// Update takes a new configuration for the connections to come.
func (s *Server) Update(cfg Config) error { panic("proxy") }
