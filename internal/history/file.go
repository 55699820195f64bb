package history

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

const version = 1

// A record has its time in microseconds as its number, so records are in order
// and a page begins at a number. What is counted and listed stands apart from
// the record itself, which is read for those that are shown only.
const schema = `
CREATE TABLE message (seq INTEGER PRIMARY KEY, id TEXT NOT NULL, stage INTEGER NOT NULL, action INTEGER NOT NULL, size INTEGER NOT NULL, subject TEXT NOT NULL);
CREATE INDEX message_id ON message (id);
CREATE INDEX message_action ON message (action, seq);
CREATE TABLE body (seq INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE tag (key BLOB NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (key, seq)) WITHOUT ROWID;
CREATE TABLE event (seq INTEGER PRIMARY KEY, grp TEXT NOT NULL, id TEXT, what TEXT NOT NULL, status TEXT, data TEXT NOT NULL);
CREATE INDEX event_grp ON event (grp);
CREATE INDEX event_id ON event (id) WHERE id IS NOT NULL;
CREATE VIRTUAL TABLE words USING fts5 (subject, content = 'message', content_rowid = 'seq', tokenize = 'trigram');
PRAGMA user_version = 1;
`

// file is the open database, for the one who writes.
type file struct {
	db *sql.DB

	message, body, tag, event, words        *sql.Stmt
	oldBodies, untag                        *sql.Stmt
	dropMessage, dropBody, dropWord, expire *sql.Stmt
}

// busyTime is how long another process may hold the file, before we try again
// later.
const busyTime = 2 * time.Second

func source(path, options string) string {
	return (&url.URL{Scheme: "file", Path: path}).String() + fmt.Sprintf("?_pragma=busy_timeout(%d)", busyTime.Milliseconds()) + options
}

// openFile opens or makes the database. When the process is killed, nothing of
// what was committed is lost; when the power fails, the last seconds may be.
func openFile(ctx context.Context, path string) (_ *file, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, err
	}
	// SQLite would make it readable for all.
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
			_ = f.close()
		}
	}()
	f.db, err = sql.Open("sqlite", source(path, "&_pragma=auto_vacuum(INCREMENTAL)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)"+
		"&_pragma=temp_store(MEMORY)&_pragma=journal_size_limit(16777216)&_pragma=cache_size(-16000)&_txlock=immediate"))
	if err != nil {
		return nil, err
	}
	f.db.SetMaxOpenConns(1)
	if err := f.create(ctx); err != nil {
		return nil, err
	}
	return f, f.prepare(ctx)
}

func (f *file) create(ctx context.Context) error {
	tx, err := f.db.BeginTx(ctx, nil)
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
	for _, s := range []struct {
		to   **sql.Stmt
		text string
	}{
		{&f.message, "INSERT INTO message VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"},
		{&f.body, "INSERT INTO body VALUES (?, ?)"},
		{&f.tag, "INSERT INTO tag VALUES (?, ?) ON CONFLICT DO NOTHING"},
		{&f.words, "INSERT INTO words (rowid, subject) VALUES (?, ?)"},
		{&f.event, "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"},
		{&f.oldBodies, "SELECT m.seq, m.subject, b.data FROM message m LEFT JOIN body b ON b.seq = m.seq WHERE m.seq < ? ORDER BY m.seq LIMIT ?"},
		{&f.untag, "DELETE FROM tag WHERE key = ? AND seq = ?"},
		{&f.dropMessage, "DELETE FROM message WHERE seq = ?"},
		{&f.dropBody, "DELETE FROM body WHERE seq = ?"},
		{&f.dropWord, "INSERT INTO words (words, rowid, subject) VALUES ('delete', ?, ?)"},
		{&f.expire, "DELETE FROM event WHERE seq IN (SELECT seq FROM event WHERE seq < ? ORDER BY seq LIMIT ?)"},
	} {
		if *s.to, err = f.db.PrepareContext(ctx, s.text); err != nil {
			return err
		}
	}
	return nil
}

// change does something in one transaction.
func (f *file) change(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := f.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := do(tx); err != nil {
		return err
	}
	return tx.Commit()
}

func (f *file) close() error {
	if f.db == nil {
		return nil
	}
	return f.db.Close()
}

// code is the primary result code of an error of SQLite, 0 for another error.
func code(err error) int {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return 0
	}
	return e.Code() & 0xff
}

// damaged reports whether an error says that a file is none of ours, or broken.
func damaged(err error) bool {
	c := code(err)
	return c == lib.SQLITE_CORRUPT || c == lib.SQLITE_NOTADB
}

// hopeless reports whether trying again later would meet the same error: it is
// about what is written, not about the disk or another process.
func hopeless(err error) bool {
	switch code(err) {
	case lib.SQLITE_CONSTRAINT, lib.SQLITE_TOOBIG, lib.SQLITE_MISMATCH, lib.SQLITE_RANGE, lib.SQLITE_MISUSE, lib.SQLITE_ERROR:
		return true
	}
	return errors.Is(err, errRecord)
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
