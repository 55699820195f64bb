package history

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"sync"
)

// Reader searches a history that another may be writing.
type Reader struct {
	db    *sql.DB
	codec *codec
}

// OpenReader opens the file at path to be read. Where there is none yet, that
// is os.ErrNotExist.
func OpenReader(path string) (*Reader, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("history: nothing is recorded yet: %w", err)
	}
	db, err := sql.Open("sqlite", source(path, "&mode=ro&_pragma=query_only(1)&_pragma=temp_store(MEMORY)&_pragma=cache_size(-16000)"))
	if err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	db.SetMaxOpenConns(4)
	if err := checkVersion(db); err != nil {
		_ = db.Close()
		return nil, err
	}
	c, err := newCodec()
	if err != nil {
		_ = db.Close()
		return nil, err
	}
	return &Reader{db, c}, nil
}

// checkVersion refuses a file that is just being made, and one of a later
// version.
func checkVersion(db *sql.DB) error {
	ctx, cancel := context.WithTimeout(context.Background(), openTime)
	defer cancel()
	var v int
	err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&v)
	switch {
	case err != nil:
		return fmt.Errorf("history: %w", err)
	case v == 0:
		return fmt.Errorf("history: nothing is recorded yet: %w", fs.ErrNotExist)
	case v != version:
		return fmt.Errorf("history: the file was made by a later version of Gatepost (%d)", v)
	}
	return nil
}

// Close closes the file.
func (r *Reader) Close() error {
	r.codec.close()
	return r.db.Close()
}

// mostEvents is how much of one message's life is shown.
const mostEvents = 10_000

// Life implements Finder.
func (r *Reader) Life(ctx context.Context, id string) (Life, error) {
	var l Life
	if err := r.life(ctx, id, &l); err != nil {
		return l, fmt.Errorf("history: %s: %w", id, err)
	}
	if len(l.Records)+len(l.Events) > 0 {
		return l, nil
	}
	var group string // of a message that it was split into
	err := r.db.QueryRowContext(ctx, "SELECT grp FROM event WHERE id = ? LIMIT 1", id).Scan(&group)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	if err == nil {
		err = r.life(ctx, group, &l)
	}
	if err != nil {
		return l, fmt.Errorf("history: %s: %w", id, err)
	}
	return l, nil
}

func (r *Reader) life(ctx context.Context, id string, l *Life) error {
	rows, err := r.db.QueryContext(ctx, "SELECT b.data FROM message m JOIN body b ON b.seq = m.seq WHERE m.id = ? ORDER BY m.seq LIMIT 100", id)
	if err != nil {
		return err
	}
	if l.Records, err = r.records(rows); err != nil {
		return err
	}
	rows, err = r.db.QueryContext(ctx, "SELECT data FROM event WHERE grp = ? ORDER BY seq LIMIT ?", id, mostEvents)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var data []byte
		var e Event
		if err := rows.Scan(&data); err != nil {
			return err
		}
		if err := json.Unmarshal(data, &e); err != nil {
			return fmt.Errorf("%w: %w", errRecord, err)
		}
		l.Events = append(l.Events, e)
	}
	return rows.Err()
}

// records reads rows of packed records.
func (r *Reader) records(rows *sql.Rows) ([]Record, error) {
	defer rows.Close()
	var all []Record
	for rows.Next() {
		var data []byte
		if err := rows.Scan(&data); err != nil {
			return nil, err
		}
		one, err := r.codec.unpack(data)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}

// usualPage is a page of a query without a limit, and mostAtOnce the largest.
const (
	usualPage  = 50
	mostAtOnce = 1000
)

// Search implements Finder.
func (r *Reader) Search(ctx context.Context, q Query) (Page, error) {
	limit := q.Limit
	if limit <= 0 {
		limit = usualPage
	}
	limit = min(limit, mostAtOnce)
	seqs, err := r.seqs(ctx, q, limit+1)
	if err != nil {
		return Page{}, err
	}
	page := Page{Records: []Record{}}
	if len(seqs) > limit {
		seqs = seqs[:limit]
		page.Next = cursor(seqs[limit-1])
	}
	for _, seq := range seqs {
		var data []byte
		err := r.db.QueryRowContext(ctx, "SELECT data FROM body WHERE seq = ?", seq).Scan(&data)
		if errors.Is(err, sql.ErrNoRows) {
			continue // it was too old between two looks
		}
		if err != nil {
			return Page{}, fmt.Errorf("history: search: %w", err)
		}
		one, err := r.codec.unpack(data)
		if err != nil {
			return Page{}, err
		}
		page.Records = append(page.Records, one)
	}
	return page, nil
}

// stride is how many records Each reads in one look: a long one would keep the
// file from being written back.
const stride = 256

// Each implements Finder. Records are unpacked by all processors while they are
// looked at.
func (r *Reader) Each(ctx context.Context, q Query, yield func(Record) error) error {
	q.After = ""
	for {
		seqs, err := r.seqs(ctx, q, stride)
		if err != nil || len(seqs) == 0 {
			return err
		}
		packed, err := r.bodies(ctx, seqs)
		if err != nil {
			return fmt.Errorf("history: reading all: %w", err)
		}
		all, err := r.unpackAll(packed)
		if err != nil {
			return err
		}
		for _, one := range all {
			if err := yield(one); err != nil {
				return err
			}
		}
		q.After = cursor(seqs[len(seqs)-1])
	}
}

func (r *Reader) bodies(ctx context.Context, seqs []int64) ([][]byte, error) {
	get, err := r.db.PrepareContext(ctx, "SELECT data FROM body WHERE seq = ?")
	if err != nil {
		return nil, err
	}
	defer get.Close()
	var all [][]byte
	for _, seq := range seqs {
		var data []byte
		switch err := get.QueryRowContext(ctx, seq).Scan(&data); {
		case errors.Is(err, sql.ErrNoRows):
		case err != nil:
			return nil, err
		default:
			all = append(all, data)
		}
	}
	return all, nil
}

func (r *Reader) unpackAll(packed [][]byte) ([]Record, error) {
	out, errs := make([]Record, len(packed)), make([]error, len(packed))
	workers := min(runtime.GOMAXPROCS(0), 8)
	var wait sync.WaitGroup
	for w := range workers {
		wait.Go(func() {
			for i := w; i < len(packed); i += workers {
				out[i], errs[i] = r.codec.unpack(packed[i])
			}
		})
	}
	wait.Wait()
	return out, errors.Join(errs...)
}
