package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gatepost/internal/history"
	"gatepost/internal/mail"
)

// Live is something that happens now: a decision, or a step in the life of a
// message behind it.
type Live struct {
	Decision *history.Record `json:"decision,omitempty"`
	Event    *history.Event  `json:"event,omitempty"`
	// Lost is how much there was no room for since the last line: whoever reads
	// is too slow.
	Lost int `json:"lost,omitempty"`
}

// Feed shows what happens to those who look on. Nobody ever waits for them.
type Feed struct {
	mu        sync.Mutex
	onlookers map[*onlooker]bool
	watched   atomic.Int32
}

// NewFeed makes a feed that nobody looks at yet.
func NewFeed() *Feed { return &Feed{onlookers: make(map[*onlooker]bool)} }

// Bounds of those who look on.
const (
	mostOnlookers = 16
	waitingLive   = 512 // of one of them
)

type onlooker struct {
	lines chan Live
	lost  atomic.Int64
}

// Watched reports whether anybody looks on: without that there is no reason to
// make what is shown.
func (f *Feed) Watched() bool { return f.watched.Load() > 0 }

// Decision shows one. It must not change any more.
func (f *Feed) Decision(r history.Record) { f.show(Live{Decision: &r}) }

// Event shows one.
func (f *Feed) Event(e mail.Event) {
	if !f.Watched() {
		return
	}
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	shown := history.Event{Time: e.Time, ID: e.ID, What: e.What, Remote: e.Remote, Text: e.Text, By: e.By}
	if e.Rcpt != (mail.Address{}) {
		shown.Rcpt = e.Rcpt.String()
	}
	if e.What == mail.EventAttempt {
		shown.Status = e.Status.String()
	}
	f.show(Live{Event: &shown})
}

func (f *Feed) show(l Live) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for o := range f.onlookers {
		select {
		case o.lines <- l:
		default:
			o.lost.Add(1)
		}
	}
}

// join is false when there are too many.
func (f *Feed) join() (*onlooker, bool) {
	o := &onlooker{lines: make(chan Live, waitingLive)}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.onlookers) >= mostOnlookers {
		return nil, false
	}
	f.onlookers[o] = true
	f.watched.Store(int32(len(f.onlookers)))
	return o, true
}

func (f *Feed) leave(o *onlooker) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.onlookers, o)
	f.watched.Store(int32(len(f.onlookers)))
}

// LiveFilter chooses what is shown. Texts are looked for anywhere in an address,
// in any case; empty ones want all.
type LiveFilter struct {
	To   string `json:"to,omitempty"`
	From string `json:"from,omitempty"`
	ID   string `json:"id,omitempty"`
}

// chooser remembers the messages that were chosen: events do not tell who wrote
// them.
type chooser struct {
	LiveFilter
	ids   map[string]bool
	order []string
}

// mostChosen bounds what a chooser remembers.
const mostChosen = 10_000

func (c *chooser) decision(r *history.Record) bool {
	ok := (c.ID == "" || r.ID == c.ID) && holds(r.Sender.Address, c.From)
	if ok && c.To != "" {
		ok = false
		for _, p := range r.Recipients {
			ok = ok || holds(p.Address, c.To)
		}
	}
	if ok {
		c.remember(r.ID)
	}
	return ok
}

func (c *chooser) event(e *history.Event) bool {
	switch {
	case c.ID != "" && e.ID != c.ID && !c.ids[e.ID]:
		return false
	case c.From != "":
		return c.ids[e.ID]
	case c.To != "":
		return e.Rcpt != "" && holds(e.Rcpt, c.To) || e.Rcpt == "" && c.ids[e.ID]
	}
	return true
}

func (c *chooser) remember(id string) {
	if c.ids == nil {
		c.ids = make(map[string]bool)
	}
	if c.ids[id] {
		return
	}
	c.ids[id] = true
	if c.order = append(c.order, id); len(c.order) > mostChosen {
		delete(c.ids, c.order[0])
		c.order = c.order[1:]
	}
}

func holds(s, part string) bool {
	return strings.Contains(strings.ToLower(s), strings.ToLower(part))
}

// stillThere is how often an onlooker hears from us when nothing happens: so we
// know whether it is there.
const stillThere = 10 * time.Second

func (c *Control) handleLive() {
	if c.deps.Feed == nil {
		return
	}
	c.route("POST /v1/live", ViewMail, c.live)
}

// live writes one JSON object a line until the client goes; an empty one when
// nothing happened for a while, and at once.
func (c *Control) live(w http.ResponseWriter, r *http.Request) {
	var f LiveFilter
	if !decode(w, r, &f) {
		return
	}
	o, ok := c.deps.Feed.join()
	if !ok {
		answer(w, http.StatusTooManyRequests, failure{fmt.Sprintf("%d look on already", mostOnlookers)})
		return
	}
	defer c.deps.Feed.leave(o)
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Time{}) // or the server would take its end for the client's
	w.Header().Set("Content-Type", jsonLines)
	enc := json.NewEncoder(w)
	say := func(l Live) bool {
		_ = rc.SetWriteDeadline(time.Now().Add(2 * stillThere))
		if enc.Encode(l) != nil {
			return false
		}
		err := rc.Flush()
		return err == nil || errors.Is(err, errors.ErrUnsupported) // who doesn't flush doesn't buffer
	}
	chosen, id := &chooser{LiveFilter: f}, IdentityOf(r.Context())
	tick := time.NewTicker(stillThere)
	defer tick.Stop()
	for going := say(Live{}); going; {
		select {
		case <-r.Context().Done():
			return
		case <-c.ending:
			return
		case <-tick.C:
			going = say(Live{Lost: int(o.lost.Swap(0))})
		case l := <-o.lines:
			if l, ok := shownTo(id, chosen, l); ok {
				l.Lost = int(o.lost.Swap(0))
				going = say(l)
			}
		}
	}
}

// shownTo is what somebody may see of what they want to see.
func shownTo(id Identity, chosen *chooser, l Live) (Live, bool) {
	if l.Event != nil {
		return l, !id.hides(l.Event.Rcpt) && (id.SeesAll() || chosen.ids[l.Event.ID]) && chosen.event(l.Event)
	}
	r, ok := seen(id, *l.Decision)
	if !ok || !chosen.decision(&r) {
		return l, false
	}
	r.Header, r.Inside = nil, nil // explain has them
	return Live{Decision: &r}, true
}

// Live calls yield with what happens until it returns an error, ctx ends or the
// gateway does. begun is called when nothing is missed any more.
func (c *Client) Live(ctx context.Context, f LiveFilter, begun func(), yield func(Live) error) error {
	resp, err := c.do(ctx, http.MethodPost, "live", f)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(resp.Body)
	for first := true; ; first = false {
		var l Live
		switch err := dec.Decode(&l); {
		case err == io.EOF:
			return fmt.Errorf("console: live: %w", io.ErrUnexpectedEOF)
		case err != nil:
			return fmt.Errorf("console: live: %w", err)
		case first:
			begun()
			continue
		case l == Live{}:
			continue
		}
		if err := yield(l); err != nil {
			return err
		}
	}
}
