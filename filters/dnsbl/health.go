package dnsbl

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"gatepost/internal/dns"
)

// Run tests the lists: at once, and then as often as each is due.
func (f *Filter) Run(ctx context.Context) error {
	tick := time.NewTicker(retryTest)
	defer tick.Stop()
	for {
		var tests sync.WaitGroup
		for _, l := range f.lists {
			tests.Go(func() { l.testOnce(ctx, l.isDue) })
		}
		tests.Wait()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (l *list) isDue() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.now().Before(l.due)
}

const testTime = 10 * time.Second

// testOnce tests the list if it is still wanted when it is its turn.
func (l *list) testOnce(ctx context.Context, wanted func() bool) {
	select {
	case <-l.turn:
	case <-ctx.Done():
		return
	}
	defer func() { l.turn <- struct{}{} }()
	if !wanted() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, testTime)
	defer cancel()
	why, err := l.test(ctx)
	switch {
	case err != nil:
		l.untold(err)
	case why != "":
		l.switchOff(why)
	default:
		l.switchOn()
	}
}

// test looks at the test points (RFC 5782 5). The text is what is wrong with the
// list; the error says that nobody could tell.
func (l *list) test(ctx context.Context) (why string, err error) {
	listed, clean := l.points()
	if listed != "" {
		m, by, err := l.point(ctx, listed)
		switch {
		case err != nil:
			return "", err
		case m == refused, m == foreign:
			return fmt.Sprintf("its test point has %v: %s", by, whyNot(m)), nil
		case m == nothing:
			return "its test point is not listed: it lists nothing", nil
		}
	}
	m, by, err := l.point(ctx, clean)
	switch {
	case err != nil:
		return "", err
	case m != nothing:
		return fmt.Sprintf("what no list has is listed (%v): it lists everything", by), nil
	}
	return "", nil
}

// points are the questions of which the first is to be listed, "" where the
// list has none, and the second never is.
func (l *list) points() (listed, clean string) {
	listed, clean = "test.", "invalid."
	if l.asks(Client) {
		listed, clean = "2.0.0.127.", "1.0.0.127."
	}
	switch a, err := netip.ParseAddr(l.Test); {
	case l.Test == noTest:
		listed = ""
	case err == nil:
		listed = reversed(a)
	case l.Test != "":
		listed = l.Test + "."
	}
	return listed, clean
}

func (l *list) point(ctx context.Context, question string) (meaning, netip.Addr, error) {
	addrs, err := l.resolver.LookupNetIP(ctx, "ip4", l.absolute(question))
	if err != nil && !errors.Is(err, dns.ErrNoName) {
		return nothing, netip.Addr{}, err
	}
	m, by := read(addrs, l.Answers)
	return m, by, nil
}

func (l *list) switchOn() {
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.state
	l.state, l.due = good, l.now().Add(l.gap)
	l.stats.ListUp(l.name, true)
	if was == off {
		l.log.Info("DNS list is on again")
	}
}

func (l *list) switchOff(why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.state
	l.state, l.due = off, l.now().Add(min(retryOff, l.gap))
	l.stats.ListUp(l.name, false)
	if was != off {
		l.log.Error("DNS list is switched off", "why", why)
	}
}

// untold leaves a list as it is known. One that was never tested is not asked
// until it was.
func (l *list) untold(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.due = l.now().Add(retryTest)
	l.stats.ListUp(l.name, l.state == good)
	l.log.Warn("DNS list could not be tested", "error", err)
}
