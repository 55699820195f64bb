package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"gatepost/internal/backscatter"
	"gatepost/internal/console"
	foreignq "gatepost/internal/mailq"
	"gatepost/proxy/spool"
)

// own cleans our own queue, of the gateway that runs or of a spool at rest.
func (c *cleaning) own(ctx context.Context) error {
	cfg, err := c.a.load()
	if err != nil {
		return err
	}
	c.rule.Hosts = append(c.rule.Hosts, cfg.Hostname)
	return c.alone(cfg.Spool, func() error {
		return c.a.withQueue(func(_ context.Context, q admin) error { return c.end(ctx, c.visitOwn(ctx, q)) })
	})
}

// visitOwn lists before it looks: a list that waits for deletions would keep the
// gateway waiting.
func (c *cleaning) visitOwn(ctx context.Context, q admin) error {
	var list []console.Message
	err := q.List(ctx, console.Filter{NullSender: true}, func(m console.Message) error {
		if why := obstacle(m); why != "" {
			c.Skipped(ownMessage(m), why)
		} else {
			list = append(list, m)
		}
		return ctx.Err()
	})
	if err != nil {
		return queueError(err)
	}
	meter := c.a.meter("messages", len(list))
	defer meter.End()
	for _, m := range list {
		meter.Add(1)
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := c.oneOwn(ctx, q, m); err != nil {
			return err
		}
	}
	return nil
}

// obstacle is why a message of ours is not looked into.
func obstacle(m console.Message) string {
	switch {
	case m.Active:
		return "it is being delivered"
	case m.ByHand:
		return "somebody holds it"
	}
	return ""
}

func ownMessage(m console.Message) foreignq.Message {
	own := foreignq.Message{ID: m.ID, Null: m.Sender == "", Arrival: time.Unix(m.Arrival, 0), Size: m.Size}
	if m.Origin != string(spool.FromDSN) {
		own.Foreign = "it came from elsewhere: this gateway did not make it"
	}
	for _, r := range m.Recipients {
		own.Recipients = append(own.Recipients, r.Address)
	}
	return own
}

func (c *cleaning) oneOwn(ctx context.Context, q admin, m console.Message) error {
	own := ownMessage(m)
	about := backscatter.Candidate{Null: own.Null, Foreign: own.Foreign, Recipients: own.Recipients, User: m.User}
	if err := c.askCause(ctx, q, m, &about); err != nil {
		return err
	}
	content := beginning{left: backscatter.Longest}
	err := q.Content(ctx, m.ID, &content)
	switch {
	case errors.Is(err, spool.ErrNotFound):
		c.Skipped(own, foreignq.ErrGone.Error())
		return nil
	case err != nil && !content.full():
		return queueError(err)
	}
	give, err := c.judge(own, about, &content.Buffer)
	if !give {
		return err
	}
	r, err := q.Apply(ctx, console.Delete, console.Request{IDs: []string{m.ID}})
	switch {
	case err != nil:
		return queueError(err)
	case r.Done == 1:
		c.Deleted(own, nil)
	case len(r.Failed) > 0:
		c.Deleted(own, errors.New(r.Failed[0]))
	default:
		c.Deleted(own, foreignq.ErrGone)
	}
	return nil
}

// askCause adds what we know of the message that a bounce returns: its score,
// which the bounce carries, and all of it where it still waits.
func (c *cleaning) askCause(ctx context.Context, q admin, m console.Message, about *backscatter.Candidate) error {
	score := m.Score
	if m.Group != "" && m.Group != m.ID {
		cause, err := q.Show(ctx, m.Group)
		switch {
		case err == nil:
			score, about.User = cause.Score, cause.User
		case !errors.Is(err, spool.ErrNotFound):
			return queueError(err)
		}
	}
	if score == 0 {
		return nil // most likely nothing judged it
	}
	verdict, err := backscatter.SumScore(score)
	if err != nil {
		return fmt.Errorf("score of %s: %w", m.ID, err)
	}
	about.Verdict = verdict
	return nil
}

// beginning keeps as much of what is written to it as there is room for.
type beginning struct {
	bytes.Buffer
	left int
}

var errPlenty = errors.New("that is enough")

func (b *beginning) full() bool { return b.left == 0 }

func (b *beginning) Write(p []byte) (int, error) {
	if len(p) > b.left {
		n, _ := b.Buffer.Write(p[:b.left])
		b.left = 0
		return n, errPlenty
	}
	b.left -= len(p)
	return b.Buffer.Write(p)
}
