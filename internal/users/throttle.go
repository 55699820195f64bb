package users

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/text/unicode/norm"

	"gatepost/internal/mail"
	"gatepost/internal/state"
)

// ThrottleConfig is the section [login]: what becomes of those who guess
// passwords.
type ThrottleConfig struct {
	// ClientFailures is after how many failed logins within Window an IPv4
	// address or IPv6 /64 may not log in for Block. Default 10.
	ClientFailures int `toml:"client_failures"`
	// UserFailures is the same for a user, from wherever. Default 20.
	UserFailures int `toml:"user_failures"`
	// Window is for how long a failure counts. Default 15m.
	Window time.Duration `toml:"window"`
	// Block is for how long nobody is heard then, except users from where they
	// have logged in before. Default 15m.
	Block time.Duration `toml:"block"`
	// Remember is for how long after a login a user is known there. Default 30d.
	Remember time.Duration `toml:"remember"`
}

// DefaultThrottleConfig returns what a section that sets nothing has.
func DefaultThrottleConfig() ThrottleConfig {
	return ThrottleConfig{ClientFailures: 10, UserFailures: 20, Window: 15 * time.Minute, Block: 15 * time.Minute, Remember: 30 * 24 * time.Hour}
}

// Validate returns all that is wrong with c.
func (c ThrottleConfig) Validate() error {
	var errs []error
	for _, v := range []struct {
		key   string
		value int64
	}{
		{"client_failures", int64(c.ClientFailures)}, {"user_failures", int64(c.UserFailures)},
		{"window", int64(c.Window / time.Second)}, {"block", int64(c.Block / time.Second)}, {"remember", int64(c.Remember / time.Second)},
	} {
		if v.value <= 0 {
			errs = append(errs, fmt.Errorf("%s: is not above zero", v.key))
		}
	}
	return errors.Join(errs...)
}

// Memory is where failures are remembered. A state.Store is one.
type Memory interface {
	Put(ctx context.Context, set state.Set, key, value string, ttl time.Duration) error
	Get(ctx context.Context, set state.Set, keys ...string) (state.Entry, bool, error)
	Delete(ctx context.Context, set state.Set, keys ...string) (int, error)
	Count(ctx context.Context, key string, n int, window time.Duration) (int, error)
}

// Throttle slows down those who guess passwords, over all sessions and all that
// share the memory. Whoever guesses from many addresses at one user locks out
// only those who try him from where he never was: his own devices go on.
//
// Where the memory fails, one of this process takes its place.
type Throttle struct {
	cfg    atomic.Pointer[ThrottleConfig]
	shared Memory // nil: there is none
	own    Memory
	log    *slog.Logger
	warned atomic.Int64 // unix time of the last word about the memory
}

// NewThrottle makes one with a memory, which may be nil.
func NewThrottle(cfg ThrottleConfig, shared Memory, log *slog.Logger) *Throttle {
	t := &Throttle{shared: shared, own: state.NewMemory(time.Now), log: log}
	t.cfg.Store(&cfg)
	return t
}

// Update takes over another configuration.
func (t *Throttle) Update(cfg ThrottleConfig) { t.cfg.Store(&cfg) }

// keys of what is remembered. A user's name comes from a stranger: a long one is
// told by its hash, and spellings that a directory takes for the same are one.
type throttleKeys struct{ client, user, known string }

func keysOf(client netip.Addr, user string) throttleKeys {
	name := mail.CleanText(strings.Join(strings.Fields(fold(norm.NFKC.String(user))), ""))
	if len(name) > maxUser {
		sum := sha256.Sum256([]byte(name))
		name = "#" + hex.EncodeToString(sum[:])
	}
	at := network(client)
	return throttleKeys{client: "client " + at, user: "user " + name, known: "known " + at + " " + name}
}

// network is who counts as one client: an IPv4 address or an IPv6 /64.
func network(ip netip.Addr) string {
	ip = ip.Unmap().WithZone("")
	if !ip.Is6() {
		return ip.String()
	}
	p, _ := ip.Prefix(64) // never fails
	return p.String()
}

// Refuses says why a client may not try to log in as a user now, "" when it may.
func (t *Throttle) Refuses(ctx context.Context, client netip.Addr, user string) (why string) {
	k := keysOf(client, user)
	e, there := either(t, func(m Memory) (state.Entry, bool, error) {
		return m.Get(ctx, state.Throttled, k.known, k.client, k.user)
	})
	if !there || e.Key == k.known {
		return ""
	}
	return cmp.Or(e.Value, "too many failed logins")
}

// Tried notes how a login went.
func (t *Throttle) Tried(ctx context.Context, client netip.Addr, user string, ok bool) {
	cfg, k := t.cfg.Load(), keysOf(client, user)
	if ok {
		t.do(func(m Memory) error { return m.Put(ctx, state.Throttled, k.known, "has logged in", cfg.Remember) })
		return
	}
	t.count(ctx, k.client, cfg.ClientFailures)
	t.count(ctx, k.user, cfg.UserFailures)
	// Who knows the place may be wrong as often as a stranger, and then is one.
	n, _ := either(t, func(m Memory) (int, bool, error) {
		n, err := m.Count(ctx, "login "+k.known, 1, cfg.Window)
		return n, true, err
	})
	if n >= cfg.ClientFailures {
		t.do(func(m Memory) error { _, err := m.Delete(ctx, state.Throttled, k.known); return err })
	}
}

// count counts a failure, and blocks who has too many.
func (t *Throttle) count(ctx context.Context, key string, limit int) {
	cfg := t.cfg.Load()
	n, _ := either(t, func(m Memory) (int, bool, error) {
		n, err := m.Count(ctx, "login "+key, 1, cfg.Window)
		return n, true, err
	})
	if n < limit {
		return
	}
	t.log.Warn("logins blocked", "key", key, "failures", n, "for", cfg.Block)
	t.do(func(m Memory) error {
		return m.Put(ctx, state.Throttled, key, fmt.Sprintf("%d failed logins in %v", n, cfg.Window), cfg.Block)
	})
}

func (t *Throttle) do(f func(Memory) error) {
	either(t, func(m Memory) (struct{}, bool, error) { return struct{}{}, true, f(m) })
}

// either asks the shared memory, and our own one where that fails.
func either[V any](t *Throttle, f func(Memory) (V, bool, error)) (V, bool) {
	if t.shared != nil {
		v, ok, err := f(t.shared)
		if err == nil {
			return v, ok
		}
		if now, last := time.Now().Unix(), t.warned.Load(); now-last >= 60 && t.warned.CompareAndSwap(last, now) {
			t.log.Warn("failed logins are remembered by this process alone", "error", err)
		}
	}
	v, ok, err := f(t.own)
	return v, ok && err == nil
}
