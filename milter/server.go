package milter

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"gatepost/internal/mail"

	"github.com/emersion/go-milter"
)

// Draft keeps the content of a message while it is judged.
type Draft interface {
	io.Writer
	io.ReaderAt
	Size() int64
	Discard()
}

// Deps is what a server works with.
type Deps struct {
	NewHandler func() mail.Handler
	NewDraft   func(id string) Draft
	// Decides lists the stages at which a handler may have an opinion; at the
	// others the MTA is told not to wait for one. nil: at all of them.
	Decides func() []mail.Stage
	// HearsUnknown reports whether a handler may want to hear of commands that
	// the MTA doesn't know. Where none does the MTA is told not to send them.
	// nil: none does.
	HearsUnknown func() bool
	// ReadsBody reports whether a handler made now may look behind the header.
	// Where none does the MTA is told to keep the body. nil: it may.
	ReadsBody func() bool
	// Hold keeps copies of a message durably: nil means that they are safe.
	// It is needed where the configuration says quarantine = "hold".
	Hold  func(ctx context.Context, tx *mail.Transaction, copies []Held) error
	Stats Stats // nil: nobody counts
	Log   *slog.Logger
}

// bodiless is a handler that knows whether it looks behind the header. One made
// after a negotiation that spared the body must say that it doesn't: its session
// ends without a verdict otherwise.
type bodiless interface{ ReadsBody() bool }

// Server answers the MTAs of one socket.
type Server struct {
	cfg  Config
	deps Deps
	ln   net.Listener

	waits Waits
}

// New checks the configuration. It opens nothing.
func New(cfg Config, deps Deps) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Quarantine == QuarantineHold && deps.Hold == nil {
		return nil, errors.New("quarantine: nobody here can hold a message")
	}
	if deps.Stats == nil {
		deps.Stats = nobody{}
	}
	return &Server{cfg: cfg, deps: deps}, nil
}

// sparesBody reports whether nobody here looks at a body now. Our hold keeps it.
func (s *Server) sparesBody() bool {
	return s.deps.ReadsBody != nil && !s.deps.ReadsBody() && s.cfg.Quarantine != QuarantineHold
}

// declined are the events that nobody here wants to hear of now.
func (s *Server) declined() milter.OptProtocol {
	var off milter.OptProtocol
	if s.sparesBody() {
		off |= milter.OptNoBody
	}
	if s.deps.HearsUnknown == nil || !s.deps.HearsUnknown() {
		off |= milter.OptNoUnknown | milter.OptNoUnknownReply
	}
	return off
}

// Listen opens the socket.
func (s *Server) Listen() error {
	ln, err := s.cfg.listen()
	s.ln = ln
	return err
}

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.ln.Addr() }

// Run answers until ctx ends, and returns when all its sessions have. Sessions
// between two messages end at once; one that judges is cut, and the MTA does
// what it was told to do without us (F=T, milter_default_action).
func (s *Server) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	stop := context.AfterFunc(ctx, func() { s.ln.Close() })
	defer stop()
	slots := make(chan struct{}, s.cfg.MaxConnections)
	for wait := time.Duration(0); ; {
		c, err := s.ln.Accept()
		if ctx.Err() != nil {
			if err == nil {
				c.Close()
			}
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err != nil {
			// Out of file descriptors, most likely: the port must survive it.
			wait = min(max(2*wait, 10*time.Millisecond), time.Second)
			s.deps.Log.Error("milter accept", "listener", s.cfg.Name, "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(wait):
			}
			continue
		}
		wait = 0
		select {
		case slots <- struct{}{}:
		default:
			s.deps.Stats.Connection(s.cfg.Name, "limit")
			s.deps.Log.Warn("milter connection refused", "listener", s.cfg.Name, "reason", "max_connections reached")
			c.Close()
			continue
		}
		wg.Go(func() {
			defer func() { <-slots }()
			s.serve(ctx, c)
		})
	}
}

// serve is one connection of an MTA.
func (s *Server) serve(ctx context.Context, c net.Conn) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	defer c.Close()
	s.deps.Stats.Connection(s.cfg.Name, "accepted")
	s.deps.Stats.Active(s.cfg.Name, 1)
	defer s.deps.Stats.Active(s.cfg.Name, -1)
	ses := newSession(s, c)
	defer ses.end()
	defer func() {
		if p := recover(); p != nil {
			s.deps.Log.Error("milter session panicked", "listener", s.cfg.Name, "panic", p, "stack", stack())
		}
	}()
	err := ses.run(ctx)
	if err != nil && ctx.Err() == nil && !errors.Is(err, io.EOF) {
		s.deps.Log.Warn("milter connection ended", "listener", s.cfg.Name, "mta", ses.mta(), "err", err)
	}
}
