package main

import (
	"context"
	"fmt"
	"io"
	"iter"
	"regexp"

	"gatepost/internal/console"
	"gatepost/proxy/queue"
	"gatepost/proxy/spool"
)

// mailQueue shows a queue.Queue to the console.
type mailQueue struct{ *queue.Queue }

// heldByHand is the reason of what an operator holds.
const heldByHand = "held by hand"

// List implements console.Queue.
func (q mailQueue) List(f console.Filter) iter.Seq[console.Message] {
	chosen := queue.Filter{
		State: spool.State(f.State), Sender: f.Sender, NullSender: f.NullSender, Recipient: f.Recipient, Domain: f.Domain, Older: f.Older,
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
func (q mailQueue) Apply(ctx context.Context, a console.Action, ids []string) (int, error) {
	switch a {
	case console.Retry:
		return q.Retry(ctx, ids...)
	case console.Delete:
		return q.Delete(ctx, ids...)
	case console.Release:
		return q.Release(ctx, ids...)
	case console.Hold:
		return q.Hold(ctx, heldByHand, ids...)
	}
	return 0, fmt.Errorf("no action %q", a)
}

func message(i queue.Info) console.Message {
	m := console.Message{
		ID: i.ID, State: i.State, Reason: i.Reason, Active: i.Active, Attempts: i.Attempts,
		Origin: i.Origin, Listener: i.Listener, Client: i.Client, Helo: i.Helo, Subject: i.Subject, Score: i.Score,
		QueueName: queueName(i), QueueID: i.ID, Arrival: i.Received.Unix(), Size: i.Size, Sender: i.Sender,
	}
	if i.Group != i.ID {
		m.Group = i.Group
	}
	if !i.Next.IsZero() {
		m.Next = &i.Next
	}
	for _, r := range i.Recipients {
		m.Recipients = append(m.Recipients, console.Recipient{Address: r.Address, Status: r.Status, Reason: r.Reply, Remote: r.Remote})
	}
	return m
}

// queueName is the state in the words of Postfix.
func queueName(i queue.Info) string {
	switch {
	case i.State == string(spool.Hold):
		return "hold"
	case i.Active:
		return "active"
	case i.State == string(spool.Slow):
		return "slow"
	case i.Attempts > 0:
		return "deferred"
	}
	return "incoming"
}
