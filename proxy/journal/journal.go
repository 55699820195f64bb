package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// Queue is told of copies that are to be sent.
type Queue interface{ Accepted(ids ...string) }

// Deps is what a Set works with.
type Deps struct {
	Spool *spool.Spool
	Queue Queue
	Log   *slog.Logger
}

// Set is all journals of a gateway. Its zero value has none.
type Set struct {
	deps     Deps
	journals []*journal
}

type journal struct {
	Config
	to                  mail.Address
	senders, recipients patterns
}

// New makes a Set. It touches no disk: Prepare does.
func New(configs []Config, deps Deps) (*Set, error) {
	s := &Set{deps: deps}
	var errs []error
	for _, c := range configs {
		if err := c.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("journal %s: %w", c.Name, err))
			continue
		}
		j := &journal{Config: c}
		j.to, _ = mail.ParseAddress(c.To, true)
		j.senders, _ = newPatterns("", c.Senders)
		j.recipients, _ = newPatterns("", c.Recipients)
		s.journals = append(s.journals, j)
	}
	return s, errors.Join(errs...)
}

// Prepare makes the directories that are missing.
func (s *Set) Prepare() error {
	var errs []error
	for _, j := range s.journals {
		if j.Maildir == "" {
			continue
		}
		if err := makeMaildir(j.Maildir); err != nil {
			errs = append(errs, fmt.Errorf("journal %s: %w", j.Name, err))
		}
	}
	return errors.Join(errs...)
}

// Empty reports whether there is no journal.
func (s *Set) Empty() bool { return s == nil || len(s.journals) == 0 }

// wants reports whether a message is one for this journal.
func (j *journal) wants(tx *mail.Transaction) bool {
	if len(j.Listeners) > 0 && !slices.Contains(j.Listeners, tx.Session.Listener) {
		return false
	}
	if !j.senders.match(tx.Envelope.Sender.Address) {
		return false
	}
	return len(j.recipients) == 0 || slices.ContainsFunc(tx.Envelope.Recipients, func(p mail.Path) bool { return j.recipients.match(p.Address) })
}

// keep makes the copies that are due, v being nil before filtering. Its error
// is for those whose copy must be there.
func (s *Set) keep(ctx context.Context, tx *mail.Transaction, v *mail.Verdict) error {
	when := Before
	if v != nil {
		when = After
	} else if tx.Session.Again {
		return nil // it was kept when it came
	}
	var errs []error
	for _, j := range s.journals {
		if j.When != when && (j.When != "" || when != Before) || !j.wants(tx) {
			continue
		}
		err := s.write(ctx, j, tx, v)
		if err == nil {
			continue
		}
		s.deps.Log.ErrorContext(ctx, "no journal copy", "id", tx.ID, "journal", j.Name, "on_error", string(j.OnError), "error", err)
		if j.OnError != Continue {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// commitTimeout is how long the disk may take.
const commitTimeout = time.Minute

func (s *Set) write(ctx context.Context, j *journal, tx *mail.Transaction, v *mail.Verdict) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	now := time.Now()
	r := newRecord(j, mail.NewID(now), now, tx, v)
	if j.Maildir != "" {
		return r.deliver(j.Maildir)
	}
	return s.send(ctx, r)
}

// send queues a copy as mail of its own, from nobody: what can't be delivered
// is held, never returned to the sender of the original.
func (s *Set) send(ctx context.Context, r *record) error {
	d := s.deps.Spool.Draft(r.id)
	defer d.Discard() // does nothing after a commit
	if err := r.writeBody(d); err != nil {
		return err
	}
	header := r.header()
	e := spool.Entry{
		ID: r.id, Group: r.tx.ID, Received: r.now, Origin: spool.FromJournal, Envelope: r.envelope(),
		Header: header.Bytes(), State: spool.Queue, Listener: r.tx.Session.Listener,
		Subject: mail.CleanText(header.Get("Subject")),
	}
	if err := s.deps.Spool.Commit(ctx, d, e); err != nil {
		return err
	}
	s.deps.Queue.Accepted(e.ID)
	return nil
}

// record is one copy.
type record struct {
	journal *journal
	id      string
	now     time.Time
	tx      *mail.Transaction
	env     mail.Envelope // as it is kept
	message *mail.Message
	verdict *mail.Verdict // nil before filtering
}

func newRecord(j *journal, id string, now time.Time, tx *mail.Transaction, v *mail.Verdict) *record {
	r := &record{journal: j, id: id, now: now, tx: tx, env: tx.Envelope, message: tx.Message, verdict: v}
	if v != nil {
		r.env, r.message = mail.Apply(tx.Envelope, tx.Message, v.Edits)
	}
	return r
}

func (r *record) boundary() string { return "=_" + r.id }

func (r *record) envelope() mail.Envelope {
	from := mail.Path{Args: []string{"BODY=8BITMIME"}}
	if r.tx.Envelope.UTF8() || !r.journal.to.IsASCII() {
		from.Args = append(from.Args, "SMTPUTF8")
	}
	return mail.Envelope{Sender: from, Recipients: []mail.Path{{Address: r.journal.to}}}
}

// writeBody writes the two parts: the envelope in the words that archives read,
// and the message as it is.
func (r *record) writeBody(w io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "--%s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n", r.boundary())
	for _, f := range r.facts() {
		fmt.Fprintf(&b, "%s: %s\r\n", f[0], mail.CleanText(f[1]))
	}
	kind := "message/rfc822"
	if r.tx.Envelope.UTF8() {
		kind = "message/global"
	}
	fmt.Fprintf(&b, "\r\n--%s\r\nContent-Type: %s\r\nContent-Transfer-Encoding: 8bit\r\nContent-Disposition: attachment\r\n\r\n", r.boundary(), kind)
	if _, err := w.Write(b.Bytes()); err != nil {
		return err
	}
	lines := mail.CRLFWriter{W: w}
	if _, err := io.Copy(&lines, r.message.Reader()); err != nil {
		return err
	}
	if err := lines.Close(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\r\n--%s--\r\n", r.boundary())
	return err
}
