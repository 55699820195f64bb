// Package audit keeps who looked at whose mail, and who did what: a file with one
// JSON object a line, which only grows until it is put aside.
package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// Entry is one thing that somebody did, or was refused.
type Entry struct {
	Time   time.Time `json:"time"` // no two entries have the same
	Who    string    `json:"who"`
	Role   string    `json:"role,omitempty"`
	From   string    `json:"from,omitempty"`   // address, or "control socket"
	What   string    `json:"what"`             // "view content", "queue delete", "login"
	IDs    []string  `json:"ids,omitempty"`    // of messages, the first ones
	More   int       `json:"more,omitempty"`   // IDs that are left out
	Detail string    `json:"detail,omitempty"` // what was asked for, in words or JSON
	Result string    `json:"result"`           // "done", "refused", "failed", "begun"
	Error  string    `json:"error,omitempty"`
}

// Bounds of one entry: what somebody asks for must not push out what others did.
const (
	mostIDs    = 100
	longDetail = 2000
)

// Bounds of the whole: the file, and those that were put aside.
const (
	maxFile = 10 << 20
	keep    = 9
)

// Log is the file. Its zero value has none, and keeps nothing.
type Log struct {
	path string
	log  *slog.Logger
	now  func() time.Time
	max  int64

	mu   sync.Mutex
	last time.Time
}

// New makes the log of a file, which is opened for each entry: what is put aside
// or removed by hand is no trouble. Each entry is a line of log, too.
func New(path string, log *slog.Logger) *Log {
	return &Log{path: path, log: log, now: time.Now, max: maxFile}
}

// Path is that of the file.
func (l *Log) Path() string { return l.path }

// Note keeps an entry. Its time is set here.
func (l *Log) Note(e Entry) error {
	if len(e.IDs) > mostIDs {
		e.IDs, e.More = e.IDs[:mostIDs], e.More+len(e.IDs)-mostIDs
	}
	e.Detail, e.Error = short(e.Detail), short(e.Error)
	l.mu.Lock()
	defer l.mu.Unlock()
	e.Time = l.now().UTC().Round(0).Truncate(time.Microsecond)
	if !e.Time.After(l.last) {
		e.Time = l.last.Add(time.Microsecond)
	}
	l.last = e.Time
	l.log.Info("audit", "who", e.Who, "role", e.Role, "client", e.From, "what", e.What, "ids", e.IDs, "detail", e.Detail, "result", e.Result)
	if err := l.append(e); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return nil
}

func short(s string) string {
	if len(s) > longDetail {
		return s[:longDetail] + "…"
	}
	return s
}

// append writes a line in one piece. l.mu is held.
func (l *Log) append(e Entry) (err error) {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(l.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size()+int64(len(line)) >= l.max && info.Size() > 0 {
		if err := l.rotate(); err != nil {
			return err
		}
		_ = f.Close()
		if f, err = os.OpenFile(l.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600); err != nil {
			return err
		}
	}
	if _, err := f.Write(append(line, '\n')); err != nil {
		return err
	}
	return nil
}

// rotate puts the file aside as PATH.1, that as PATH.2, and so on; the last one
// goes.
func (l *Log) rotate() error {
	for n := keep; n > 0; n-- {
		if err := os.Rename(aside(l.path, n-1), aside(l.path, n)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// aside is the name of the n-th file that was put aside; 0 is the file itself.
func aside(path string, n int) string {
	if n == 0 {
		return path
	}
	return fmt.Sprintf("%s.%d", path, n)
}

// Check reports whether an entry could be written now.
func (l *Log) Check() error {
	f, err := os.OpenFile(l.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return f.Close()
}
