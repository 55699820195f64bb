package console

import (
	"io"
	"iter"
	"time"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// Message is one message of the queue in the words of "postqueue -j", so that
// what admins wrote for those fits, and with what we know beyond.
type Message struct {
	Queue        string      `json:"queue_name"` // active, incoming, deferred, slow or hold
	ID           string      `json:"queue_id"`
	Arrival      int64       `json:"arrival_time"` // seconds since 1970
	Size         int64       `json:"message_size"`
	ForcedExpire bool        `json:"forced_expire"`
	Sender       string      `json:"sender"`
	Recipients   []Recipient `json:"recipients"` // those that still wait

	Reason   string  `json:"hold_reason,omitempty"`
	Attempts int     `json:"attempts"`
	Next     int64   `json:"next_attempt,omitempty"` // seconds since 1970
	Origin   string  `json:"origin,omitempty"`
	Group    string  `json:"transaction_id,omitempty"`
	Listener string  `json:"listener,omitempty"`
	Client   string  `json:"client,omitempty"`
	Helo     string  `json:"helo,omitempty"`
	Subject  string  `json:"subject,omitempty"`
	Score    float64 `json:"score"`
}

// Recipient is one that still waits, and why.
type Recipient struct {
	Address string `json:"address"`
	Reason  string `json:"delay_reason,omitempty"`
	Remote  string `json:"remote,omitempty"`
}

// Queue is the messages and what may be done with each. What is not there is
// spool.ErrNotFound.
type Queue interface {
	List() iter.Seq[Message]
	Show(id string) (Message, error)
	Content(id string) (Content, error)
	Do(action Action, id string) error
}

// Content is a message as it is in the spool.
type Content interface {
	io.WriterTo
	io.Closer
}

// Describe says of a message in the spool what the outside may know.
func Describe(m *spool.Message, active bool) Message {
	d := Message{
		Queue:    queueName(m, active),
		ID:       m.ID,
		Arrival:  m.Received.Unix(),
		Size:     m.Size,
		Sender:   m.Envelope.Sender.String(),
		Attempts: m.Attempts,
		Next:     seconds(m.Next),
		Origin:   string(m.Origin),
		Group:    m.Group,
		Listener: m.Listener,
		Client:   m.Client,
		Helo:     m.Helo,
		Subject:  m.Subject,
		Score:    m.Score,
	}
	if m.Progress.State == spool.Hold {
		d.Reason = m.Progress.Reason
	}
	for i, path := range m.Envelope.Recipients {
		r := Recipient{Address: path.String()}
		if i < len(m.Progress.Recipients) {
			p := m.Progress.Recipients[i]
			if p.Status != mail.Deferred {
				continue
			}
			if !p.Reply.IsZero() {
				r.Reason = p.Reply.String()
			}
			r.Remote = p.Remote
		}
		d.Recipients = append(d.Recipients, r)
	}
	return d
}

func queueName(m *spool.Message, active bool) string {
	switch {
	case m.Progress.State != spool.Queue && m.Progress.State != spool.Slow:
		return string(m.Progress.State)
	case active:
		return "active"
	case m.Progress.State == spool.Slow:
		return string(m.Progress.State)
	case m.Attempts > 0:
		return "deferred"
	}
	return "incoming"
}

func seconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}
