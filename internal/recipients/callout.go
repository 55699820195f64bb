package recipients

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"gatepost/internal/mail"
)

// NextHop asks the host that mail for the first recipient goes to whether it
// would take mail for all of them, and sends none: one outcome for each, in
// order. An error means that it could not be asked.
type NextHop interface {
	Verify(ctx context.Context, rcpts ...mail.Address) ([]mail.Outcome, error)
}

// callout asks the next hop.
type callout struct {
	cfg   Callout
	next  NextHop
	now   func() time.Time
	slots chan struct{}
	keep  time.Duration // how long it is known what a domain does with every name

	mu      sync.Mutex
	domains map[string]*hop
}

// hop is what is known of the next hop of a domain.
type hop struct {
	failures int // in a row
	until    time.Time
	why      string

	probed time.Time  // when a name that nobody has was asked about; zero: not yet
	said   mail.Reply // the answer
}

const (
	firstPause = 2 * time.Second
	maxDomains = 10_000
)

func newCallout(cfg Callout, next NextHop, keep time.Duration, now func() time.Time) *callout {
	return &callout{cfg: cfg, next: next, now: now, keep: keep, slots: make(chan struct{}, cfg.MaxConcurrent), domains: make(map[string]*hop)}
}

func (c *callout) ask(ctx context.Context, a mail.Address) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	domain := a.ASCIIDomain()
	said, fresh, err := c.before(domain)
	if err != nil {
		return answer{}, err
	}
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return answer{}, fmt.Errorf("recipients: %d questions to next hops are under way", c.cfg.MaxConcurrent)
	}
	var reply mail.Reply
	for {
		if reply, said, err = c.verify(ctx, a, said, !fresh); err != nil {
			return answer{}, err
		}
		// A refusal that may be of us, not of him, is compared with what is said
		// of nobody now, not an hour ago.
		if !doubtful(reply) || !fresh {
			return judge(reply, said)
		}
		fresh = false
	}
}

// before tells what the domain's next hop said of nobody, or why it is not
// asked now.
func (c *callout) before(domain string) (said mail.Reply, fresh bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.domains[domain]
	if h == nil {
		return mail.Reply{}, false, nil
	}
	now := c.now()
	if now.Before(h.until) {
		return mail.Reply{}, false, fmt.Errorf("recipients: the next hop is left alone for %v: %s", h.until.Sub(now).Round(time.Second), h.why)
	}
	if h.failures > 0 {
		h.until = now.Add(c.cfg.Timeout) // this question is the probe
	}
	return h.said, !h.probed.IsZero() && now.Sub(h.probed) < c.keep, nil
}

// verify asks for a and, behind it, for a name that nobody has.
func (c *callout) verify(ctx context.Context, a mail.Address, said mail.Reply, probe bool) (reply, nobody mail.Reply, err error) {
	rcpts := []mail.Address{a}
	if probe {
		rcpts = append(rcpts, mail.Address{Local: noName(), Domain: a.Domain})
	}
	out, err := c.next.Verify(ctx, rcpts...)
	if err == nil && len(out) != len(rcpts) {
		err = fmt.Errorf("recipients: %d answers to %d questions", len(out), len(rcpts))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.hop(a.ASCIIDomain())
	now := c.now()
	if err != nil {
		h.failures++
		h.until = now.Add(min(firstPause<<min(h.failures-1, 20), c.cfg.MaxPause))
		h.why = err.Error()
		return mail.Reply{}, mail.Reply{}, err
	}
	h.failures, h.until, h.why = 0, time.Time{}, ""
	if probe {
		said = out[1].Reply
		h.said, h.probed = said, now
		if said.Code/100 == 4 { // not an answer to keep
			h.probed = time.Time{}
		}
	}
	return out[0].Reply, said, nil
}

// hop finds or makes the entry of a domain; c.mu is held.
func (c *callout) hop(domain string) *hop {
	h := c.domains[domain]
	if h == nil {
		if len(c.domains) >= maxDomains {
			for other := range c.domains { // any
				delete(c.domains, other)
				break
			}
		}
		h = &hop{}
		c.domains[domain] = h
	}
	return h
}

// noName is a local part that nobody has.
func noName() string {
	const letters = "bcdfghjklmnpqrstvwxz"
	b := []byte("no-such-user-................")
	for i := len(b) - 16; i < len(b); i++ {
		b[i] = letters[rand.IntN(len(letters))]
	}
	return string(b)
}

// judge tells what the reply to a recipient means, where nobody gets the other
// reply.
func judge(reply, nobody mail.Reply) (answer, error) {
	switch class := reply.Code / 100; {
	case class == 2 && nobody.Code/100 == 2:
		return answer{is: isAnything}, nil
	case class == 2:
		return answer{is: isKnown}, nil
	case class == 4:
		reply.Code = 450 // 421 and 451 are about connections and us
		return answer{isDeferred, reply}, nil
	case class != 5:
		return answer{}, fmt.Errorf("recipients: the next hop answers RCPT with %s", reply)
	case !doubtful(reply) && strings.HasPrefix(reply.Detail, "2."):
		return answer{isRefused, reply}, nil
	case !doubtful(reply):
		return answer{is: isUnknown}, nil
	case reply.Code == nobody.Code && reply.Detail == nobody.Detail:
		return answer{}, fmt.Errorf("recipients: the next hop refuses us, not the recipient: %s", reply)
	}
	return answer{isRefused, reply}, nil
}

// doubtful reports a refusal that does not say that it is for the sake of the
// recipient: it may be for ours. 5.4.1 is what Exchange Online says of unknown
// ones (RFC 3463 3.2, 3.3 for the others).
func doubtful(r mail.Reply) bool {
	if r.Code/100 != 5 {
		return false
	}
	switch r.Detail {
	case "1.0", "1.1", "1.3", "1.6", "1.10", "4.1":
		return false
	case "":
		if strings.Contains(strings.ToLower(r.Text), "relay") {
			return true
		}
		return r.Code != 550 && r.Code != 551 && r.Code != 553
	}
	return !strings.HasPrefix(r.Detail, "2.")
}
