package spool

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"

	"gatepost/internal/mail"
)

// State is what is to be done with a message.
type State string

// The states of a message. A damaged record has none: it is set aside in the
// directory "corrupt".
const (
	Queue State = "queue" // to be delivered
	Slow  State = "slow"  // to be delivered, but not in the way of others
	Hold  State = "hold"  // kept until somebody decides; Reason says why
)

// states gives each state its number on disk.
var states = [...]State{Queue, Slow, Hold}

func (st State) number() (uint8, bool) {
	for i, s := range states {
		if s == st {
			return uint8(i), true
		}
	}
	return 0, false
}

// Origin tells who made a message.
type Origin string

// The origins.
const (
	FromSMTP    Origin = "smtp"
	FromDSN     Origin = "dsn"     // our own notification
	FromMilter  Origin = "milter"  // held for an MTA that asked us
	FromJournal Origin = "journal" // a copy for a journal
)

// Entry is a message as it is committed.
type Entry struct {
	ID       string // of mail.NewID, or up to 64 letters, digits, "-", "_"
	Group    string // ID of the transaction; differs from ID where a message was split
	Received time.Time
	Origin   Origin
	Envelope mail.Envelope
	Header   []byte // the final header, without the empty line; Get and All leave it nil
	Body     int64  // offset of the body in the draft
	State    State
	Reason   string // of Hold

	// For those who look: what the decision line says.
	Client   string // "name[address]"
	Listener string
	Helo     string
	Subject  string
	Score    float64

	// For those who deliver it, and who decide whether to tell the sender.
	ClientName string // verified name of the client
	ClientAddr netip.AddrPort
	Proto      string        // "ESMTP", "ESMTPSA"… (RFC 3848)
	User       string        // authenticated user, "" for none
	Trusted    bool          // the client was in relay.networks
	Window     bool          // it had an open relay window, or a certificate that lets it relay
	Silent     string        // why the sender is never told: "spam", "virus", "sender authentication failed"; "" when it may be
	Unscanned  string        // the filters that are still to judge it, separated by commas; "" for none
	Replaces   string        // ID of the message that this one was made of when it was judged again
	Kind       mail.HeldKind // of Reason; "" where it is not held, or nobody knows
}

// Facts are what a next hop may be told of it.
func (e *Entry) Facts() mail.Facts {
	return mail.Facts{
		ID: e.ID, Listener: e.Listener, ClientName: e.ClientName, ClientAddr: e.ClientAddr,
		Helo: e.Helo, Proto: e.Proto, User: e.User,
	}
}

// Recipient is how far the delivery to one recipient has come.
type Recipient struct {
	Status   mail.Status
	Reply    mail.Reply
	Remote   string
	Attempts int
	Last     time.Time // of the last attempt
	Relayed  bool      // Delivered to a next hop that sends no notifications (RFC 3461): they are ours
	Told     bool      // Failed, and the sender has heard of it while others were still tried
}

// Progress is what changes in the life of a message.
type Progress struct {
	State      State
	Reason     string
	Attempts   int
	Next       time.Time     // of the next attempt
	Warned     bool          // a delay warning was sent
	Age        time.Duration // for how long it was tried, whatever the wall clock says
	Recipients []Recipient   // one for each of Entry.Envelope.Recipients
}

// Message is an Entry with its progress, as it is kept. Entry.State and
// Entry.Reason are those of the commit, Progress has those of now.
type Message struct {
	Entry
	Progress
	Size int64 // of header, empty line and body
}

// Errors that callers ask for with errors.Is.
var (
	ErrLocked   = errors.New("in use by another process")
	ErrNotFound = errors.New("no such message")
	ErrExists   = errors.New("exists already")
	ErrClosed   = errors.New("closed")
	ErrDamaged  = errors.New("damaged")
)

const maxID = 64

// validID keeps an ID fit to be a file name.
func validID(id string) bool {
	if id == "" || len(id) > maxID {
		return false
	}
	for i := 0; i < len(id); i++ {
		c := id[i]
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

func checkEntries(entries []Entry, size int64) error {
	if len(entries) == 0 {
		return errors.New("spool: nothing to commit")
	}
	for i, e := range entries {
		if !validID(e.ID) {
			return fmt.Errorf("spool: bad id %q", e.ID)
		}
		if _, ok := e.State.number(); !ok {
			return fmt.Errorf("spool: %s: bad state %q", e.ID, e.State)
		}
		if e.Body < 0 || e.Body > size || e.Body != entries[0].Body {
			return fmt.Errorf("spool: %s: body at %d of %d bytes", e.ID, e.Body, size)
		}
		for _, other := range entries[:i] {
			if other.ID == e.ID {
				return fmt.Errorf("spool: %s: %w", e.ID, ErrExists)
			}
		}
	}
	return nil
}

func checkProgress(id string, p *Progress, recipients int) error {
	if _, ok := p.State.number(); !ok {
		return fmt.Errorf("spool: %s: bad state %q", id, p.State)
	}
	if p.Attempts < 0 || p.Attempts > math.MaxInt32 {
		return fmt.Errorf("spool: %s: %d attempts", id, p.Attempts)
	}
	if len(p.Recipients) != recipients {
		return fmt.Errorf("spool: %s: progress of %d recipients, has %d", id, len(p.Recipients), recipients)
	}
	for _, r := range p.Recipients {
		if r.Status < mail.Deferred || r.Status > mail.Failed || r.Told && r.Status != mail.Failed {
			return fmt.Errorf("spool: %s: bad status %d", id, int(r.Status))
		}
		if r.Attempts < 0 || r.Attempts > math.MaxInt32 || r.Reply.Code < 0 || r.Reply.Code > math.MaxInt32 {
			return fmt.Errorf("spool: %s: %d attempts, reply %d", id, r.Attempts, r.Reply.Code)
		}
	}
	return nil
}
