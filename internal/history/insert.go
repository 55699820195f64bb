package history

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"

	"gatepost/internal/mail"
)

// insert writes a batch in one transaction, and returns how many it was.
func (s *Store) insert(ctx context.Context, batch []item) (n int, err error) {
	f := s.file
	err = f.change(ctx, func(tx *sql.Tx) error {
		w := writer{tx: tx, ctx: ctx, message: tx.StmtContext(ctx, f.message), body: tx.StmtContext(ctx, f.body), tag: tx.StmtContext(ctx, f.tag),
			words: tx.StmtContext(ctx, f.words), event: tx.StmtContext(ctx, f.event)}
		n = 0
		for _, i := range batch {
			var err error
			if i.record != nil {
				err = s.insertRecord(&w, i.record)
			} else {
				err = s.insertEvent(&w, i.event)
			}
			if err != nil {
				return err
			}
			n++
		}
		return nil
	})
	return n, err
}

// writer is one transaction with its statements.
type writer struct {
	ctx                              context.Context
	tx                               *sql.Tx
	message, body, tag, words, event *sql.Stmt
}

// lastSeq keeps the numbers of one table apart: what comes in the same
// microsecond has the next.
type lastSeq int64

func (l *lastSeq) next(t time.Time) int64 {
	seq := micros(t)
	if last := int64(*l); seq <= last && last-seq < time.Second.Microseconds() {
		seq = last + 1
	}
	*l = lastSeq(seq)
	return seq
}

// mostBumps is how many numbers in a row may be taken.
const mostBumps = 10_000

// numbered inserts a row under the first number that is free.
func numbered(seq int64, insert func(seq int64) (sql.Result, error)) (int64, error) {
	for end := seq + mostBumps; ; seq++ {
		res, err := insert(seq)
		if err != nil {
			return 0, err
		}
		if n, err := res.RowsAffected(); err != nil || n > 0 || seq == end {
			return seq, err
		}
	}
}

func (s *Store) insertRecord(w *writer, r *Record) error {
	packed, err := s.codec.pack(r)
	if err != nil {
		return err
	}
	seq, err := numbered(s.seq.next(r.Time), func(seq int64) (sql.Result, error) {
		return w.message.ExecContext(w.ctx, seq, r.ID, int(stageOf(r.Stage)), int(actionOf(r.Action)), r.Size, r.Subject)
	})
	if err != nil {
		return err
	}
	if _, err := w.body.ExecContext(w.ctx, seq, packed); err != nil {
		return err
	}
	for _, key := range r.keys() {
		if _, err := w.tag.ExecContext(w.ctx, key, seq); err != nil {
			return err
		}
	}
	if r.Subject == "" {
		return nil
	}
	_, err = w.words.ExecContext(w.ctx, seq, r.Subject)
	return err
}

func (s *Store) insertEvent(w *writer, e *mail.Event) error {
	out := event(*e)
	data, err := json.Marshal(&out)
	if err != nil {
		return err
	}
	var id, status any // NULL
	if e.ID != e.Group {
		id = e.ID
	}
	if out.Status != "" {
		status = out.Status
	}
	_, err = numbered(s.eventSeq.next(e.Time), func(seq int64) (sql.Result, error) {
		return w.event.ExecContext(w.ctx, seq, e.Group, id, string(e.What), status, string(data))
	})
	return err
}

// actionOf is the reverse of mail.Action's String.
func actionOf(name string) mail.Action {
	for a := mail.Continue; a < mail.Reject; a++ {
		if a.String() == name {
			return a
		}
	}
	return mail.Reject
}
