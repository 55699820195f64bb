package queue

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// Info is a message as those see it who look after the queue.
type Info struct {
	ID         string          `json:"id"`
	Group      string          `json:"group,omitempty"`
	Origin     string          `json:"origin"`
	State      string          `json:"state"`
	Lane       Lane            `json:"lane"`
	Reason     string          `json:"reason,omitempty"`
	Active     bool            `json:"active"` // a worker is at it
	Size       int64           `json:"size"`
	Received   time.Time       `json:"received"`
	Attempts   int             `json:"attempts"`
	Next       time.Time       `json:"next,omitzero"`  // of the next attempt; zero for "at once" and "never"
	Sender     string          `json:"sender"`         // "" is the null sender
	Args       string          `json:"args,omitempty"` // parameters of its MAIL
	Recipients []RecipientInfo `json:"recipients"`
	Client     string          `json:"client,omitempty"`
	Listener   string          `json:"listener,omitempty"`
	Helo       string          `json:"helo,omitempty"`
	Subject    string          `json:"subject,omitempty"`
	Score      float64         `json:"score"`
	User       string          `json:"user,omitempty"`      // who authenticated
	Silent     string          `json:"silent,omitempty"`    // why the sender is never told
	Unscanned  string          `json:"unscanned,omitempty"` // the filters that are still to judge it
	// Quarantined says that it is held, and was when it came, for what it is.
	Quarantined bool `json:"quarantined,omitempty"`
	// Kind is why, while it is held.
	Kind mail.HeldKind `json:"kind,omitempty"`
}

// RecipientInfo is how far one recipient is.
type RecipientInfo struct {
	Address  string    `json:"address"`
	Status   string    `json:"status"` // "deferred", "sent", "bounced"
	Reply    string    `json:"reply,omitempty"`
	Remote   string    `json:"remote,omitempty"`
	Attempts int       `json:"attempts"`
	Last     time.Time `json:"last,omitzero"`
	Args     string    `json:"args,omitempty"` // parameters of its RCPT
}

func (q *Queue) info(m *spool.Message) Info {
	q.mu.Lock()
	it := q.items[m.ID]
	active := it != nil && it.hands > 0
	q.mu.Unlock()
	info := Info{
		ID: m.ID, Group: m.Group, Origin: string(m.Origin), State: string(m.Progress.State), Lane: LaneOf(m), Reason: m.Progress.Reason,
		Active: active, Size: m.Size, Received: m.Received, Attempts: m.Attempts, Next: m.Next,
		Sender: m.Envelope.Sender.String(), Args: strings.Join(m.Envelope.Sender.Args, " "), Client: m.Client, Listener: m.Listener, Helo: m.Helo, Subject: m.Subject, Score: m.Score,
		User: m.User, Silent: m.Silent, Unscanned: m.Unscanned,
		Quarantined: quarantined(m), Kind: kindOf(m),
	}
	if m.Progress.State == spool.Hold {
		info.Next = time.Time{}
	}
	for i, rcpt := range m.Envelope.Recipients {
		r := RecipientInfo{Address: rcpt.String(), Status: mail.Deferred.String(), Args: strings.Join(rcpt.Args, " ")}
		if i < len(m.Recipients) {
			how := m.Recipients[i]
			r.Status, r.Remote, r.Attempts, r.Last = how.Status.String(), how.Remote, how.Attempts, how.Last
			if !how.Reply.IsZero() {
				r.Reply = how.Reply.String()
			}
		}
		info.Recipients = append(info.Recipients, r)
	}
	return info
}

// Details is Info with the header of the message.
type Details struct {
	Info
	Header string `json:"header"` // as it goes out
}

// Show returns all that is known of one message. An unknown ID is
// spool.ErrNotFound.
func (q *Queue) Show(id string) (Details, error) {
	m, err := q.get(id)
	if err != nil {
		return Details{}, err
	}
	content, err := q.spool.Open(id)
	if err != nil {
		return Details{}, fmt.Errorf("queue: content of %s: %w", id, err)
	}
	defer content.Close()
	head := make([]byte, min(content.Size(), mail.MaxHeaderSize+4))
	if _, err := content.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return Details{}, fmt.Errorf("queue: content of %s: %w", id, err)
	}
	if end := bytes.Index(head, []byte("\r\n\r\n")); end >= 0 {
		head = head[:end+2]
	}
	return Details{Info: q.info(m), Header: string(head)}, nil
}

// WriteContent writes the whole message as it goes out.
func (q *Queue) WriteContent(id string, w io.Writer) error {
	if _, err := q.get(id); err != nil {
		return err
	}
	content, err := q.spool.Open(id)
	if err != nil {
		return fmt.Errorf("queue: content of %s: %w", id, err)
	}
	defer content.Close()
	if _, err := content.WriteTo(w); err != nil {
		return fmt.Errorf("queue: content of %s: %w", id, err)
	}
	return nil
}

// Count is how many messages are in one lane, and since when.
type Count struct {
	Messages int
	Oldest   time.Time // received; zero where there are none
}

// Counts returns a Count for each lane. It reads nothing from disk, but looks at
// every message: ask every few seconds, not more often.
func (q *Queue) Counts() map[Lane]Count {
	counts := map[Lane]Count{Fresh: {}, Retry: {}, Slow: {}, Hold: {}}
	for kind, kept := range q.spool.Survey() {
		lane := laneOf(kind.State, kind.Tried)
		c := counts[lane]
		c.Messages += kept.Messages
		if c.Oldest.IsZero() || kept.Oldest.Before(c.Oldest) {
			c.Oldest = kept.Oldest
		}
		counts[lane] = c
	}
	return counts
}
