package spool

import (
	"context"
	"errors"
	"io"
	"iter"
	"log/slog"
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

// Entry is a message as it is committed.
type Entry struct {
	ID       string
	Group    string // ID of the transaction; differs from ID where a message was split
	Received time.Time
	Origin   Origin
	Envelope mail.Envelope
	Header   []byte // the final header, without the empty line
	Body     int64  // offset of the body in the draft
	State    State
	Reason   string // of Hold

	// For those who look: what the decision line says.
	Client   string // "name[address]"
	Listener string
	Helo     string
	Subject  string
	Score    float64
}

// Errors that callers ask for with errors.Is.
var (
	ErrLocked   = errors.New("in use by another process")
	ErrNotFound = errors.New("no such message")
	ErrClosed   = errors.New("closed")
	ErrDamaged  = errors.New("damaged")
)

// Stats is what the spool holds and did.
type Stats struct {
	Messages map[State]int
	Commits  int64 // transactions made durable since Open
	Syncs    int64 // that these took
	Disk     int64 // bytes of all files
	Cache    int64 // bytes of content in memory
}

// Origin tells who made a message.
type Origin string

// The origins.
const (
	FromSMTP Origin = "smtp"
	FromDSN  Origin = "dsn" // our own notification
)

// Recipient is how far the delivery to one recipient has come.
type Recipient struct {
	Status   mail.Status
	Reply    mail.Reply
	Remote   string
	Attempts int
	Last     time.Time // of the last attempt
	Relayed  bool      // Delivered to a next hop that sends no notifications (RFC 3461): they are ours
}

// Progress is what changes in the life of a message.
type Progress struct {
	State      State
	Reason     string
	Attempts   int
	Next       time.Time   // of the next attempt
	Warned     bool        // a delay warning was sent
	Recipients []Recipient // one for each of Entry.Envelope.Recipients
}

// Message is an Entry with its progress, as it is kept.
type Message struct {
	Entry
	Progress
	Size int64 // of header, empty line and body
}

// Options of a spool.
type Options struct {
	Dir   string
	Large int64 // messages above this size get a file of their own; 0: 128 kB
	// MinFree is how much of the disk must be free for Ready; 0: any.
	MinFree int64
	Log     *slog.Logger
	// Failpoint, in tests, is called with the name of each step before it is
	// taken. An error is taken as the step's own.
	Failpoint func(step string) error
}

// Spool is the accepted messages on disk.
type Spool struct{ impl }

// Open locks the directory and reads back what is in it.
func Open(o Options) (*Spool, error) { panic("spool") }

// Run commits what is added until ctx ends, then makes all of it durable.
func (s *Spool) Run(ctx context.Context) error { panic("spool") }

// Close releases the lock. Run must have ended.
func (s *Spool) Close() error { panic("spool") }

// Ready returns nil while new mail can be taken. The error of a full disk is
// syscall.ENOSPC.
func (s *Spool) Ready() error { panic("spool") }

// Stats tells what the spool holds.
func (s *Spool) Stats() Stats { panic("spool") }

// Steps lists the names that Options.Failpoint is called with.
func Steps() []string { panic("spool") }

// Draft begins a message. It must be committed or discarded.
func (s *Spool) Draft(id string) *Draft { panic("spool") }

// Commit makes one message, or the parts of one that was split, durable
// together. nil means durable. On an error the client is told 451: the message
// may come again, it is never lost. The draft is used up in either case.
func (s *Spool) Commit(ctx context.Context, d *Draft, entries ...Entry) error { panic("spool") }

// Save records progress. It is on its way to the disk when Save returns, and
// durable with the next commit or within a second.
func (s *Spool) Save(id string, p Progress) error { panic("spool") }

// Remove records that nothing is left to do for the message.
func (s *Spool) Remove(id string) error { panic("spool") }

// Sync returns when all that was saved or removed before is durable.
func (s *Spool) Sync(ctx context.Context) error { panic("spool") }

// Get returns a message without its content.
func (s *Spool) Get(id string) (*Message, error) { panic("spool") }

// Open returns the content: header, empty line, body. While a message is still
// in memory it comes from there.
func (s *Spool) Open(id string) (*Content, error) { panic("spool") }

// All iterates over the messages, oldest first.
func (s *Spool) All() iter.Seq[*Message] { panic("spool") }

// Content is an open message. io.ReaderAt and io.WriterTo over the whole of it.
type Content struct{ contentImpl }

func (c *Content) ReadAt(p []byte, off int64) (int, error) { panic("spool") }
func (c *Content) WriteTo(w io.Writer) (int64, error)      { panic("spool") }
func (c *Content) Size() int64                             { panic("spool") }
func (c *Content) Close() error                            { panic("spool") }

// Draft is a message on its way in: in memory while small, in its own file
// when large.
type Draft struct{ draftImpl }

func (d *Draft) Write(p []byte) (int, error)             { panic("spool") }
func (d *Draft) ReadAt(p []byte, off int64) (int, error) { panic("spool") }
func (d *Draft) Size() int64                             { panic("spool") }

// Discard drops the draft and its file. It does nothing after Commit.
func (d *Draft) Discard() { panic("spool") }

type (
	impl        struct{}
	contentImpl struct{}
	draftImpl   struct{}
)
