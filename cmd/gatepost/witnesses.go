package main

import (
	"gatepost/internal/console"
	"gatepost/internal/history"
	"gatepost/internal/mail"
)

// witness hears of decisions, and of what becomes of messages. It never makes
// anybody wait.
type witness interface {
	recorder
	Decision(history.Record)
}

// witnesses are all who hear of it.
type witnesses struct {
	history *history.Store // nil: there is none
	feed    *console.Feed
	traces  witness // nil: none are made
	stats   interface{ Released(by string, n int) }
}

// released counts a message that was let out of the quarantine. Recipients, who
// follow a link, have no role.
func (w witnesses) released(who console.Identity) {
	by := "operator"
	if who.Role == "" {
		by = "recipient"
	}
	w.stats.Released(by, 1)
}

// wanted reports whether a record of a decision is worth making.
func (w witnesses) wanted() bool { return w.history != nil || w.traces != nil || w.feed.Watched() }

// Decision tells all. The history is the first: it leaves out what it may not
// keep, and nobody else shall have that.
func (w witnesses) Decision(r history.Record) {
	if w.history != nil {
		w.history.Decision(r)
	}
	if w.traces != nil {
		w.traces.Decision(r)
	}
	if w.feed.Watched() {
		w.feed.Decision(r)
	}
}

// Event implements recorder.
func (w witnesses) Event(e mail.Event) {
	if w.history != nil {
		w.history.Event(e)
	}
	if w.traces != nil {
		w.traces.Event(e)
	}
	w.feed.Event(e)
}
