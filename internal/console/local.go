package console

import (
	"context"
	"io"
	"time"

	"gatepost/internal/mail"
)

// Local gives a queue in this process the methods of Client, for the command
// line on a spool whose gateway does not run.
type Local struct {
	Queue Queue
	Held  HeldQueue
}

// ListHeld calls yield with each held message that f chooses.
func (l Local) ListHeld(ctx context.Context, f Filter, yield func(Message) error) error {
	f.Lanes = []string{Held}
	return l.List(ctx, f, yield)
}

// ApplyHeld does something with held messages, as root does.
func (l Local) ApplyHeld(ctx context.Context, v HeldVerb, req HeldRequest) (Result, error) {
	r, err := ApplyHeld(WithIdentity(ctx, root), l.Queue, l.Held, v, req)
	if err != nil {
		return r, refusal(err)
	}
	return r, nil
}

// List calls yield with each message that f chooses until it returns an error.
func (l Local) List(_ context.Context, f Filter, yield func(Message) error) error {
	if err := f.Validate(); err != nil {
		return refusal(err)
	}
	for m := range l.Queue.List(f) {
		if err := yield(m); err != nil {
			return err
		}
	}
	return nil
}

// Shape counts messages by domain and age.
func (l Local) Shape(_ context.Context, req ShapeRequest) (Shape, error) {
	s, err := MeasureShape(l.Queue, req, time.Now())
	if err != nil {
		return Shape{}, refusal(err)
	}
	return s, nil
}

// Show describes one message.
func (l Local) Show(_ context.Context, id string) (Message, error) {
	if !mail.ValidID(id) {
		return Message{}, refusal(badID(id))
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
		return refusal(badID(id))
	}
	if err := l.Queue.WriteContent(id, w); err != nil {
		return refusal(err)
	}
	return nil
}

// Apply acts on messages.
func (l Local) Apply(ctx context.Context, action Action, req Request) (Result, error) {
	return l.DryRun(ctx, action, req, func(Message) error { return nil })
}

// DryRun is Apply for a request that may be one for a dry run: then yield is
// called with each message that would be acted on.
func (l Local) DryRun(ctx context.Context, action Action, req Request, yield func(Message) error) (Result, error) {
	r, err := Apply(ctx, l.Queue, action, req, yield)
	if err != nil {
		return r, refusal(err)
	}
	return r, nil
}

func refusal(err error) error { return &Refusal{Text: err.Error(), cause: err} }
