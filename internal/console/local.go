package console

import (
	"context"
	"fmt"
	"io"

	"gatepost/internal/mail"
)

// Local gives a queue in this process the methods of Client, for the command
// line on a spool whose gateway does not run.
type Local struct{ Queue Queue }

// List calls yield with each message until it returns an error.
func (l Local) List(_ context.Context, yield func(Message) error) error {
	for m := range l.Queue.List() {
		if err := yield(m); err != nil {
			return err
		}
	}
	return nil
}

// Show describes one message.
func (l Local) Show(_ context.Context, id string) (Message, error) {
	if !mail.ValidID(id) {
		return Message{}, refusal(errBadID)
	}
	m, err := l.Queue.Show(id)
	if err != nil {
		return Message{}, refusal(err)
	}
	return m, nil
}

// Content writes a message to w.
func (l Local) Content(_ context.Context, id string, w io.Writer) error {
	if !mail.ValidID(id) {
		return refusal(errBadID)
	}
	c, err := l.Queue.Content(id)
	if err != nil {
		return refusal(err)
	}
	defer c.Close()
	if _, err := c.WriteTo(w); err != nil {
		return fmt.Errorf("console: content of %s: %w", id, err)
	}
	return nil
}

// Apply acts on messages.
func (l Local) Apply(_ context.Context, action Action, req Request) (Result, error) {
	return Apply(l.Queue, action, req), nil
}

func refusal(err error) error { return &Refusal{Text: reason(err), cause: err} }
