package console

import (
	"context"
	"fmt"
	"io"
	"iter"
	"net/url"
	"regexp"
	"time"

	"gatepost/internal/mail"
)

// Message is one message of the queue. Beside our own words it has those of
// "postqueue -j", so that what admins wrote for that fits.
type Message struct {
	ID       string     `json:"id"`
	State    string     `json:"state"` // queue, slow or hold
	Reason   string     `json:"reason,omitempty"`
	Active   bool       `json:"active"` // it is being delivered
	Attempts int        `json:"attempts"`
	Next     *time.Time `json:"next,omitempty"` // of the next attempt
	Origin   string     `json:"origin,omitempty"`
	Group    string     `json:"group,omitempty"` // ID of the transaction, where a message was split
	Listener string     `json:"listener,omitempty"`
	Client   string     `json:"client,omitempty"`
	Helo     string     `json:"helo,omitempty"`
	Subject  string     `json:"subject,omitempty"`
	Score    float64    `json:"score"`

	QueueName    string      `json:"queue_name"` // incoming, active, deferred, slow or hold
	QueueID      string      `json:"queue_id"`
	Arrival      int64       `json:"arrival_time"` // seconds since 1970
	Size         int64       `json:"message_size"`
	ForcedExpire bool        `json:"forced_expire"`
	Sender       string      `json:"sender"`
	Recipients   []Recipient `json:"recipients"`

	Header string `json:"header,omitempty"` // where one message is shown
}

// Recipient is one of a message, and why it waits.
type Recipient struct {
	Address string `json:"address"`
	Status  string `json:"status"` // deferred, sent or bounced
	Reason  string `json:"delay_reason,omitempty"`
	Remote  string `json:"remote,omitempty"`
}

// Waits reports whether the recipient does not have the message yet.
func (r Recipient) Waits() bool { return r.Status == mail.Deferred.String() }

// Queue is the messages and what may be done with them.
type Queue interface {
	List(f Filter) iter.Seq[Message]
	// Show returns one message with its header, and WriteContent writes the
	// whole of it. What is not there is spool.ErrNotFound.
	Show(id string) (Message, error)
	WriteContent(id string, w io.Writer) error
	// Apply returns how many messages it acted on, and joined errors of the
	// others.
	Apply(ctx context.Context, a Action, ids []string) (done int, err error)
}

// Filter chooses messages of a list; what is set must hold.
type Filter struct {
	State      string
	Sender     string
	NullSender bool
	Recipient  string
	Domain     string // of a recipient
	Older      time.Duration
	Reason     string // regular expression
}

// values and parseFilter are the way of a Filter through a URL.
func (f Filter) values() url.Values {
	v := url.Values{}
	for key, value := range map[string]string{
		"state": f.State, "sender": f.Sender, "recipient": f.Recipient, "domain": f.Domain, "reason": f.Reason,
	} {
		if value != "" {
			v.Set(key, value)
		}
	}
	if f.NullSender {
		v.Set("null_sender", "true")
	}
	if f.Older > 0 {
		v.Set("older", f.Older.String())
	}
	return v
}

func parseFilter(v url.Values) (Filter, error) {
	f := Filter{
		State: v.Get("state"), Sender: v.Get("sender"), Recipient: v.Get("recipient"), Domain: v.Get("domain"), Reason: v.Get("reason"),
		NullSender: v.Get("null_sender") == "true",
	}
	if older := v.Get("older"); older != "" {
		d, err := time.ParseDuration(older)
		if err != nil {
			return Filter{}, fmt.Errorf("older: %w", err)
		}
		f.Older = d
	}
	return f, f.Validate()
}

// Validate checks the regular expression.
func (f Filter) Validate() error {
	if _, err := regexp.Compile(f.Reason); err != nil {
		return fmt.Errorf("reason: %w", err)
	}
	return nil
}
