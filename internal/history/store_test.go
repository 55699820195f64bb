package history

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gatepost/internal/mail"
)

// results counts what became of records.
type results struct {
	mu sync.Mutex
	of map[string]int
}

func (r *results) Recorded(result string, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of == nil {
		r.of = make(map[string]int)
	}
	r.of[result] += n
}

func (r *results) count(result string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.of[result]
}

func config(t testing.TB) Config {
	cfg := DefaultConfig()
	cfg.Path = filepath.Join(t.TempDir(), "history.db")
	cfg.MaxAge = 100 * 365 * 24 * time.Hour
	return cfg
}

func TestLife(t *testing.T) {
	s := start(t, config(t), Options{})
	if _, err := s.Search(context.Background(), Query{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("before anything: %v", err)
	}
	r := sampleRecord(t, 1)
	split := mail.NewID(epoch)
	s.Decision(r)
	at := r.Time
	for _, e := range []mail.Event{
		{ID: r.ID, What: mail.EventQueued, Text: "for a"},
		{ID: split, Group: r.ID, What: mail.EventHeld, Text: "spam"},
		{ID: r.ID, What: mail.EventAttempt, Rcpt: parsed(t, "a@example.com"), Status: mail.Delivered, Remote: "mx[192.0.2.1]:25", Text: "250 ok"},
		{ID: split, Group: r.ID, What: mail.EventAsked, Text: "release", By: "root"},
	} {
		e.Time = at // all in the same microsecond: in the order in which they came
		s.Event(e)
	}
	var life Life
	eventually(t, "all is written", func() bool {
		l, err := s.Life(context.Background(), r.ID)
		life = l
		return err == nil && len(l.Records) == 1 && len(l.Events) == 4
	})
	var what []string
	for _, e := range life.Events {
		what = append(what, string(e.What))
	}
	if got, want := strings.Join(what, " "), "queued held attempt asked"; got != want {
		t.Errorf("events %s, want %s", got, want)
	}
	if e := life.Events[2]; e.Status != "sent" || e.Rcpt != "a@example.com" || e.Remote != "mx[192.0.2.1]:25" {
		t.Errorf("attempt %+v", e)
	}
	if l, err := s.Life(context.Background(), split); err != nil || len(l.Records) != 1 || len(l.Events) != 4 {
		t.Errorf("by the ID of a part: %+v, %v", l, err)
	}
	if _, err := s.Life(context.Background(), mail.NewID(epoch)); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown: %v", err)
	}
	if text := life.Records[0].Inside.Text; text != "" {
		t.Errorf("the text %q is kept, and nobody wants that", text)
	}
}

// What came before the end is written, and is there for the next process.
func TestStop(t *testing.T) {
	cfg := config(t)
	s := start(t, cfg, Options{})
	const n = 2*atOnce + 1
	for range n {
		s.Event(mail.Event{ID: "x", What: mail.EventMoved})
	}
	s.stop()
	r, err := OpenReader(cfg.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got := count(t, r.db, "event"); got != n {
		t.Errorf("%d events, want %d", got, n)
	}
}

func count(t testing.TB, db *sql.DB, table string) (n int) {
	t.Helper()
	if err := db.QueryRow("SELECT count(*) FROM " + table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// A line that is full costs records, never time.
func TestFullLine(t *testing.T) {
	var stats results
	var log bytes.Buffer
	s, err := Open(config(t), Options{Stats: &stats, Log: slog.New(slog.NewTextHandler(&log, nil)), Line: 100_000})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1000 { // nobody writes
		s.Decision(sampleRecord(t, i))
	}
	if lost := stats.count("full"); lost < 900 || lost == 1000 {
		t.Errorf("%d left out", lost)
	}
	if n := strings.Count(log.String(), "\n"); n == 0 || n > 3 {
		t.Errorf("%d lines of log:\n%s", n, log.String())
	}
}

// Another process has the file, or the disk is full: it is written when that is
// over.
func TestTriedAgain(t *testing.T) {
	t.Run("locked", func(t *testing.T) {
		cfg := config(t)
		s := start(t, cfg, Options{})
		s.Decision(sampleRecord(t, 1))
		eventually(t, "the file is there", func() bool { return found(s, Query{}) == 1 })
		db, err := sql.Open("sqlite", source(cfg.Path, "&_txlock=exclusive"))
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		tx, err := db.Begin()
		if err != nil {
			t.Fatal(err)
		}
		s.Decision(sampleRecord(t, 2))
		eventually(t, "it waits", func() bool {
			s.complaints.mu.Lock()
			defer s.complaints.mu.Unlock()
			return !s.complaints.last.IsZero()
		})
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it is written", func() bool { return found(s, Query{}) == 2 })
	})
	t.Run("full", func(t *testing.T) {
		var stats results
		s, err := Open(config(t), Options{Stats: &stats})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.open(context.Background()); err != nil {
			t.Fatal(err)
		}
		defer s.end()
		limit := func(n int) {
			if _, err := s.file.db.Exec(fmt.Sprintf("PRAGMA max_page_count = %d", n)); err != nil {
				t.Fatal(err)
			}
		}
		limit(1) // what it has
		var batch []item
		for i := range 200 {
			r := sampleRecord(t, i)
			batch = append(batch, item{record: &r})
		}
		over, cancel := context.WithCancel(context.Background())
		cancel()
		s.write(over, batch)
		if stats.count("failed") != 200 || count(t, s.file.db, "message") != 0 {
			t.Errorf("%+v, %d records, want none", &stats, count(t, s.file.db, "message"))
		}
		limit(1 << 30)
		s.write(context.Background(), batch)
		if stats.count("written") != 200 || count(t, s.file.db, "message") != 200 {
			t.Errorf("%+v, %d records, want 200", &stats, count(t, s.file.db, "message"))
		}
	})
}

func found(s started, q Query) int {
	q.Limit = mostAtOnce
	page, err := s.Search(context.Background(), q)
	if err != nil {
		return -1
	}
	return len(page.Records)
}

// A file that is none is set aside, and a new one begins; readers see that.
func TestDamaged(t *testing.T) {
	cfg := config(t)
	if err := os.WriteFile(cfg.Path, []byte(strings.Repeat("this is no database\n", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, cfg, Options{})
	if _, err := s.Search(context.Background(), Query{}); err == nil {
		t.Error("a search in a damaged file has a result")
	}
	s.Decision(sampleRecord(t, 1))
	eventually(t, "the new file is written", func() bool { return found(s, Query{}) == 1 })
	aside, err := filepath.Glob(cfg.Path + ".damaged-*")
	if err != nil || len(aside) != 1 {
		t.Errorf("set aside: %v, %v", aside, err)
	}
}

// What is too old goes, with all that leads to it.
func TestMaxAge(t *testing.T) {
	cfg := config(t)
	cfg.MaxAge = 24 * time.Hour
	now := epoch
	s, err := Open(cfg, Options{Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.open(context.Background()); err != nil {
		t.Fatal(err)
	}
	defer s.end()
	var batch []item
	for i := range 300 {
		r := sampleRecord(t, i)
		batch = append(batch, item{record: &r}, item{event: &mail.Event{Time: r.Time, ID: r.ID, Group: r.ID, What: mail.EventQueued}})
	}
	if _, err := s.insert(context.Background(), batch); err != nil {
		t.Fatal(err)
	}
	now = epoch.Add(24*time.Hour + 150*7*time.Second)
	s.clean(context.Background())
	if n, e := count(t, s.file.db, "message"), count(t, s.file.db, "event"); n != 150 || e != 150 {
		t.Errorf("%d records and %d events are left, want 150", n, e)
	}
	now = now.Add(48 * time.Hour)
	s.clean(context.Background())
	for _, table := range []string{"message", "body", "tag", "event"} {
		if n := count(t, s.file.db, table); n != 0 {
			t.Errorf("%d rows are left in %s", n, table)
		}
	}
	var n int
	if err := s.file.db.QueryRow(`SELECT count(*) FROM words WHERE words MATCH '"invoice"'`).Scan(&n); err != nil || n != 0 {
		t.Errorf("%d subjects are left, %v", n, err)
	}
}

// The oldest go when the file would become too large.
func TestMaxSize(t *testing.T) {
	s, err := Open(config(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	s.cfg.MaxSize = 4e5
	ctx := context.Background()
	if err := s.open(ctx); err != nil {
		t.Fatal(err)
	}
	defer s.end()
	const n = 400
	for i := 0; i < n; i += 50 {
		var batch []item
		for j := i; j < i+50; j++ {
			r := sampleRecord(t, j)
			batch = append(batch, item{record: &r})
		}
		if _, err := s.insert(ctx, batch); err != nil {
			t.Fatal(err)
		}
		s.clean(ctx)
	}
	all, _, page, err := s.file.size(ctx)
	if err != nil {
		t.Fatal(err)
	}
	left := count(t, s.file.db, "message")
	if left == n || left < n/10 || all*page > s.cfg.MaxSize*12/10 {
		t.Errorf("%d records are left in %d bytes", left, all*page)
	}
	var first int64
	if err := s.file.db.QueryRow("SELECT min(seq) FROM message").Scan(&first); err != nil || time.UnixMicro(first).Before(epoch.Add(time.Duration(n-left)*7*time.Second)) {
		t.Errorf("the oldest is of %v, %v", time.UnixMicro(first), err)
	}
}
