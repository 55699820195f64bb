package dnsbl

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"gatepost/internal/dns"
	"gatepost/internal/mail"
)

// Resolver asks the DNS, and remembers answers for their time to live.
// *dns.Client is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupTXT(ctx context.Context, name string) (texts []string, authentic bool, err error)
}

// list is a List at work.
type list struct {
	List
	name     string
	resolver Resolver
	stats    Stats
	log      *slog.Logger
	now      func() time.Time
	gap      time.Duration // between two tests of a good list
	turn     chan struct{} // holds one item while nobody tests the list

	mu       sync.Mutex
	state    state
	due      time.Time // for the next test
	failures int       // questions without an answer, in a row
	rests    time.Time // until then it is left alone, for these
}

// state is what is known of a list.
type state string

const (
	untested state = ""
	good     state = "good"
	off      state = "off"
)

// How long a list waits for its next test, when it is not good.
const (
	retryTest = time.Minute      // nobody could tell
	retryOff  = 10 * time.Minute // it is switched off
)

// A list that does not answer is left alone for a while: mail does not wait for
// it.
const (
	patience = 5
	rest     = time.Minute
)

func newList(name string, cfg List, gap time.Duration, deps Deps) *list {
	l := &list{
		List: cfg, name: name, resolver: deps.Resolver, stats: deps.Stats, log: deps.Log.With("list", name),
		now: time.Now, gap: gap, turn: make(chan struct{}, 1),
	}
	l.turn <- struct{}{}
	l.Zone, _ = mail.ParseDomain(cmp.Or(l.Zone, name))
	if len(l.Asks) == 0 {
		l.Asks = []Subject{Client}
	}
	return l
}

func (l *list) asks(s Subject) bool { return slices.Contains(l.Asks, s) }

// absolute keeps the search list of a resolver out.
func (l *list) absolute(question string) string { return question + l.Zone + "." }

// usable reports whether the list is to be asked now. It is tested first, when
// nobody has.
func (l *list) usable(ctx context.Context) bool {
	ok, untested := l.known()
	if !untested {
		return ok
	}
	l.testOnce(ctx, func() bool { _, untested := l.known(); return untested })
	ok, _ = l.known()
	return ok
}

func (l *list) known() (ok, toTest bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	return l.state == good && !now.Before(l.rests), l.state == untested && !now.Before(l.due)
}

// ask asks about one name. The text is for people.
func (l *list) ask(ctx context.Context, question, about string) (hit bool, text string, err error) {
	name := l.absolute(question)
	addrs, err := l.resolver.LookupNetIP(ctx, "ip4", name)
	if err != nil && !errors.Is(err, dns.ErrNoName) {
		if !errors.Is(ctx.Err(), context.Canceled) { // else nobody waits any more
			l.answered(false)
		}
		l.stats.Look(l.name, "failed")
		return false, "", fmt.Errorf("%s: %w", l.name, err)
	}
	l.answered(true)
	m, by := read(addrs, l.Answers)
	switch m {
	case counts:
		l.stats.Look(l.name, "listed")
		return true, l.describe(ctx, name, about, by), nil
	case refused, foreign:
		l.stats.Look(l.name, "refused")
		l.switchOff(fmt.Sprintf("it answers %v: %s", by, whyNot(m)))
		return false, "", fmt.Errorf("%s: answers %v", l.name, by)
	}
	l.stats.Look(l.name, "clean")
	return false, "", nil
}

func whyNot(m meaning) string {
	if m == foreign {
		return "this is no list any more"
	}
	return "it refuses our questions; ask by way of a resolver of your own, or get a key"
}

// answered counts questions without an answer.
func (l *list) answered(yes bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if yes {
		l.failures = 0
		return
	}
	if l.failures++; l.failures >= patience {
		l.failures, l.rests = 0, l.now().Add(rest)
		l.log.Warn("DNS list does not answer", "rest", rest)
	}
}

// textTime is what the text of a refusal may cost.
const textTime = time.Second

// describe says who is listed, and why as far as the list tells.
func (l *list) describe(ctx context.Context, name, about string, by netip.Addr) string {
	s := fmt.Sprintf("%s is listed by %s (%v)", about, l.name, by)
	why := l.Text
	if why == "" && l.Reject {
		ctx, cancel := context.WithTimeout(ctx, textTime)
		defer cancel()
		if texts, _, err := l.resolver.LookupTXT(ctx, name); err == nil && len(texts) > 0 {
			why = texts[0]
		}
	}
	if why = clean(why); why != "" {
		s += ": " + why
	}
	return s
}

const maxText = 200 // runes of a list's own words

// clean makes one line of what a list says.
func clean(s string) string {
	s = strings.Join(strings.Fields(mail.CleanText(s)), " ")
	if r := []rune(s); len(r) > maxText {
		s = string(r[:maxText])
	}
	return s
}
