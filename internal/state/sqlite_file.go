package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"
)

// file is an open database. One connection writes, so that our own sessions
// never find it locked; a long list does not keep them waiting.
type file struct {
	write, read *sql.DB

	put, remove, get, list              *sql.Stmt
	met, meet                           *sql.Stmt
	saveTally, saveRate                 *sql.Stmt
	expireEntries, expireMet            *sql.Stmt
	expireTallies, expireRates          *sql.Stmt
	countEntries, countMet              *sql.Stmt
	dropFirstEntries, dropFirstMet, end *sql.Stmt
}

const version = 1

const schema = `
CREATE TABLE entry (kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, expires INTEGER NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID;
CREATE INDEX entry_expires ON entry (expires);
CREATE TABLE met (kind TEXT NOT NULL, key TEXT NOT NULL, first INTEGER NOT NULL, passed INTEGER NOT NULL, count INTEGER NOT NULL, expires INTEGER NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID;
CREATE INDEX met_expires ON met (expires);
CREATE TABLE tally (key TEXT PRIMARY KEY, start INTEGER NOT NULL, now INTEGER NOT NULL, before INTEGER NOT NULL, expires INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE rate (key TEXT PRIMARY KEY, full REAL NOT NULL, expires INTEGER NOT NULL) WITHOUT ROWID;
PRAGMA user_version = 1;
`

// openFile opens or makes the database. It is durable up to the last
// checkpoint when the power fails, and up to the last answer when only the
// process ends. The file may be locked by another process, a command of the
// operator, for as long as busy.
func openFile(ctx context.Context, path string, busy time.Duration) (_ *file, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, err
	}
	made, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o640)
	if err != nil {
		return nil, err
	}
	if err := made.Close(); err != nil {
		return nil, err
	}
	f := &file{}
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	options := fmt.Sprintf("?_pragma=busy_timeout(%d)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_pragma=temp_store(MEMORY)&_txlock=immediate", busy.Milliseconds())
	address := (&url.URL{Scheme: "file", Path: path}).String() + options
	if f.write, err = sql.Open("sqlite", address); err != nil {
		return nil, err
	}
	f.write.SetMaxOpenConns(1)
	if err := f.create(ctx); err != nil {
		return nil, err
	}
	if f.read, err = sql.Open("sqlite", address+"&mode=rw&_pragma=query_only(1)"); err != nil {
		return nil, err
	}
	f.read.SetMaxOpenConns(2)
	return f, f.prepare(ctx)
}

func (f *file) create(ctx context.Context) error {
	tx, err := f.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	var v int
	if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&v); err != nil {
		return err
	}
	switch v {
	case version:
		return nil
	case 0:
		if _, err := tx.ExecContext(ctx, schema); err != nil {
			return err
		}
		return tx.Commit()
	}
	return fmt.Errorf("the file was made by a later version of Gatepost (%d)", v)
}

func (f *file) prepare(ctx context.Context) (err error) {
	const meet = "INSERT INTO met VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET first = excluded.first, passed = excluded.passed, count = excluded.count, expires = excluded.expires"
	for _, s := range []struct {
		on   *sql.DB
		to   **sql.Stmt
		text string
	}{
		{f.write, &f.put, "INSERT INTO entry VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value, expires = excluded.expires"},
		{f.write, &f.remove, "DELETE FROM entry WHERE kind = ? AND key = ? RETURNING expires"},
		{f.write, &f.get, "SELECT value, expires FROM entry WHERE kind = ? AND key = ? AND expires > ?"},
		{f.read, &f.list, "SELECT key, value, expires FROM entry WHERE kind = ? AND key >= ? AND (? = '' OR key < ?) AND expires > ? ORDER BY key LIMIT ?"},
		{f.write, &f.met, "SELECT first, passed, count, expires FROM met WHERE kind = ? AND key = ? AND expires > ?"},
		{f.write, &f.meet, meet},
		{f.write, &f.saveTally, "INSERT INTO tally VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET start = excluded.start, now = excluded.now, before = excluded.before, expires = excluded.expires"},
		{f.write, &f.saveRate, "INSERT INTO rate VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET full = excluded.full, expires = excluded.expires"},
		{f.write, &f.expireEntries, "DELETE FROM entry WHERE (kind, key) IN (SELECT kind, key FROM entry WHERE expires <= ? LIMIT ?)"},
		{f.write, &f.expireMet, "DELETE FROM met WHERE (kind, key) IN (SELECT kind, key FROM met WHERE expires <= ? LIMIT ?)"},
		{f.write, &f.expireTallies, "DELETE FROM tally WHERE expires <= ?"},
		{f.write, &f.expireRates, "DELETE FROM rate WHERE expires <= ?"},
		{f.read, &f.countEntries, "SELECT count(*) FROM entry"},
		{f.read, &f.countMet, "SELECT count(*) FROM met"},
		{f.write, &f.dropFirstEntries, "DELETE FROM entry WHERE (kind, key) IN (SELECT kind, key FROM entry ORDER BY expires LIMIT ?)"},
		{f.write, &f.dropFirstMet, "DELETE FROM met WHERE (kind, key) IN (SELECT kind, key FROM met ORDER BY expires LIMIT ?)"},
		{f.write, &f.end, "PRAGMA wal_checkpoint(TRUNCATE)"},
	} {
		if *s.to, err = s.on.PrepareContext(ctx, s.text); err != nil {
			return err
		}
	}
	return nil
}

func (f *file) close() error {
	var errs []error
	for _, db := range []*sql.DB{f.read, f.write} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// damaged reports whether an error says that a file is none of ours, or broken.
func damaged(err error) bool {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return false
	}
	code := e.Code() & 0xff
	return code == lib.SQLITE_CORRUPT || code == lib.SQLITE_NOTADB
}

// busy reports whether another process holds the file.
func busy(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code()&0xff == lib.SQLITE_BUSY
}

// setAside renames a damaged database, with what belongs to it.
func setAside(path string, now time.Time) (string, error) {
	to := path + ".damaged-" + now.UTC().Format("20060102T150405.000000")
	if err := os.Rename(path, to); err != nil {
		return "", err
	}
	for _, suffix := range []string{"-wal", "-shm"} {
		if err := os.Rename(path+suffix, to+suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
	}
	return to, nil
}
