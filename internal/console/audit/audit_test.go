package audit

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func newLog(t *testing.T) *Log {
	return New(filepath.Join(t.TempDir(), "audit.jsonl"), slog.New(slog.DiscardHandler))
}

func note(t *testing.T, l *Log, e Entry) {
	t.Helper()
	if err := l.Note(e); err != nil {
		t.Fatal(err)
	}
}

func TestQueries(t *testing.T) {
	l := newLog(t)
	begin := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	l.now = func() time.Time { return begin } // a clock that stands: entries differ all the same
	note(t, l, Entry{Who: "alice", What: "view content", IDs: []string{"A"}})
	note(t, l, Entry{Who: "bob", What: "queue delete", IDs: []string{"A", "B"}, Detail: "line\nforged {\"who\":\"eve\"}"})
	begin = begin.Add(time.Hour)
	note(t, l, Entry{Who: "alice", What: "queue retry"})
	tests := []struct {
		name string
		q    Query
		want string
	}{
		{"all, the newest first", Query{}, "queue retry, queue delete, view content"},
		{"who, in any case", Query{Who: "ALICE"}, "queue retry, view content"},
		{"of a message", Query{ID: "B"}, "queue delete"},
		{"what", Query{What: "queue"}, "queue retry, queue delete"},
		{"limit", Query{Limit: 1}, "queue retry"},
		{"since", Query{Since: begin}, "queue retry"},
		{"before", Query{Before: begin}, "queue delete, view content"},
		{"nobody", Query{Who: "eve"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			all, err := Read(l.Path(), tt.q)
			var what []string
			for _, e := range all {
				what = append(what, e.What)
			}
			if got := strings.Join(what, ", "); err != nil || got != tt.want {
				t.Errorf("%q, %v; want %q", got, err, tt.want)
			}
		})
	}
	if info, err := os.Stat(l.Path()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// A page begins where the one before ended, and a line that is damaged costs
// itself only.
func TestPagesAndDamage(t *testing.T) {
	l := newLog(t)
	for i := range 25 {
		note(t, l, Entry{Who: "alice", What: fmt.Sprint(i)})
		if i == 10 {
			f, err := os.OpenFile(l.Path(), os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = f.WriteString("{\"who\":\"ali\n\n")
			_ = f.Close()
		}
	}
	q, seen := Query{Limit: 10}, 0
	for {
		all, err := Read(l.Path(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range all {
			if want := fmt.Sprint(24 - seen); e.What != want {
				t.Fatalf("%s, want %s", e.What, want)
			}
			seen++
		}
		if len(all) < q.Limit {
			break
		}
		q.Before = all[len(all)-1].Time
	}
	if seen != 25 {
		t.Errorf("%d entries", seen)
	}
}

// The whole has a bound, and nothing is lost or doubled at the seam of files.
func TestRotation(t *testing.T) {
	l := newLog(t)
	l.max = 1000
	var work sync.WaitGroup
	for i := range 4 {
		work.Go(func() {
			for j := range 100 {
				_ = l.Note(Entry{Who: fmt.Sprint(i), What: fmt.Sprint(j), Detail: strings.Repeat("x", 50)})
			}
		})
	}
	work.Wait()
	files, _ := filepath.Glob(l.Path() + "*")
	sum := int64(0)
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		sum += info.Size()
	}
	if len(files) != keep+1 || sum > l.max*(keep+1) {
		t.Errorf("%d files with %d bytes", len(files), sum)
	}
	all, err := Read(l.Path(), Query{Limit: most})
	if err != nil || len(all) < 40 {
		t.Fatalf("%d, %v", len(all), err)
	}
	for i := 1; i < len(all); i++ {
		if !all[i].Time.Before(all[i-1].Time) {
			t.Fatalf("%v is not before %v", all[i].Time, all[i-1].Time)
		}
	}
}

func TestBoundsOfAnEntry(t *testing.T) {
	l := newLog(t)
	ids := make([]string, mostIDs+5)
	note(t, l, Entry{Who: "a", What: "x", IDs: ids, Detail: strings.Repeat("y", 3*longDetail)})
	all, err := Read(l.Path(), Query{})
	if err != nil || len(all) != 1 || len(all[0].IDs) != mostIDs || all[0].More != 5 || len(all[0].Detail) > longDetail+4 {
		t.Errorf("%d, %v", len(all), err)
	}
}

func TestNoDirectory(t *testing.T) {
	l := New(filepath.Join(t.TempDir(), "none", "audit.jsonl"), slog.New(slog.DiscardHandler))
	if err := l.Note(Entry{Who: "a", What: "x"}); err == nil {
		t.Error("no error")
	}
	if all, err := Read(l.Path(), Query{}); err != nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}
}
