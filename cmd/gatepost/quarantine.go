package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"os"
	"slices"
	"time"

	"gatepost/filters/spamassassin"
	"gatepost/internal/config"
	"gatepost/internal/console"
	"gatepost/internal/mail"
	"gatepost/internal/quarantine"
	"gatepost/internal/state"
	"gatepost/proxy/queue"
	"gatepost/proxy/spool"
)

// heldQueue is the quarantine: messages that the queue holds.
type heldQueue struct {
	mailQueue
	lists func() personalLists
	cfg   func() *config.Config
}

// personalLists are the senders that recipients allow and block.
type personalLists interface {
	Add(ctx context.Context, rcpt, sender mail.Address, allow bool, by string, ttl time.Duration) error
}

// ReleaseTo implements console.HeldQueue.
func (q heldQueue) ReleaseTo(ctx context.Context, id string, to []mail.Address) (string, error) {
	q.admin.Lock()
	defer q.admin.Unlock()
	q.askedHeld(ctx, "release", id, to)
	said, err := q.Queue.ReleaseTo(ctx, id, to)
	if c, ok := q.lives.(interface{ released(who console.Identity) }); ok && err == nil {
		c.released(console.IdentityOf(ctx))
	}
	return said, err
}

// Withdraw implements console.HeldQueue.
func (q heldQueue) Withdraw(ctx context.Context, id string, of []mail.Address) error {
	q.admin.Lock()
	defer q.admin.Unlock()
	q.askedHeld(ctx, "delete", id, of)
	return q.Queue.Withdraw(ctx, id, of)
}

// askedHeld notes who wants what done with a held message.
func (q heldQueue) askedHeld(ctx context.Context, what, id string, of []mail.Address) {
	if q.lives == nil {
		return
	}
	by := cmp.Or(console.IdentityOf(ctx).Name, "the command line")
	for m := range q.Queue.List(queue.Filter{IDs: []string{id}}) {
		if len(of) < len(m.Recipients) && len(of) > 0 {
			what += " for " + of[0].String()
			if len(of) > 1 {
				what += fmt.Sprintf(" and %d more", len(of)-1)
			}
		}
		q.lives.Event(mail.Event{ID: m.ID, Group: m.Group, What: mail.EventAsked, Text: what, By: by})
	}
}

// Learn implements console.HeldQueue.
func (q heldQueue) Learn(ctx context.Context, id, lesson string) error {
	all, err := newTeachers(q.cfg())
	if err != nil {
		return err
	}
	m, done, err := q.message(id)
	if err != nil {
		return err
	}
	defer done()
	_, err = all.learn(ctx, "", spamassassin.Lesson(lesson), "", m)
	return err
}

// message reads one into a file that has no name; done gives it back.
func (q heldQueue) message(id string) (m *mail.Message, done func(), err error) {
	f, err := os.CreateTemp("", "gatepost-learn-")
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if err := os.Remove(f.Name()); err != nil {
		return nil, nil, err
	}
	if err := q.Queue.WriteContent(id, f); err != nil {
		return nil, nil, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, nil, err
	}
	if m, err = mail.ReadMessage(f, size); err != nil {
		return nil, nil, err
	}
	return m, func() { f.Close() }, nil
}

// List implements console.HeldQueue. The sender is who the message says wrote it,
// which is whom people mean; without one clear author that of the envelope.
func (q heldQueue) List(ctx context.Context, id string, of []mail.Address, allow bool, by string, ttl time.Duration) error {
	sender, err := q.sender(id)
	if err != nil {
		return err
	}
	if ttl == 0 {
		ttl = q.cfg().Quarantine.ListAge
	}
	for _, rcpt := range of {
		if err := q.lists().Add(ctx, rcpt, sender, allow, by, ttl); err != nil {
			return fmt.Errorf("message %s: %w", id, err)
		}
	}
	return nil
}

func (q heldQueue) sender(id string) (mail.Address, error) {
	d, err := q.Queue.Show(id)
	if err != nil {
		return mail.Address{}, err
	}
	if header, _, err := mail.SplitHeader([]byte(d.Header + "\r\n")); err == nil {
		if author, _, ok := header.Author(); ok {
			return author, nil
		}
	}
	a, err := mail.ParseAddress(d.Sender, true)
	if err != nil {
		return mail.Address{}, fmt.Errorf("message %s has no sender", id)
	}
	return a, nil
}

// keptHeld shows the quarantine to its keeper.
type keptHeld struct {
	*queue.Queue
	lives recorder
}

// Held implements quarantine.Store. What an operator holds and what waits for a
// filter is not among it.
func (q keptHeld) Held() iter.Seq[quarantine.Item] {
	return func(yield func(quarantine.Item) bool) {
		for m := range q.List(queue.Filter{Lanes: []queue.Lane{queue.Hold}}) {
			if m.Quarantined && !yield(quarantine.Item{ID: m.ID, Kind: m.Kind, Received: m.Received, Size: m.Size}) {
				return
			}
		}
	}
}

// Discard implements quarantine.Store.
func (q keptHeld) Discard(ctx context.Context, id, why string) error {
	for m := range q.List(queue.Filter{IDs: []string{id}}) {
		if !m.Quarantined {
			return nil // somebody has released it meanwhile
		}
		if q.lives != nil {
			q.lives.Event(mail.Event{ID: m.ID, Group: m.Group, What: mail.EventAsked, Text: "delete: " + why, By: "quarantine"})
		}
		_, err := q.Delete(ctx, id)
		return err
	}
	return nil
}

// post queues a mail of ours, signed as notifications are. It has no sender, so
// that nothing ever answers it.
func (g *gateway) post(ctx context.Context, to mail.Address, header mail.Header, body []byte) error {
	if _, ok := g.forward.Route(to); !ok {
		return fmt.Errorf("there is no route to %s", to)
	}
	now := time.Now()
	id := mail.NewID(now)
	d := g.spool.Draft(id)
	defer d.Discard() // does nothing after a commit
	if _, err := d.Write(body); err != nil {
		return err
	}
	header = slices.Concat(mail.Header{
		mail.NewField("X-Gatepost-ID", id),
		mail.NewField("Date", now.Format(time.RFC1123Z)),
		mail.NewField("Message-ID", "<"+id+"@"+g.boot.Hostname+">"),
		mail.NewField("Auto-Submitted", "auto-generated"),
	}, header)
	header = g.signNotification(header, d, d.Size())
	err := g.spool.Commit(ctx, d, spool.Entry{
		ID: id, Group: id, Received: now, Origin: spool.FromDSN, State: spool.Queue, Header: header.Bytes(),
		Envelope: mail.Envelope{Recipients: []mail.Path{{Address: to}}}, Subject: mail.DecodeWords(header.Get("Subject")),
	})
	if err != nil {
		return err
	}
	g.queue.Accepted(id)
	return nil
}

// listsAtRest opens the store at the first use.
type listsAtRest struct {
	open  func() (state.Store, error)
	store state.Store // nil: not open yet
}

// Add implements personalLists.
func (l *listsAtRest) Add(ctx context.Context, rcpt, sender mail.Address, allow bool, by string, ttl time.Duration) (err error) {
	if l.store == nil {
		if l.store, err = l.open(); err != nil {
			return err
		}
	}
	return quarantine.NewLists(l.store, slog.New(slog.DiscardHandler)).Add(ctx, rcpt, sender, allow, by, ttl)
}

func (l *listsAtRest) close() {
	if l.store != nil {
		_ = l.store.Close() // what was put is durable
	}
}
