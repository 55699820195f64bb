package history

import (
	"context"
	"database/sql"
	"time"
)

const (
	cleanEvery = 10 * time.Second
	cleanRows  = 100 // in one transaction: whoever writes waits for that at most
	cleanTurns = 200 // in one round
)

// clean removes what is too old, and the oldest where there is too much, in
// small steps. It stops when there is something to write.
func (s *Store) clean(ctx context.Context) {
	err := s.open(ctx)
	for turn := 0; err == nil && turn < cleanTurns && ctx.Err() == nil; turn++ {
		var more bool
		if more, err = s.cleanOnce(ctx); !more {
			break
		}
		if len(s.line.wake) > 0 && turn > 0 {
			s.nextClean = time.Time{} // go on when that is written
			break
		}
	}
	switch {
	case err == nil:
	case damaged(err):
		if err := s.replace(err); err != nil {
			s.complaints.add("history: not cleaned", 0, err)
		}
	default:
		s.complaints.add("history: not cleaned", 0, err)
	}
}

// cleanOnce removes one batch, if there is something to remove.
func (s *Store) cleanOnce(ctx context.Context) (more bool, err error) {
	size, free, page, err := s.file.size(ctx)
	if err != nil {
		return false, err
	}
	before := micros(s.o.Now().Add(-s.cfg.MaxAge))
	if (size-free)*page > s.cfg.MaxSize {
		before = 1 << 62
	}
	n, err := s.file.dropOldest(ctx, s.codec, before)
	if err != nil || n > 0 {
		return true, err
	}
	if size*page > s.cfg.MaxSize && free > 0 { // it was made smaller
		_, err = s.file.db.ExecContext(ctx, "PRAGMA incremental_vacuum(500)")
		return true, err
	}
	return false, nil
}

// size is in pages.
func (f *file) size(ctx context.Context) (all, free, page int64, err error) {
	for _, q := range []struct {
		text string
		to   *int64
	}{{"PRAGMA page_count", &all}, {"PRAGMA freelist_count", &free}, {"PRAGMA page_size", &page}} {
		if err := f.db.QueryRowContext(ctx, q.text).Scan(q.to); err != nil {
			return 0, 0, 0, err
		}
	}
	return all, free, page, nil
}

// dropOldest removes some of the oldest records and events before a number. Of
// records and events those go first that are older.
func (f *file) dropOldest(ctx context.Context, c *codec, before int64) (n int64, err error) {
	type old struct {
		seq     int64
		subject string
		keys    [][]byte
	}
	var all []old
	rows, err := f.oldBodies.QueryContext(ctx, before, cleanRows)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var o old
		var data []byte
		if err := rows.Scan(&o.seq, &o.subject, &data); err != nil {
			return 0, err
		}
		if r, err := c.unpack(data); err == nil { // else its keys lead to nothing
			o.keys = r.keys()
		}
		all = append(all, o)
	}
	if err := rows.Err(); err != nil {
		return 0, err
	}
	rows.Close()
	if len(all) == cleanRows {
		before = all[len(all)-1].seq + 1
	}
	err = f.change(ctx, func(tx *sql.Tx) error {
		res, err := tx.StmtContext(ctx, f.expire).ExecContext(ctx, before, 10*cleanRows)
		if err != nil {
			return err
		}
		if n, err = res.RowsAffected(); err != nil {
			return err
		}
		for _, o := range all {
			if err := f.drop(ctx, tx, o.seq, o.subject, o.keys); err != nil {
				return err
			}
		}
		n += int64(len(all))
		return nil
	})
	return n, err
}

func (f *file) drop(ctx context.Context, tx *sql.Tx, seq int64, subject string, keys [][]byte) error {
	if subject != "" {
		if _, err := tx.StmtContext(ctx, f.dropWord).ExecContext(ctx, seq, subject); err != nil {
			return err
		}
	}
	for _, key := range keys {
		if _, err := tx.StmtContext(ctx, f.untag).ExecContext(ctx, key, seq); err != nil {
			return err
		}
	}
	for _, s := range []*sql.Stmt{f.dropMessage, f.dropBody} {
		if _, err := tx.StmtContext(ctx, s).ExecContext(ctx, seq); err != nil {
			return err
		}
	}
	return nil
}
