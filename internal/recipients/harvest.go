package recipients

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/state"
)

// Harvest is [recipients.harvest]: clients that ask for many recipients that
// there are not. What counts is how many different ones a client network asked
// for within Window, less the different ones that it knew. Trusted clients,
// users that logged in, and clients with a relay window are never counted.
type Harvest struct {
	// Window is how long a guess counts. Default 10m.
	Window time.Duration `toml:"window"`
	// SlowAfter is how many guesses are answered at once; each one above makes
	// the answer a second later, up to MaxDelay. Default 5 and 10s; 0 never.
	SlowAfter int           `toml:"slow_after"`
	MaxDelay  time.Duration `toml:"max_delay"`
	// CloseAfter is after how many the client is sent away with 421, and for a
	// window from then on when it comes again. Default 20; 0 never.
	CloseAfter int `toml:"close_after"`
	// MaxWaiting is how many answers may be late at a time; above, clients are
	// sent away. Default 100.
	MaxWaiting int `toml:"max_waiting"`
	// IPv4 and IPv6 are how many bits make a client network. Default 32 and 64.
	IPv4 int `toml:"ipv4"`
	IPv6 int `toml:"ipv6"`
}

// DefaultHarvest returns the defaults.
func DefaultHarvest() Harvest {
	return Harvest{
		Window: 10 * time.Minute, SlowAfter: 5, MaxDelay: 10 * time.Second, CloseAfter: 20, MaxWaiting: 100, IPv4: 32, IPv6: 64,
	}
}

func (h Harvest) validate() error {
	errs := []error{between("window", h.Window, time.Second, 24*time.Hour), between("max_delay", h.MaxDelay, 0, time.Minute)}
	number := func(key string, n, low, high int) {
		if n < low || n > high {
			errs = append(errs, fmt.Errorf("%s: %d is not between %d and %d", key, n, low, high))
		}
	}
	number("slow_after", h.SlowAfter, 0, 1_000_000)
	number("close_after", h.CloseAfter, 0, 1_000_000)
	number("max_waiting", h.MaxWaiting, 1, 100_000)
	number("ipv4", h.IPv4, 8, 32)
	number("ipv6", h.IPv6, 16, 128)
	return errors.Join(errs...)
}

// guesses counts them. What a network knew, and who was sent away, is of this
// process; the count is of all gateways that share the store.
type guesses struct {
	cfg     Harvest
	store   state.Store // where counts are
	own     *state.Memory
	waiting chan struct{}
	stats   Stats
}

func newGuesses(cfg Harvest, d Deps) *guesses {
	g := &guesses{cfg: cfg, store: d.Store, own: state.NewMemory(d.Now), waiting: make(chan struct{}, cfg.MaxWaiting), stats: d.Stats}
	if g.store == nil {
		g.store = g.own
	}
	return g
}

// network returns the client's network; false where it is not to be counted.
func (g *guesses) network(s *mail.Session) (netip.Prefix, bool) {
	if s.Trusted || s.User != "" || s.Window || !s.Client.IsValid() {
		return netip.Prefix{}, false
	}
	addr := s.Client.Addr().Unmap().WithZone("")
	bits := g.cfg.IPv6
	if addr.Is4() {
		bits = g.cfg.IPv4
	}
	p, err := addr.Prefix(bits)
	return p, err == nil
}

// Keys of own, and of the counts.
const (
	seenKey = "seen " // network and address: known, or guessed
	goodKey = "good " // network: how many it knew
	goneKey = "gone " // network: sent away
)

// barred reports a network that was sent away not long ago.
func (g *guesses) barred(ctx context.Context, network netip.Prefix) bool {
	_, gone, err := g.own.Get(ctx, state.Blocked, goneKey+network.String())
	return err == nil && gone
}

// first reports whether the network asks for an address for the first time.
func (g *guesses) first(ctx context.Context, network netip.Prefix, k string) bool {
	id := seenKey + network.String() + " " + k
	_, seen, err := g.own.Get(ctx, state.Throttled, id)
	if err != nil || seen {
		return err != nil
	}
	_ = g.own.Put(ctx, state.Throttled, id, "", g.cfg.Window) // memory: only what is too long fails
	return true
}

// knew notes that a network asked for somebody who is there.
func (g *guesses) knew(ctx context.Context, network netip.Prefix, k string) {
	if g.first(ctx, network, k) {
		_, _ = g.own.Count(ctx, goodKey+network.String(), 1, g.cfg.Window)
	}
}

// guessed counts an address that is not there, makes the client wait, and
// reports whether it is to be sent away.
func (g *guesses) guessed(ctx context.Context, network netip.Prefix, k string) (away bool) {
	n := 1
	if !g.first(ctx, network, k) {
		n = 0
	}
	bad := g.count(ctx, "guess "+network.String(), n)
	good, _ := g.own.Count(ctx, goodKey+network.String(), 0, g.cfg.Window)
	score := bad - good
	if g.cfg.CloseAfter > 0 && score > g.cfg.CloseAfter {
		g.stats.Guess("closed")
		_ = g.own.Put(ctx, state.Blocked, goneKey+network.String(), "", g.cfg.Window)
		return true
	}
	if g.cfg.SlowAfter > 0 && score > g.cfg.SlowAfter {
		return !g.wait(ctx, min(time.Duration(score-g.cfg.SlowAfter)*time.Second, g.cfg.MaxDelay))
	}
	return false
}

// count asks the store, and counts for itself where that is away.
func (g *guesses) count(ctx context.Context, k string, n int) int {
	if g.store != state.Store(g.own) {
		if sum, err := g.store.Count(ctx, k, n, g.cfg.Window); err == nil {
			return sum
		}
	}
	sum, _ := g.own.Count(ctx, k, n, g.cfg.Window)
	return sum
}

// wait makes the client wait; false: too many do.
func (g *guesses) wait(ctx context.Context, d time.Duration) bool {
	select {
	case g.waiting <- struct{}{}:
		defer func() { <-g.waiting }()
	default:
		g.stats.Guess("closed")
		return false
	}
	g.stats.Guess("delayed")
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
	return true
}
