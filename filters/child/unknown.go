package child

import (
	"context"

	"gatepost/filters"
	"gatepost/internal/mail"

	gomilter "github.com/emersion/go-milter"
)

// HearsUnknown reports whether the milter wants to hear of commands that the
// MTA doesn't know: until it negotiated otherwise, it may.
func (f *Filter) HearsUnknown() bool { return !f.deaf.Load() }

// Unknown tells the milter of a command that the MTA doesn't know. Only what it
// says of it in words of its own counts: the client is refused anyway, and the
// message, if there is one, goes on.
func (c *checker) Unknown(ctx context.Context, tx *mail.Transaction, command string) (r filters.Report, err error) {
	err = c.spend(ctx, func(ctx context.Context) error {
		if c.session != nil || c.msg.last != nil || c.msg.ended {
			return nil
		}
		view := *tx
		view.Stage = mail.StageMail // a HELO that it knows is not told again
		s, err := c.greet(ctx, &view)
		if err != nil || s != nil || !c.conn.HearsUnknown() {
			return err
		}
		c.keepable = false
		a, err := c.conn.Unknown(ctx, command)
		if err == nil && refuses(a) && a.Code != gomilter.ActDiscard {
			r.Vote = filters.Vote{Action: action(a), Reply: replyOf(a), Reason: "milter said " + a.Reply.String() + " to an unknown command"}
		}
		return err
	})
	return r, err
}
