package drac

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Opener opens a window for an address, or makes the open one last as long
// again.
type Opener func(ctx context.Context, addr netip.Addr, window time.Duration) error

// The program, and what it answers.
const (
	program = 900101

	procNull = 0
	procAdd  = 1

	addSuccess = 0
	addPerm    = 1
	addSysErr  = 2

	portmapper = 100000
	getPort    = 3
	protoUDP   = 17
)

// openTimeout is how long the store may take. A client asks again after some
// seconds.
const openTimeout = 3 * time.Second

// Server takes windows by RPC, and by HTTP over a unix socket.
type Server struct {
	cfg     Config
	open    Opener
	log     *slog.Logger
	allowed []netip.Prefix
	port    uint32 // of the service

	rpc, ports *net.UDPConn // nil: not there
	feed       *feed
}

// New makes a Server; Listen opens its ports.
func New(cfg Config, open Opener, log *slog.Logger) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("drac: %w", err)
	}
	allowed, err := cfg.allowed()
	return &Server{cfg: cfg, open: open, log: log, allowed: allowed}, err
}

// Listen opens what the configuration names.
func (s *Server) Listen() (err error) {
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.rpc, err = listenUDP(s.cfg.Address); err != nil {
		return err
	}
	if s.rpc != nil {
		s.port = uint32(s.rpc.LocalAddr().(*net.UDPAddr).Port)
	}
	if s.ports, err = listenUDP(s.cfg.Portmapper); err != nil {
		return err
	}
	if s.cfg.Socket != "" {
		s.feed, err = listenFeed(s)
	}
	return err
}

func listenUDP(address string) (*net.UDPConn, error) {
	if address == "" {
		return nil, nil
	}
	addr, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, fmt.Errorf("drac: %w", err)
	}
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return nil, fmt.Errorf("drac: %w", err)
	}
	return c, nil
}

// Addr is where the service listens; nil where it does not.
func (s *Server) Addr() net.Addr {
	if s.rpc == nil {
		return nil
	}
	return s.rpc.LocalAddr()
}

func (s *Server) close() {
	for _, c := range []*net.UDPConn{s.rpc, s.ports} {
		if c != nil {
			_ = c.Close()
		}
	}
	if s.feed != nil {
		s.feed.close()
	}
}

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	if s.rpc != nil {
		wg.Go(func() { s.serve(ctx, s.rpc, s.drac) })
	}
	if s.ports != nil {
		wg.Go(func() { s.serve(ctx, s.ports, s.portmap) })
	}
	if s.feed != nil {
		wg.Go(func() { s.feed.run(ctx) })
	}
	<-ctx.Done()
	s.close()
	wg.Wait()
	return nil
}

// maxPacket is more than any call that we answer.
const maxPacket = 1024

// serve answers one packet after the other. What comes faster than the store
// takes it is dropped by the kernel, and sent again by its client.
func (s *Server) serve(ctx context.Context, c *net.UDPConn, answer func(context.Context, call, netip.Addr) []byte) {
	packet := make([]byte, maxPacket)
	for {
		n, from, err := c.ReadFromUDPAddrPort(packet)
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			s.log.Error("drac: receive", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(time.Second): // an error that stays must not spin
			}
			continue
		}
		one, err := parseCall(packet[:n])
		if err != nil {
			continue
		}
		if out := s.respond(ctx, one, from.Addr().Unmap(), answer); out != nil {
			_, _ = c.WriteToUDPAddrPort(out, from) // lost as any packet may be
		}
	}
}

func (s *Server) respond(ctx context.Context, c call, from netip.Addr, answer func(context.Context, call, netip.Addr) []byte) []byte {
	if c.rpcVersion != rpcVersion {
		return c.wrongVersion()
	}
	return answer(ctx, c, from)
}

// drac answers for the program itself.
func (s *Server) drac(ctx context.Context, c call, from netip.Addr) []byte {
	switch {
	case c.program != program:
		return c.reply(progUnavail)
	case c.version < 1 || c.version > 2:
		return c.reply(progMismatch, 1, 2)
	case c.procedure == procNull:
		return c.reply(success)
	case c.procedure != procAdd:
		return c.reply(procUnavail)
	}
	addr, ok := c.address()
	if !ok {
		return c.reply(garbageArgs)
	}
	if !slices.ContainsFunc(s.allowed, func(p netip.Prefix) bool { return p.Contains(from) }) {
		s.log.Warn("drac: a window from a host that is not in allow", "peer", from.String(), "addr", addr.String())
		return c.reply(success, addPerm)
	}
	switch err := s.add(ctx, addr, from.String()); {
	case errors.Is(err, errNoHost):
		return c.reply(success, addPerm)
	case err != nil:
		return c.reply(success, addSysErr)
	}
	return c.reply(success, addSuccess)
}

var errNoHost = errors.New("drac: not the address of a host")

// add opens a window.
func (s *Server) add(ctx context.Context, addr netip.Addr, peer string) error {
	if !addr.IsValid() || addr.IsUnspecified() || addr.IsMulticast() || addr.Zone() != "" {
		return errNoHost
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if err := s.open(ctx, addr, s.cfg.Window); err != nil {
		s.log.Error("drac: window not opened", "addr", addr.String(), "peer", peer, "error", err)
		return err
	}
	s.log.Info("drac: window", "addr", addr.String(), "peer", peer, "for", s.cfg.Window)
	return nil
}

// portmap tells where the service is, and knows nothing else (RFC 1833 3).
func (s *Server) portmap(_ context.Context, c call, _ netip.Addr) []byte {
	switch {
	case c.program != portmapper:
		return c.reply(progUnavail)
	case c.version != 2:
		return c.reply(progMismatch, 2, 2)
	case c.procedure == procNull:
		return c.reply(success)
	case c.procedure != getPort:
		return c.reply(procUnavail)
	}
	w := words{b: c.args}
	prog, version, proto := w.next(), w.next(), w.next()
	w.next() // the port is not looked at
	switch {
	case w.bad || len(w.b) > 0:
		return c.reply(garbageArgs)
	case prog == program && (version == 1 || version == 2) && proto == protoUDP:
		return c.reply(success, s.port)
	}
	return c.reply(success, 0) // not registered
}
