package web

import (
	"context"
	"fmt"
	"io"
	"iter"
	"slices"
	"sync"

	"gatepost/internal/console"
	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// messages is a queue in memory.
type messages struct {
	mu  sync.Mutex
	all []console.Message
}

func idOf(i int) string { return fmt.Sprintf("%0*d", mail.IDLength, i) }

func fewMessages() *messages {
	q := &messages{}
	for i := range 3 {
		q.all = append(q.all, console.Message{ID: idOf(i), Lane: console.Waiting, Subject: evil, Sender: "a@example.org", Recipients: []console.Recipient{{Address: "bob@example.com", Reason: evil}}})
	}
	return q
}

// List knows IDs only.
func (q *messages) List(f console.Filter) iter.Seq[console.Message] {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Values(slices.DeleteFunc(slices.Clone(q.all), func(m console.Message) bool { return f.IDs != nil && !slices.Contains(f.IDs, m.ID) }))
}

func (q *messages) Show(id string) (console.Message, error) {
	for m := range q.List(console.Filter{}) {
		if m.ID == id {
			return m, nil
		}
	}
	return console.Message{}, spool.ErrNotFound
}

func (q *messages) WriteContent(id string, w io.Writer) error {
	if _, err := q.Show(id); err != nil {
		return err
	}
	_, err := io.WriteString(w, "Subject: x\r\n\r\nbody\r\n")
	return err
}

func (q *messages) Apply(_ context.Context, _ console.Action, _ string, ids []string) (int, error) {
	return len(ids), nil
}
