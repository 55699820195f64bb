package console

import (
	"context"
	"io"
	"iter"
	"slices"
	"strings"
	"time"

	"gatepost/internal/mail"
)

// Message is one message of the queue. Beside our own words it has those of
// "postqueue -j", so that what admins wrote for that fits.
type Message struct {
	ID       string     `json:"id"`
	State    string     `json:"state"` // queue, slow or hold
	Lane     string     `json:"lane"`
	Reason   string     `json:"reason,omitempty"`
	ByHand   bool       `json:"held_by_hand,omitempty"` // an operator holds it
	Active   bool       `json:"active"`                 // it is being delivered
	Attempts int        `json:"attempts"`
	Next     *time.Time `json:"next,omitempty"` // of the next attempt
	Origin   string     `json:"origin,omitempty"`
	Group    string     `json:"group,omitempty"` // ID of the transaction, where a message was split
	Listener string     `json:"listener,omitempty"`
	Client   string     `json:"client,omitempty"`
	Helo     string     `json:"helo,omitempty"`
	User     string     `json:"user,omitempty"` // who authenticated
	Subject  string     `json:"subject,omitempty"`
	Score    float64    `json:"score"`
	// Silent is why the sender is never told, Unscanned the filters that are
	// still to judge the message.
	Silent    string `json:"silent,omitempty"`
	Unscanned string `json:"unscanned,omitempty"`
	// Quarantined says that a verdict has held it since it came.
	Quarantined bool `json:"quarantined,omitempty"`
	// Kind is for what kind of reason it is held.
	Kind mail.HeldKind `json:"kind,omitempty"`

	QueueName    string      `json:"queue_name"` // the lane
	QueueID      string      `json:"queue_id"`
	Arrival      int64       `json:"arrival_time"` // seconds since 1970
	Size         int64       `json:"message_size"`
	ForcedExpire bool        `json:"forced_expire"`
	Sender       string      `json:"sender"`
	Args         string      `json:"sender_args,omitempty"` // parameters of MAIL
	Recipients   []Recipient `json:"recipients"`            // that it waits for
	Done         []Recipient `json:"done,omitempty"`        // that have it, or never will

	Header string `json:"header,omitempty"` // where one message is shown
}

// Recipient is one of a message, and why it waits.
type Recipient struct {
	Address string `json:"address"`
	Status  string `json:"status"` // deferred, sent or bounced
	Reason  string `json:"delay_reason,omitempty"`
	Remote  string `json:"remote,omitempty"`
	Args    string `json:"args,omitempty"` // parameters of RCPT
}

// Queue is the messages and what may be done with them.
type Queue interface {
	// List iterates over the messages that f chooses, the oldest first or in
	// the order of f.IDs; what is not there is left out.
	List(f Filter) iter.Seq[Message]
	// Show returns one message with its header, and WriteContent writes the
	// whole of it. What is not there is spool.ErrNotFound.
	Show(id string) (Message, error)
	WriteContent(id string, w io.Writer) error
	// Apply returns how many messages it acted on, and joined errors of the
	// others. lane is that of Move.
	Apply(ctx context.Context, a Action, lane string, ids []string) (done int, err error)
}

// people are all recipients, those that have the message included.
func (m *Message) people() []string {
	var all []string
	for _, r := range m.Recipients {
		all = append(all, r.Address)
	}
	for _, r := range m.Done {
		all = append(all, r.Address)
	}
	return all
}

// seenBy is what somebody may see of a message: of its recipients those of the own
// domains. ok is false for nothing.
func (m Message) seenBy(id Identity) (_ Message, ok bool) {
	if id.SeesAll() {
		return m, true
	}
	hidden := func(r Recipient) bool { return !id.SeesRecipient(r.Address) }
	m.Recipients = slices.DeleteFunc(slices.Clone(m.Recipients), hidden)
	m.Done = slices.DeleteFunc(slices.Clone(m.Done), hidden)
	m.Reason = id.hide(m.Reason, strings.ToLower(m.Sender))
	return m, len(m.Recipients)+len(m.Done) > 0
}
