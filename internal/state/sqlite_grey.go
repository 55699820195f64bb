package state

import (
	"context"
	"database/sql"
)

// Grey decides by greylisting. Most deliveries are of triples that passed not
// long ago: these are only read.
func (s *SQLite) Grey(ctx context.Context, t Triple) (g Grey, err error) {
	if err := t.check(); err != nil {
		return Grey{}, err
	}
	err = s.with(ctx, func(ctx context.Context, f *file) error {
		now := s.micros()
		triple, network, err := f.find(ctx, t, now, func(st *sql.Stmt) *sql.Stmt { return st })
		if err != nil {
			return err
		}
		wasTriple, wasNetwork := triple, network
		if g = t.judge(now, &triple, &network); !t.matters(wasTriple, triple) && !t.matters(wasNetwork, network) {
			return nil
		}
		return f.change(ctx, func(tx *sql.Tx) error {
			triple, network, err := f.find(ctx, t, now, func(st *sql.Stmt) *sql.Stmt { return tx.StmtContext(ctx, st) })
			if err != nil {
				return err
			}
			wasTriple, wasNetwork := triple, network
			g = t.judge(now, &triple, &network)
			meet := tx.StmtContext(ctx, f.meet)
			if triple != wasTriple {
				if err := save(ctx, meet, tripleKind, t.Key, triple); err != nil {
					return err
				}
			}
			if network != wasNetwork {
				return save(ctx, meet, networkKind, t.Network, network)
			}
			return nil
		})
	})
	return g, err
}

// matters reports whether a change is worth writing. A life that became a
// little longer is not: it ends that much too early at worst.
func (t Triple) matters(was, is met) bool {
	renewed := is.Expires - was.Expires
	is.Expires = was.Expires
	return is != was || renewed < 0 || renewed > t.Keep.Microseconds()/32
}

const (
	tripleKind  = "triple"
	networkKind = "network"
)

func (f *file) find(ctx context.Context, t Triple, now int64, of func(*sql.Stmt) *sql.Stmt) (triple, network met, err error) {
	st := of(f.met)
	if triple, err = find(ctx, st, tripleKind, t.Key, now); err == nil && t.Auto > 0 {
		network, err = find(ctx, st, networkKind, t.Network, now)
	}
	return triple, network, err
}

func find(ctx context.Context, st *sql.Stmt, kind, key string, now int64) (m met, err error) {
	err = st.QueryRowContext(ctx, kind, key, now).Scan(&m.First, &m.Passed, &m.Count, &m.Expires)
	if err == sql.ErrNoRows {
		return met{}, nil
	}
	return m, err
}

func save(ctx context.Context, st *sql.Stmt, kind, key string, m met) error {
	_, err := st.ExecContext(ctx, kind, key, m.First, m.Passed, m.Count, m.Expires)
	return err
}
