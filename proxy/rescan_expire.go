package proxy

import (
	"container/heap"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// sweep looks after what was left, and gives up what has waited too long.
func (r *Rescanner) sweep(ctx context.Context) {
	r.mu.Lock()
	halted := r.halted
	r.halted = nil
	r.mu.Unlock()
	for _, id := range halted {
		r.release(id)
	}
	for filters, items := range r.tooOld() {
		for _, it := range items {
			err := ctx.Err()
			if err == nil {
				err = r.expire(ctx, it.id)
			}
			r.mu.Lock()
			if err == nil {
				delete(r.known, it.id)
			} else {
				r.put(filters, it)
			}
			r.mu.Unlock()
			if err != nil && ctx.Err() == nil {
				r.log.Error("a message that waited too long is not given up yet", "id", it.id, "error", err)
			}
		}
	}
}

// tooOld takes those out of the lines that wait for longer than they may. The
// time since the start goes by the monotonic clock: setting the other one
// expires nothing.
func (r *Rescanner) tooOld() map[string][]rescanItem {
	up := time.Since(r.start)
	if up < min(r.age, youngest) {
		return nil
	}
	limit := r.start.Round(0).Add(up - r.age).Unix()
	r.mu.Lock()
	defer r.mu.Unlock()
	old := make(map[string][]rescanItem)
	for filters, l := range r.lines {
		isOld := func(it rescanItem) bool { return it.received <= limit }
		for _, it := range *l {
			if isOld(it) {
				old[filters] = append(old[filters], it)
			}
		}
		*l = slices.DeleteFunc(*l, isOld)
		heap.Init(l)
	}
	return old
}

// expire gives a message up: a sender of ours is told; that of a stranger may be
// forged, and the message stays in the hold, for an operator to decide.
func (r *Rescanner) expire(ctx context.Context, id string) error {
	r.deps.Admin.Lock()
	defer r.deps.Admin.Unlock()
	m, err := r.deps.Spool.Get(id)
	if err != nil || !waits(m) {
		return nil // somebody else's now
	}
	waited := age(time.Since(m.Received))
	told := (m.Trusted || m.User != "") && !m.Envelope.Sender.IsNull()
	if told {
		r.giveUp(m, waited)
	} else {
		m.Progress.Reason = fmt.Sprintf("never scanned: %s could not tell for %s", m.Unscanned, waited)
	}
	if err := r.deps.Spool.Save(id, m.Progress); err != nil {
		return err
	}
	result := "kept"
	if told {
		result = "expired"
		if err := r.deps.Spool.Sync(ctx); err != nil {
			r.log.Error("spool", "error", err)
		}
		r.deps.Queue.Accepted(id)
	}
	r.log.Warn("never judged", "id", id, "from", m.Envelope.Sender.String(), "to", firstRcpts(m.Envelope.Recipients),
		"filters", m.Unscanned, "waited", waited, "result", result)
	r.record(&m.Entry, mail.EventJudged, "never, it waited too long: "+result)
	r.deps.Stats.Rescanned(result)
	return nil
}

// giveUp makes m one that failed for all its recipients: the queue tells its
// sender, and removes it.
func (r *Rescanner) giveUp(m *spool.Message, waited string) {
	reply := mail.Reply{Code: 451, Detail: "4.7", Text: fmt.Sprintf(
		"the message could not be checked for %s (%s did not answer) and was not delivered", waited, strings.ReplaceAll(m.Unscanned, ",", ", "))}
	m.Progress.State, m.Progress.Reason, m.Next = spool.Queue, "", time.Now()
	for i := range m.Recipients {
		if m.Recipients[i].Status == mail.Deferred {
			m.Recipients[i].Status, m.Recipients[i].Reply = mail.Failed, reply
		}
	}
}

// age is a time in words.
func age(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", int(d.Hours())/24)
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", int(d.Hours()))
	case d >= 2*time.Minute:
		return fmt.Sprintf("%d minutes", int(d.Minutes()))
	}
	return fmt.Sprintf("%d seconds", int(d.Seconds()))
}
