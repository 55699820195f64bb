package filters

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	dialTimeout = 5 * time.Second
	// restAfterFailure is how long a backend that failed is tried only after
	// the others.
	restAfterFailure = 10 * time.Second
)

// Backends are the addresses at which a daemon answers, in the order in which
// they are tried. One that failed is tried last for a while.
type Backends struct {
	list []*backend
}

type backend struct {
	network string // "unix", "tcp"
	address string
	tls     *tls.Config

	mu    sync.Mutex
	rests time.Time // until then it is tried last
}

// ParseBackends reads "unix:/path", "tcp:host:port" and "tls:host:port", those
// of them whose scheme is allowed.
func ParseBackends(addresses []string, schemes ...string) (*Backends, error) {
	if len(addresses) == 0 {
		return nil, errors.New("address: is empty; name at least one")
	}
	b := new(Backends)
	var errs []error
	for i, a := range addresses {
		one, err := parseBackend(a, schemes)
		if err != nil {
			errs = append(errs, fmt.Errorf("address[%d]: %q %w", i, a, err))
		}
		b.list = append(b.list, one)
	}
	return b, errors.Join(errs...)
}

func parseBackend(s string, schemes []string) (*backend, error) {
	scheme, address, _ := strings.Cut(s, ":")
	if !slices.Contains(schemes, scheme) {
		return nil, fmt.Errorf("has no scheme known here; write one of %s", strings.Join(schemes, ":, ")+":")
	}
	if scheme == "unix" {
		if !filepath.IsAbs(address) {
			return nil, errors.New("has no absolute path; write unix:/path")
		}
		return &backend{network: "unix", address: address}, nil
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("is not host:port; write %s:host:port", scheme)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || host == "" {
		return nil, fmt.Errorf("is not host:port with a port from 1 to 65535; write %s:host:port", scheme)
	}
	b := &backend{network: "tcp", address: address}
	if scheme == "tls" {
		b.tls = &tls.Config{ServerName: host}
	}
	return b, nil
}

// Do connects to a backend and makes one exchange on the connection, which is
// closed afterwards. When that fails the next backend is tried, within the same
// ctx; each has its share of the time. A connection stalls no longer than ctx
// lives.
func (b *Backends) Do(ctx context.Context, exchange func(net.Conn) error) error {
	return b.DoKeeping(ctx, func(conn net.Conn) (bool, error) { return false, exchange(conn) })
}

// DoKeeping is Do for protocols that use a connection again: where exchange
// says so, and the time is not over, the connection is the caller's to close.
func (b *Backends) DoKeeping(ctx context.Context, exchange func(net.Conn) (keep bool, err error)) error {
	order := b.order()
	var failures error
	for i, one := range order {
		err := one.try(ctx, len(order)-i, exchange)
		if err == nil {
			return nil
		}
		if failures == nil {
			failures = err
		} else {
			failures = fmt.Errorf("%w; %w", failures, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return failures
}

// order returns the backends as they are to be tried now.
func (b *Backends) order() []*backend {
	var good, resting []*backend
	for _, one := range b.list {
		if one.resting() {
			resting = append(resting, one)
		} else {
			good = append(good, one)
		}
	}
	return append(good, resting...)
}

// try makes one exchange with one backend in its share of the time.
func (b *backend) try(parent context.Context, shares int, exchange func(net.Conn) (bool, error)) error {
	ctx := parent
	if deadline, ok := parent.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(parent, time.Until(deadline)/time.Duration(shares))
		defer cancel()
	}
	err := b.exchange(ctx, exchange)
	if err != nil && ctx.Err() != nil {
		err = ctx.Err() // the deadline of the connection is only its shadow
	}
	if !errors.Is(parent.Err(), context.Canceled) {
		b.rest(err != nil)
	}
	if err != nil {
		return fmt.Errorf("%s:%s: %w", b.network, b.address, err)
	}
	return nil
}

func (b *backend) exchange(ctx context.Context, exchange func(net.Conn) (bool, error)) error {
	conn, err := b.dial(ctx)
	if err != nil {
		return err
	}
	return Exchange(ctx, conn, exchange)
}

// Exchange makes one exchange on a connection, which stalls no longer than ctx
// lives. Unless exchange wants to keep it, it is closed afterwards.
func Exchange(ctx context.Context, conn net.Conn, exchange func(net.Conn) (keep bool, err error)) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	kept := false
	defer func() { // also when it panics
		if inTime := stop(); !kept || !inTime {
			conn.Close()
		}
	}()
	keep, err := exchange(conn)
	kept = keep && err == nil
	return err
}

func (b *backend) dial(ctx context.Context) (net.Conn, error) {
	d := &net.Dialer{Timeout: dialTimeout}
	if b.tls == nil {
		return d.DialContext(ctx, b.network, b.address)
	}
	return (&tls.Dialer{NetDialer: d, Config: b.tls}).DialContext(ctx, b.network, b.address)
}

func (b *backend) resting() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return time.Now().Before(b.rests)
}

func (b *backend) rest(failed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rests = time.Time{}
	if failed {
		b.rests = time.Now().Add(restAfterFailure)
	}
}
