package state

import (
	"context"
	"database/sql"
	"time"
)

const (
	writeEvery = 5 * time.Second  // counters and rates
	cleanEvery = 30 * time.Second // what has ended
	rowsAtOnce = 500              // in one transaction
	cleanTurns = 100
	mostRows   = 2_000_000 // of entries, and of greylists
)

// keepUp writes what is in memory, and removes what has ended, until ctx ends.
func (s *SQLite) keepUp(ctx context.Context) {
	write, clean := time.NewTicker(writeEvery), time.NewTicker(cleanEvery)
	defer write.Stop()
	defer clean.Stop()
	for {
		select {
		case <-write.C:
			s.report("write", s.flush(ctx))
		case <-clean.C:
			s.report("clean", s.clean(ctx, mostRows))
		case <-ctx.Done():
			s.report("write", s.flush(context.Background()))
			return
		}
	}
}

func (s *SQLite) report(what string, err error) {
	if err != nil {
		s.o.Stats.StoreError("sqlite", what)
		s.o.Log.Warn("state: upkeep of the file failed", "file", s.path, "step", what, "error", err)
	}
}

// flush writes the counters and rates that have changed, in parts: sessions
// wait for each.
func (s *SQLite) flush(ctx context.Context) error {
	for {
		tallies, rates := s.hot.collect(rowsAtOnce)
		if len(tallies)+len(rates) == 0 {
			return nil
		}
		err := s.with(ctx, func(ctx context.Context, f *file) error {
			return f.change(ctx, func(tx *sql.Tx) error { return f.saveHot(ctx, tx, tallies, rates) })
		})
		if err != nil {
			s.hot.again(tallies, rates)
			return err
		}
	}
}

func (f *file) saveHot(ctx context.Context, tx *sql.Tx, tallies map[string]counted, rates map[string]rated) error {
	st := tx.StmtContext(ctx, f.saveTally)
	for key, c := range tallies {
		if _, err := st.ExecContext(ctx, key, c.Start, c.Now, c.Before, c.ends); err != nil {
			return err
		}
	}
	st = tx.StmtContext(ctx, f.saveRate)
	for key, r := range rates {
		if _, err := st.ExecContext(ctx, key, r.full, r.ends); err != nil {
			return err
		}
	}
	return nil
}

// collect takes at most n of each that have changed since the last time.
func (h *hot) collect(n int) (map[string]counted, map[string]rated) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return collect(h.tallies.m, h.dirtyTallies, n), collect(h.rates.m, h.dirtyRates, n)
}

func collect[V any](from map[string]V, keys map[string]struct{}, n int) map[string]V {
	values := make(map[string]V)
	for key := range keys {
		if len(values) == n {
			break
		}
		if v, ok := from[key]; ok {
			values[key] = v
		}
		delete(keys, key)
	}
	return values
}

// again notes what was collected and could not be written.
func (h *hot) again(tallies map[string]counted, rates map[string]rated) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for key := range tallies {
		h.dirtyTallies[key] = struct{}{}
	}
	for key := range rates {
		h.dirtyRates[key] = struct{}{}
	}
}

// load reads counters and rates.
func (s *SQLite) load(ctx context.Context, f *file) error {
	now := s.micros()
	err := each(ctx, f.read, "SELECT key, start, now, before, expires FROM tally WHERE expires > ? LIMIT ?", now, func(scan func(...any) error) error {
		var key string
		var c counted
		if err := scan(&key, &c.Start, &c.Now, &c.Before, &c.ends); err != nil {
			return err
		}
		s.hot.tallies.put(now, key, c)
		return nil
	})
	if err != nil {
		return err
	}
	return each(ctx, f.read, "SELECT key, full, expires FROM rate WHERE expires > ? LIMIT ?", now, func(scan func(...any) error) error {
		var key string
		var r rated
		if err := scan(&key, &r.full, &r.ends); err != nil {
			return err
		}
		s.hot.rates.put(now, key, r)
		return nil
	})
}

func each(ctx context.Context, db *sql.DB, query string, now int64, row func(scan func(...any) error) error) error {
	rows, err := db.QueryContext(ctx, query, now, hotRoom)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// clean removes what has ended, and what would end first of more than most.
func (s *SQLite) clean(ctx context.Context, most int) error {
	return s.with(ctx, func(ctx context.Context, f *file) error {
		now := s.micros()
		for _, st := range []*sql.Stmt{f.expireTallies, f.expireRates} {
			if _, err := st.ExecContext(ctx, now); err != nil {
				return err
			}
		}
		for _, c := range []struct{ expire, count, drop *sql.Stmt }{
			{f.expireEntries, f.countEntries, f.dropFirstEntries}, {f.expireMet, f.countMet, f.dropFirstMet},
		} {
			if err := repeat(ctx, c.expire, now); err != nil {
				return err
			}
			n := 0
			if err := c.count.QueryRowContext(ctx).Scan(&n); err != nil {
				return err
			}
			for ; n > most; n -= rowsAtOnce {
				if _, err := c.drop.ExecContext(ctx, min(n-most, rowsAtOnce)); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// repeat removes in parts what has ended, with sessions in between.
func repeat(ctx context.Context, st *sql.Stmt, now int64) error {
	for range cleanTurns {
		r, err := st.ExecContext(ctx, now, rowsAtOnce)
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil || n < rowsAtOnce {
			return err
		}
	}
	return nil
}

// probe asks whether the file can be written.
func (s *SQLite) probe(ctx context.Context) error {
	return s.with(ctx, func(ctx context.Context, f *file) error {
		_, err := f.put.ExecContext(ctx, "probe", "probe", "", 0)
		return err
	})
}
