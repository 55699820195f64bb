package notify

import (
	"context"
	"fmt"
	"strings"
	"time"

	"gatepost/internal/mail"
)

// pace is how often one kind was told to one address.
type pace struct {
	start  time.Time // of the hour
	told   int
	beyond int // in this hour, and not told
	last   Event
}

// mostPaces bounds how many addresses are remembered: recipients may be many.
const mostPaces = 10_000

// take reports whether an event may be told now, and how many before it were
// not.
func (n *Notifier) take(cfg *Config, to string, e Event) (beyond int, ok bool) {
	now := n.deps.Now()
	key := string(e.Kind) + " " + to
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.pace[key]
	if p == nil {
		if len(n.pace) >= mostPaces {
			return 0, false // until the next minute that forgets some
		}
		p = &pace{start: now}
		n.pace[key] = p
	}
	if now.Sub(p.start) >= time.Hour || now.Before(p.start) {
		beyond = p.beyond
		*p = pace{start: now}
	}
	if p.told >= cfg.PerHour {
		p.beyond++
		p.last = e
		return 0, false
	}
	p.told++
	return beyond, true
}

// summaries tells, at the end of an hour, what was not told in it, and forgets
// those of whom there is nothing to say.
func (n *Notifier) summaries(ctx context.Context) {
	cfg, now := n.cfg.Load(), n.deps.Now()
	due := make(map[string]pace)
	n.mu.Lock()
	for key, p := range n.pace {
		if now.Sub(p.start) < time.Hour && !now.Before(p.start) {
			continue
		}
		if p.beyond > 0 {
			due[key] = *p
		}
		delete(n.pace, key)
	}
	n.mu.Unlock()
	for key, p := range due {
		n.summary(ctx, cfg, key, p)
	}
	if lost := n.lost.Swap(0); lost > 0 {
		n.deps.Log.WarnContext(ctx, "too many notifications at once, some were dropped", "dropped", lost)
	}
}

// summary tells one address what it was not told.
func (n *Notifier) summary(ctx context.Context, cfg *Config, key string, p pace) {
	_, to, _ := strings.Cut(key, " ")
	e := p.last
	var err error
	if address, ok := strings.CutPrefix(to, "mail "); ok {
		var a mail.Address
		if a, err = mail.ParseAddress(address, true); err == nil {
			t := n.forAdmin(cfg, e)
			if len(e.Rcpts) > 0 && !isAdmin(cfg, address) {
				t = n.forRecipient(cfg, e)
			}
			err = n.deps.Post(ctx, a, fmt.Sprintf("%s, and %d more in the last hour", t.subject, p.beyond-1),
				"The last of them:\r\n\r\n"+t.body)
		}
	} else {
		err = n.hook.post(ctx, cfg, e, p.beyond-1)
	}
	if err != nil && ctx.Err() == nil {
		n.deps.Log.ErrorContext(ctx, "summary of notifications not sent", "event", e.Kind, "to", to, "error", err)
	}
}

func isAdmin(cfg *Config, address string) bool {
	for _, a := range cfg.Admin {
		if strings.EqualFold(a, address) {
			return true
		}
	}
	return false
}
