package forward

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"gatepost/internal/mail"
)

// asks is how many questions to a host are under way at a time, beside its
// deliveries: these may hold all of their own places for as long as they like.
const asks = 5

// maxRefusals of recipients that were asked about end a connection: servers get
// slow with a client that asks for too many, and then hang up (Postfix after 10
// and 20).
const maxRefusals = 8

// refusals counts them.
func (t *transaction) refusals() (n int) {
	for _, o := range t.out {
		if t.asks && o.Status != mail.Delivered {
			n++
		}
	}
	return n
}

// Verify asks the next hop of the first recipient whether it would take mail
// from nobody (MAIL FROM:<>) for all of them, in their order, and sends none.
// The outcomes hold its replies to RCPT. The hosts of a route are asked in turn;
// each has a share of the time until ctx ends. An error says that none could be
// asked.
func (f *Forwarder) Verify(ctx context.Context, rcpts ...mail.Address) (out []mail.Outcome, err error) {
	table := f.current.Load()
	r := table.find(rcpts[0])
	if r == nil {
		return nil, fmt.Errorf("forward: no route to %s", rcpts[0].Domain)
	}
	hops, failed := table.hops(ctx, r, rcpts[0].ASCIIDomain())
	defer table.giveBack(hops)
	if failed != nil {
		return nil, fmt.Errorf("forward: no next hop of %s: %w", rcpts[0].Domain, failed)
	}
	buf := f.buffers.Get().(*[]byte)
	defer f.buffers.Put(buf)
	left := len(hops)
	for h := range inTurn(hops) {
		var t *transaction
		if t, failed = h.verify(ctx, left, rcpts, (*buf)[:0]); failed == nil {
			return t.out, t.ends()
		}
		if left--; ctx.Err() != nil {
			break
		}
	}
	return nil, fmt.Errorf("forward: %w", failed)
}

// verify asks one of so many hosts that are left.
func (h hop) verify(ctx context.Context, left int, rcpts []mail.Address, buf []byte) (*transaction, *failure) {
	env := mail.Envelope{Recipients: make([]mail.Path, len(rcpts))}
	out := make([]mail.Outcome, len(rcpts))
	for i, r := range rcpts {
		env.Recipients[i].Address, out[i].Recipient = r, r
	}
	t := newTransaction(env, bytes.NewReader(nil), out, buf)
	t.asks = true
	if t.checkAddresses(); t.done() {
		return t, nil
	}
	if deadline, ok := ctx.Deadline(); ok && left > 1 {
		within, cancel := context.WithTimeout(ctx, time.Until(deadline)/time.Duration(left))
		defer cancel()
		failed := h.deliver(within, t)
		if failed != nil && within.Err() != nil && ctx.Err() == nil {
			failed = &failure{reply: mail.Reply{Code: 451, Detail: "4.2", Text: "no answer in time from " + h.where()}}
			h.judge(h.addr, failed)
		}
		return t, failed
	}
	return t, h.deliver(ctx, t)
}

// ends tells what the next hop said where it did not answer for recipients.
func (t *transaction) ends() error {
	if t.unsent.IsZero() {
		return nil
	}
	return errors.New("forward: the next hop takes nothing from nobody: " + t.unsent.String())
}
