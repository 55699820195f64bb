package main

import (
	"context"
	"fmt"
	"io"
	"iter"
	"regexp"
	"sync"

	"gatepost/internal/console"
	"gatepost/internal/mail"
	"gatepost/proxy/queue"
)

// mailQueue shows a queue.Queue to the console.
type mailQueue struct {
	*queue.Queue
	admin sync.Locker // nobody else replaces messages while it is held
	lives recorder    // nil: nobody keeps what is done
}

// recorder keeps what becomes of messages.
type recorder interface{ Event(mail.Event) }

// asked notes who wants what done with messages.
func (q mailQueue) asked(ctx context.Context, a console.Action, ids []string) {
	if q.lives == nil || len(ids) == 0 {
		return
	}
	by := console.IdentityOf(ctx).Name
	if by == "" {
		by = "the command line"
	}
	for m := range q.Queue.List(queue.Filter{IDs: ids}) {
		q.lives.Event(mail.Event{ID: m.ID, Group: m.Group, What: mail.EventAsked, Text: string(a), By: by})
	}
}

// heldByHand is the reason of what an operator holds.
const heldByHand = "held by hand"

// List implements console.Queue.
func (q mailQueue) List(f console.Filter) iter.Seq[console.Message] {
	chosen := queue.Filter{
		IDs: f.IDs, Sender: f.Sender, NullSender: f.NullSender, Recipient: f.Recipient, Domain: f.Domain, Route: f.Route,
		Listener: f.Listener, User: f.User, Older: f.Older, Younger: f.Younger,
		SizeAbove: f.SizeAbove, SizeBelow: f.SizeBelow, ScoreAbove: f.ScoreAbove, ScoreBelow: f.ScoreBelow,
		Subject: f.Subject, Kinds: f.Kinds,
	}
	for _, lane := range f.Lanes {
		chosen.Lanes = append(chosen.Lanes, queue.Lane(lane))
	}
	if re, err := regexp.Compile(f.Reason); err == nil && f.Reason != "" {
		chosen.Reason = re // f was validated
	}
	return func(yield func(console.Message) bool) {
		for info := range q.Queue.List(chosen) {
			if !yield(message(info)) {
				return
			}
		}
	}
}

// Show implements console.Queue.
func (q mailQueue) Show(id string) (console.Message, error) {
	d, err := q.Queue.Show(id)
	if err != nil {
		return console.Message{}, err
	}
	m := message(d.Info)
	m.Header = d.Header
	return m, nil
}

// WriteContent implements console.Queue.
func (q mailQueue) WriteContent(id string, w io.Writer) error { return q.Queue.WriteContent(id, w) }

// Apply implements console.Queue.
func (q mailQueue) Apply(ctx context.Context, a console.Action, lane string, ids []string) (int, error) {
	q.admin.Lock()
	defer q.admin.Unlock()
	q.asked(ctx, a, ids)
	switch a {
	case console.Retry:
		return q.Retry(ctx, ids...)
	case console.Hold:
		return q.Hold(ctx, heldByHand, ids...)
	case console.Release, console.Unhold:
		return q.Release(ctx, ids...)
	case console.Move:
		return q.Move(ctx, queue.Lane(lane), ids...)
	case console.Delete:
		return q.Delete(ctx, ids...)
	case console.Bounce:
		return q.Bounce(ctx, ids...)
	case console.Expire:
		return q.Expire(ctx, ids...)
	}
	return 0, fmt.Errorf("no action %q", a)
}

func message(i queue.Info) console.Message {
	lane := string(i.Lane)
	m := console.Message{
		ID: i.ID, State: i.State, Lane: lane, Reason: i.Reason, ByHand: i.Lane == queue.Hold && i.Reason == heldByHand,
		Active: i.Active, Attempts: i.Attempts, Origin: i.Origin, Listener: i.Listener, Client: i.Client, Helo: i.Helo,
		User: i.User, Subject: i.Subject, Score: i.Score, Silent: i.Silent, Unscanned: i.Unscanned, Quarantined: i.Quarantined, Kind: i.Kind,
		QueueName: lane, QueueID: i.ID, Arrival: i.Received.Unix(), Size: i.Size, Sender: i.Sender, Args: i.Args,
		Recipients: []console.Recipient{},
	}
	if i.Group != i.ID {
		m.Group = i.Group
	}
	if !i.Next.IsZero() {
		m.Next = &i.Next
	}
	for _, r := range i.Recipients {
		to := console.Recipient{Address: r.Address, Status: r.Status, Reason: r.Reply, Remote: r.Remote, Args: r.Args}
		if r.Status == mail.Deferred.String() {
			m.Recipients = append(m.Recipients, to)
		} else {
			m.Done = append(m.Done, to)
		}
	}
	return m
}
