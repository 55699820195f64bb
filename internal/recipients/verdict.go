package recipients

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/state"
)

// opinion is what all sources of a domain say together.
type opinion struct {
	answer
	cant    bool   // nobody could tell, and that is to be 451
	sources string // who said so, for people
}

// consult asks the sources in order. One that knows the recipient is enough; it
// is unknown only when none of them may know him.
func (c *Checker) consult(ctx context.Context, list []named, a mail.Address) opinion {
	var no, later, anything, cant, could *opinion
	for _, s := range list {
		got, how, err := c.ask(ctx, s, a)
		by := &opinion{answer: got, sources: s.name + how}
		switch {
		case err != nil:
			by.sources = mail.CleanText(s.name + " can't tell: " + err.Error())
			if by.cant = s.onError != Accept; by.cant {
				cant = first(cant, by)
			} else {
				by.is = isKnown
				could = first(could, by)
			}
		case got.is == isKnown:
			return *by
		case got.is == isDeferred:
			later = first(later, by)
		case got.is == isAnything:
			anything = first(anything, by)
		case no == nil:
			no = by
		default:
			no.sources += ", " + by.sources
			if no.is == isUnknown && got.is == isRefused {
				no.answer = got
			}
		}
	}
	for _, o := range []*opinion{later, cant, could, no} {
		if o != nil {
			return *o
		}
	}
	anything.cant = c.cfg.Callout.CatchAll != Accept
	anything.sources += " takes every name"
	return *anything
}

func first(o, other *opinion) *opinion {
	if o != nil {
		return o
	}
	return other
}

// deferredFor is how long a next hop is not asked again that said "later".
const deferredFor = 30 * time.Second

// ask asks one source, or remembers what it said. how says so.
func (c *Checker) ask(ctx context.Context, s named, a mail.Address) (got answer, how string, err error) {
	if s.cached == nil {
		got, err = c.guarded(ctx, s, a)
		c.count(s, got, err)
		return got, "", err
	}
	k := key(a)
	if got, fresh, _ := s.cached.get(k); fresh {
		c.deps.Stats.Source(s.label, "cached")
		return got, " (remembered)", nil
	}
	// One question for all who want to know; who asked first may be gone before
	// there is an answer, which takes as long as the source allows.
	v, err, _ := c.flight.Do(s.name+" "+k, func() (any, error) { return c.look(context.WithoutCancel(ctx), s, k, a) })
	if err == nil {
		return v.(answer), "", nil
	}
	if got, _, there := s.cached.get(k); there && got.is == isKnown {
		c.deps.Stats.Source(s.label, "stale")
		return got, " (remembered; it can't tell now)", nil
	}
	return answer{}, "", err
}

// look asks the shared store, then the source, and lets both remember.
func (c *Checker) look(ctx context.Context, s named, k string, a mail.Address) (answer, error) {
	_, shared := s.source.(*callout)
	shared = shared && c.deps.Store != nil
	if shared {
		if e, ok, err := c.deps.Store.Get(ctx, state.Callouts, k); err == nil && ok {
			if got, ok := parse(e.Value); ok {
				c.deps.Stats.Source(s.label, "cached")
				s.cached.put(k, got, min(max(e.Expires.Sub(c.deps.Now()), time.Second), c.cfg.KnownFor), c.stale(got))
				return got, nil
			}
		}
	}
	got, err := c.guarded(ctx, s, a)
	c.count(s, got, err)
	if err != nil {
		return got, err
	}
	fresh := c.cfg.UnknownFor
	switch got.is {
	case isKnown:
		fresh = c.cfg.KnownFor
	case isDeferred:
		fresh = min(fresh, deferredFor)
	}
	s.cached.put(k, got, fresh, c.stale(got))
	if text := format(got); shared && text != "" {
		if err := c.deps.Store.Put(ctx, state.Callouts, k, text, fresh); err != nil {
			c.deps.Log.DebugContext(ctx, "recipient not shared", "error", err)
		}
	}
	return got, nil
}

func (c *Checker) stale(a answer) time.Duration {
	if a.is == isKnown {
		return c.cfg.StaleFor
	}
	return 0
}

// guarded asks a source; a panic is a source that can't tell.
func (c *Checker) guarded(ctx context.Context, s named, a mail.Address) (got answer, err error) {
	defer func() {
		if p := recover(); p != nil {
			c.deps.Log.ErrorContext(ctx, "panic in a source of recipients", "source", s.name, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			got, err = answer{}, fmt.Errorf("panic: %v", p)
		}
	}()
	return s.ask(ctx, a)
}

func (c *Checker) count(s named, a answer, err error) {
	result := a.is.String()
	if err != nil {
		result = "error"
	}
	c.deps.Stats.Source(s.label, result)
}

// maxText of a reply is shared.
const maxText = 200

// format and parse are an answer as text for the store; "" is one that is not
// shared.
func format(a answer) string {
	switch a.is {
	case isKnown:
		return "known"
	case isUnknown:
		return "unknown"
	case isRefused:
		r := a.reply
		r.Text = mail.CleanText(r.Text)
		return "refused " + strings.ToValidUTF8(r.String()[:min(len(r.String()), maxText)], "?")
	}
	return ""
}

func parse(s string) (answer, bool) {
	word, rest, _ := strings.Cut(s, " ")
	switch word {
	case "known":
		return answer{is: isKnown}, true
	case "unknown":
		return answer{is: isUnknown}, true
	case "refused":
		r, ok := mail.ParseReply(rest)
		return answer{isRefused, r}, ok && r.Code/100 == 5
	}
	return answer{}, false
}
