package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"gatepost/internal/mail"
)

// judge is what a generation has of a filters.Multiplexer.
type judge interface {
	Handler() mail.Handler
	Decides() []mail.Stage // where the envelope may be refused
	ReadsBody() bool       // whether anybody may look behind the header
	HearsUnknown() bool    // whether anybody may want commands that nobody knows
	Up(filters ...string) bool
	Busy() map[string]int // checks that run, by filter
	Run(ctx context.Context) error
	Close(ctx context.Context) error
}

// generations gives each new session the newest filters and rules. Those that
// were replaced live on until their last session has ended.
type generations struct {
	log      *slog.Logger
	recorder func(h mail.Handler, generation string) mail.Handler // around all others; nil: none
	mu       sync.Mutex
	current  *generation
	running  sync.WaitGroup
}

// generation is one set of filters and rules. Its fields belong to the mutex
// of generations.
type generation struct {
	judge
	name     string
	sessions int
	stop     context.CancelFunc
}

// replace makes j the newest generation.
func (g *generations) replace(j judge) {
	ctx, stop := context.WithCancel(context.Background())
	fresh := &generation{judge: j, name: nameOf(j, time.Now()), stop: stop}
	g.running.Go(func() { g.run(ctx, j) })
	g.mu.Lock()
	defer g.mu.Unlock()
	old := g.current
	g.current = fresh
	if old != nil && old.sessions == 0 {
		old.stop()
	}
}

// nameOf tells generations apart by when they began, and which rules they have.
func nameOf(j judge, now time.Time) string {
	name := now.UTC().Format("2006-01-02T15:04:05.000Z")
	if r, ok := j.(*ruled); ok && r.rules.Generation() != "" {
		name += "/" + r.rules.Generation()
	}
	return name
}

// run lives as long as a generation, and until the checks that it started ended.
func (g *generations) run(ctx context.Context, j judge) {
	if err := j.Run(ctx); err != nil {
		g.log.Error("filters", "error", err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), checksEnd)
	defer cancel()
	if err := j.Close(ctx); err != nil {
		g.log.Error("filters", "error", err)
	}
}

// checksEnd is how long a check may go on after the session that it was for.
const checksEnd = 10 * time.Second

// handler returns the handler of a new session.
func (g *generations) handler() mail.Handler {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.current.sessions++
	h := g.current.Handler()
	if g.recorder != nil {
		h = g.recorder(h, g.current.name)
	}
	return &session{Handler: h, readsBody: g.current.ReadsBody(), leave: sync.OnceFunc(g.leave(g.current))}
}

// decides lists the stages at which the newest generation may refuse.
func (g *generations) decides() []mail.Stage {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.current.Decides()
}

// readsBody reports whether the newest generation may look behind the header.
func (g *generations) readsBody() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.current.ReadsBody()
}

// up reports whether these filters of the newest generation can be asked.
func (g *generations) up(filters ...string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.current.Up(filters...)
}

// busy tells how many checks each filter of the newest generation runs.
func (g *generations) busy() map[string]int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.current.Busy()
}

// name is that of the newest generation.
func (g *generations) name() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.current.name
}

func (g *generations) leave(from *generation) func() {
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		from.sessions--
		if from.sessions == 0 && from != g.current {
			from.stop()
		}
	}
}

// close ends the current generation, if there is one, and waits for all. The sessions must have
// ended.
func (g *generations) close() {
	g.mu.Lock()
	if g.current != nil {
		g.current.stop()
	}
	g.mu.Unlock()
	g.running.Wait()
}

// session is a handler that says when its session has ended.
type session struct {
	mail.Handler
	readsBody bool
	leave     func()
}

// ReadsBody reports whether its generation may look behind the header.
func (s *session) ReadsBody() bool { return s.readsBody }

// Answered passes on what mail.AnsweredHandler is about.
func (s *session) Answered(tx *mail.Transaction, a mail.Answer) { mail.Answered(s.Handler, tx, a) }

func (s *session) Close() {
	s.Handler.Close()
	s.leave()
}
