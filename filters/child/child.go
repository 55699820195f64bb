package child

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gatepost/filters"
	"gatepost/internal/mail"
	"gatepost/milter"
	"gatepost/milter/wire"

	gomilter "github.com/emersion/go-milter"
)

const (
	maxIdle  = 20               // connections that are kept
	idleTime = 30 * time.Second // of each
	// reuseRests is how long connections are not kept after one was of no use:
	// some milters take QUIT_NC for an error.
	reuseRests = 10 * time.Minute
	goodbye    = time.Second // for a last word
	// usedPatience is how long a connection that was kept may take for its
	// first answer.
	usedPatience = 5 * time.Second
)

// Filter is one child milter.
type Filter struct {
	cfg   Config
	waits milter.Waits

	// deaf: at its last negotiation the milter didn't want to hear of commands
	// that the MTA doesn't know.
	deaf atomic.Bool

	mu    sync.Mutex
	idle  []*idler
	rests time.Time // until then no connection is kept
}

// idler is a connection that waits for a session.
type idler struct {
	client *milter.Client
	expiry *time.Timer
}

// New checks the configuration. It does no I/O.
func New(cfg Config) (*Filter, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("milter: %w", err)
	}
	return &Filter{cfg: cfg}, nil
}

// Step puts the filter into its place, with the limits of its configuration.
func (f *Filter) Step() filters.Step {
	return filters.Step{
		Name:          "milter",
		Session:       f,
		Stages:        f.cfg.stages(),
		Timeout:       f.cfg.Timeout,
		OnError:       f.cfg.OnError,
		OnErrorAt:     f.cfg.OnErrorAt.words(),
		MaxConcurrent: f.cfg.MaxConcurrent,
		Shadow:        f.cfg.Vote.Mode == Shadow,
		Modifies:      f.cfg.modifies(),
		Prompt:        true,
	}
}

// stages are those at which the milter is asked. Where its refusals don't act,
// the message is early enough.
func (c Config) stages() []mail.Stage {
	if c.Vote.Mode != Enforce {
		return []mail.Stage{mail.StageMessage}
	}
	return []mail.Stage{mail.StageConnect, mail.StageHelo, mail.StageMail, mail.StageRcpt, mail.StageData, mail.StageMessage}
}

// modifies reports whether the milter may change the message that others see.
func (c Config) modifies() bool {
	return c.Vote.Mode != Shadow && slices.ContainsFunc(c.Changes, func(c Change) bool { return c != Quarantine })
}

// Open makes the milter's side of one session.
func (f *Filter) Open() filters.Checker { return &checker{f: f} }

// Ping connects and negotiates.
func (f *Filter) Ping(ctx context.Context) error {
	c, err := f.dial(ctx)
	if err != nil {
		return err
	}
	return c.Close()
}

func (f *Filter) dial(ctx context.Context) (*milter.Client, error) {
	offer := wire.Negotiation{
		Version:  wire.MaxVersion,
		Actions:  gomilter.OptSetSymList,
		Protocol: wire.AllProtocol &^ gomilter.OptRcptRej,
	}
	if f.cfg.Reuse {
		// opendkim forgets in the second session that it agreed on this, and
		// signs another header than the one that it was sent.
		offer.Protocol &^= gomilter.OptHeaderLeadingSpace
	}
	for _, c := range f.cfg.Changes {
		offer.Actions |= c.actions()
	}
	client, err := milter.Dial(ctx, milter.ClientConfig{
		Socket:         f.cfg.Address,
		ConnectTimeout: f.cfg.ConnectTimeout,
		CommandTimeout: f.cfg.Timeout,
		Ahead:          f.cfg.Pipeline,
		Turn:           turn,
		Waits:          &f.waits,
		MaxEdits:       f.cfg.MaxEdits,
		MaxEditBytes:   int(f.cfg.MaxEditSize),
	}, offer)
	if err == nil {
		f.deaf.Store(!client.HearsUnknown())
	}
	return client, err
}

// turn is the place of a check among others, for as long as it has one.
func turn(ctx context.Context) milter.Turn {
	if t := filters.TurnOf(ctx); t != nil {
		return t
	}
	return nil
}

// connect returns a connection, if there is one that was used before.
func (f *Filter) connect(ctx context.Context) (c *milter.Client, used bool, err error) {
	f.mu.Lock()
	for n := len(f.idle); n > 0; n = len(f.idle) {
		last := f.idle[n-1]
		f.idle = f.idle[:n-1]
		if last.expiry.Stop() {
			f.mu.Unlock()
			return last.client, true, nil
		}
	}
	f.mu.Unlock()
	c, err = f.dial(ctx)
	return c, false, err
}

// release gives back a connection whose session has ended.
func (f *Filter) release(c *milter.Client, keepable bool) {
	if !keepable || !f.keeps(c) {
		_ = c.Close()
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), goodbye)
	defer cancel()
	if c.QuitNewConnection(ctx) != nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.idle) == maxIdle {
		_ = c.Close()
		return
	}
	one := &idler{client: c}
	one.expiry = time.AfterFunc(idleTime, func() { f.expire(one) })
	f.idle = append(f.idle, one)
}

// keeps reports whether a connection can be kept. One of a milter that doesn't
// answer to CONNECT can't: that it is dead would show too late.
func (f *Filter) keeps(c *milter.Client) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cfg.Reuse && time.Now().After(f.rests) && c.Agreed().Protocol&(gomilter.OptNoConnect|gomilter.OptNoConnReply) == 0
}

func (f *Filter) expire(one *idler) {
	f.mu.Lock()
	f.idle = slices.DeleteFunc(f.idle, func(other *idler) bool { return other == one })
	f.mu.Unlock()
	_ = one.client.Close()
}

// usedUp notes that a connection that was kept was of no use.
func (f *Filter) usedUp() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rests = time.Now().Add(reuseRests)
}
