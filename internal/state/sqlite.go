package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"
)

// SQLite is a Store in a file of one gateway. Sets and greylists are in the file
// with the answer. Counters and rates are in memory and are written every few
// seconds: a crash forgets what was counted since, which only loosens a rate.
// Who is where is in memory only: after a crash nobody is anywhere.
//
// The file is made at first use. A damaged one is set aside, and work goes on
// with a new one.
type SQLite struct {
	path string
	o    Options
	hot  *hot

	mu     sync.RWMutex // read: the file is in use
	file   *file        // nil: not open yet
	turn   int          // how many files were set aside
	closed bool

	stop   context.CancelFunc // of upkeep
	upkeep sync.WaitGroup
}

// hotRoom is how many counters, and how many rates, are kept in memory.
const hotRoom = 200_000

// NewSQLite makes a store in the file at path.
func NewSQLite(path string, o Options) *SQLite {
	return &SQLite{path: path, o: o.withDefaults(), hot: newHot(hotRoom)}
}

var errClosed = fmt.Errorf("%w: it is closed", ErrAway)

// with lets do use the file. When that says that the file is damaged, it is done
// again with a new one.
func (s *SQLite) with(ctx context.Context, do func(ctx context.Context, f *file) error) error {
	inTime, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	err := s.try(inTime, do)
	if ctx.Err() != nil {
		return ctx.Err() // nobody waits
	}
	if err == nil || errors.Is(err, ErrAway) {
		return err
	}
	kind := ErrAway
	if busy(err) {
		kind = ErrBusy
	}
	return fmt.Errorf("%w: sqlite: %s: %w", kind, s.path, err)
}

func (s *SQLite) try(ctx context.Context, do func(ctx context.Context, f *file) error) error {
	for again := true; ; again = false {
		turn, err := s.once(ctx, do)
		if !again || !damaged(err) {
			return err
		}
		if err := s.replace(turn, err); err != nil {
			return err
		}
	}
}

// once does it with the file there is; turn counts the files.
func (s *SQLite) once(ctx context.Context, do func(ctx context.Context, f *file) error) (turn int, err error) {
	s.mu.RLock()
	f, turn := s.file, s.turn
	if f != nil {
		defer s.mu.RUnlock()
		return turn, do(ctx, f)
	}
	s.mu.RUnlock()
	if err := s.open(); err != nil {
		return turn, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.file == nil {
		return s.turn, errClosed
	}
	return s.turn, do(ctx, s.file)
}

// openTime is what a file that a crash left behind may take.
const openTime = 10 * time.Second

func (s *SQLite) open() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	if s.file != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), openTime)
	defer cancel()
	f, err := openFile(ctx, s.path, s.o.Timeout)
	if err != nil {
		return err
	}
	if s.stop == nil {
		if err := s.load(ctx, f); err != nil {
			return errors.Join(err, f.close())
		}
		s.hot.note()
		run, stop := context.WithCancel(context.Background())
		s.stop = stop
		s.upkeep.Go(func() { s.keepUp(run) })
	}
	s.file = f
	return nil
}

// replace sets the file of that turn aside, unless somebody else has done that.
func (s *SQLite) replace(turn int, why error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.turn != turn {
		return nil
	}
	if s.file != nil {
		_ = s.file.close() // it is damaged
		s.file = nil
	}
	to, err := setAside(s.path, s.o.Now())
	if err != nil {
		return fmt.Errorf("%w; setting it aside: %w", why, err)
	}
	s.turn++
	s.o.Log.Error("state: the file is damaged; it is set aside, and a new one begins", "file", s.path, "aside", to, "error", why)
	return nil
}

// Name is "sqlite:/path".
func (s *SQLite) Name() string { return "sqlite:" + s.path }

// Close writes what is in memory, and closes the file.
func (s *SQLite) Close() error {
	s.mu.Lock()
	s.closed = true
	stop := s.stop
	s.mu.Unlock()
	if stop != nil {
		stop()
		s.upkeep.Wait()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return nil
	}
	_, err := s.file.end.Exec()
	err = errors.Join(err, s.file.close())
	s.file = nil
	if err != nil {
		return fmt.Errorf("state: closing %s: %w", s.path, err)
	}
	return nil
}

// Put sets an entry.
func (s *SQLite) Put(ctx context.Context, set Set, key, value string, ttl time.Duration) error {
	if err := checkPut(set, key, value, ttl); err != nil {
		return err
	}
	return s.with(ctx, func(ctx context.Context, f *file) error {
		_, err := f.put.ExecContext(ctx, string(set), key, value, s.micros()+ttl.Microseconds())
		return err
	})
}

func (s *SQLite) micros() int64 { return s.o.Now().UnixMicro() }

// Get finds the first of the keys that is there.
func (s *SQLite) Get(ctx context.Context, set Set, keys ...string) (e Entry, ok bool, err error) {
	if err := checkKeys(set, keys); err != nil {
		return Entry{}, false, err
	}
	err = s.with(ctx, func(ctx context.Context, f *file) error {
		for _, key := range keys {
			var k kept
			err := f.get.QueryRowContext(ctx, string(set), key, s.micros()).Scan(&k.value, &k.expires)
			if err == nil {
				e, ok = k.entry(key), true
				return nil
			}
			if err != sql.ErrNoRows {
				return err
			}
		}
		return nil
	})
	return e, ok, err
}

// Delete removes entries.
func (s *SQLite) Delete(ctx context.Context, set Set, keys ...string) (n int, err error) {
	if err := checkKeys(set, keys); err != nil {
		return 0, err
	}
	err = s.with(ctx, func(ctx context.Context, f *file) error {
		n = 0
		return f.change(ctx, func(tx *sql.Tx) error {
			for _, key := range keys {
				var expires int64
				err := tx.StmtContext(ctx, f.remove).QueryRowContext(ctx, string(set), key).Scan(&expires)
				if err != nil && err != sql.ErrNoRows {
					return err
				}
				if expires > s.micros() {
					n++
				}
			}
			return nil
		})
	})
	return n, err
}

// change does something in one transaction.
func (f *file) change(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := f.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := do(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// List returns entries in order.
func (s *SQLite) List(ctx context.Context, set Set, prefix string, limit int) (list []Entry, err error) {
	if err := checkList(set, prefix, limit); err != nil {
		return nil, err
	}
	err = s.with(ctx, func(ctx context.Context, f *file) error {
		list = nil
		behind := after(prefix)
		rows, err := f.list.QueryContext(ctx, string(set), prefix, behind, behind, s.micros(), limit)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var key string
			var k kept
			if err := rows.Scan(&key, &k.value, &k.expires); err != nil {
				return err
			}
			list = append(list, k.entry(key))
		}
		return rows.Err()
	})
	return list, err
}

// after is the first text behind all that begin with prefix; "": none is.
func after(prefix string) string {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] < 0xff {
			return prefix[:i] + string([]byte{prefix[i] + 1})
		}
	}
	return ""
}

// Count adds to a counter.
func (s *SQLite) Count(ctx context.Context, key string, n int, window time.Duration) (sum int, err error) {
	if err := checkCount(key, n, window); err != nil {
		return 0, err
	}
	if err := s.ready(ctx); err != nil {
		return 0, err
	}
	return s.hot.count(s.micros(), key, n, window), nil
}

// ready opens the file, which has the counters.
func (s *SQLite) ready(ctx context.Context) error {
	return s.with(ctx, func(context.Context, *file) error { return nil })
}

// Take asks for n of a rate.
func (s *SQLite) Take(ctx context.Context, key string, r Rate, n int) (time.Duration, error) {
	if err := checkTake(key, r, n); err != nil {
		return 0, err
	}
	if err := s.ready(ctx); err != nil {
		return 0, err
	}
	return s.hot.take(s.micros(), key, r, n), nil
}

// Enter notes who is at key.
func (s *SQLite) Enter(_ context.Context, key, id string, limit int, ttl time.Duration) (int, bool, error) {
	if err := checkEnter(key, id, limit, ttl); err != nil {
		return 0, false, err
	}
	n, ok := s.hot.enter(s.micros(), key, id, limit, ttl)
	return n, ok, nil
}

// Leave takes Enter back.
func (s *SQLite) Leave(_ context.Context, key, id string) error {
	s.hot.leave(key, id)
	return nil
}
