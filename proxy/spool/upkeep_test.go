package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// disk counts the bytes of a directory's files.
func disk(t testing.TB, s *Spool, dir string) int64 {
	t.Helper()
	var sum int64
	for _, name := range files(t, s, dir) {
		info, err := os.Stat(filepath.Join(s.opts.Dir, dir, name))
		if err != nil {
			t.Fatal(err)
		}
		sum += info.Size()
	}
	return sum
}

func TestSegmentsAreUsedAgain(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir(), Segment: tiny, Cache: 1})
	for i := range 200 {
		mustPut(t, s, testID(i), 3000)
		check(t, s, testID(i), 3000)
		if err := s.Remove(testID(i)); err != nil {
			t.Fatal(err)
		}
		s.upkeep(context.Background())
		if got := disk(t, s, contentName); got > (contentSpares+2)*tiny {
			t.Fatalf("%d messages went through, and %d bytes are left: %v", i, got, files(t, s, contentName))
		}
	}
	// What is left of earlier lives is nothing.
	mustPut(t, s, "last", 100)
	s = reopen(t, s)
	wantIDs(t, s, "last")
	check(t, s, "last", 100)
}

func TestCompact(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir(), Segment: 64 << 10, Large: 20000})
	s.settle = 0
	var kept []string
	for i := range 300 {
		id := testID(i)
		mustPut(t, s, id, 3000)
		if i%60 == 7 {
			kept = append(kept, id)
			continue
		}
		if err := s.Remove(id); err != nil {
			t.Fatal(err)
		}
	}
	if err := putGroupSize(s, "P", []string{"P", "Pb"}, 30000); err != nil { // large, split, half of it removed
		t.Fatal(err)
	}
	if err := s.Remove("P"); err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		mustPut(t, s, "x"+testID(i), 3000)
		if err := s.Remove("x" + testID(i)); err != nil {
			t.Fatal(err)
		}
	}
	crash := copyDir(t, s.opts.Dir)
	s.upkeep(context.Background())
	if got := disk(t, s, contentName); got > 4*64<<10 {
		t.Errorf("%d messages take %d bytes: %v", len(kept)+1, got, files(t, s, contentName))
	}
	verify := func(s *Spool) {
		t.Helper()
		wantIDs(t, s, append([]string{"Pb"}, kept...)...)
		for _, id := range kept {
			check(t, s, id, 3000)
		}
		if got, err := read(s, "Pb"); err != nil || !strings.HasSuffix(string(got), string(testBody("P", 30000))) {
			t.Errorf("Pb: content differs (%v)", err)
		}
	}
	verify(s)
	s = reopen(t, s)
	verify(s)
	verify(open(t, Options{Dir: crash, Segment: 64 << 10}))

	// The old copies must not come back when the new ones are removed.
	for _, id := range kept {
		if err := s.Remove(id); err != nil {
			t.Fatal(err)
		}
	}
	s = reopen(t, s)
	wantIDs(t, s, "Pb")
}

// A crash between the copy and the end of the old segment leaves both copies.
// A removal must hold for both, however long the old one stays.
func TestCrashInCompaction(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir(), Segment: 64 << 10})
	mustPut(t, s, "A", 3000)
	mustPut(t, s, "B", 3000)
	first := s.content.current
	for i := range 30 {
		mustPut(t, s, testID(i), 3000)
	}
	if err := s.move(context.Background(), s.index.entries["A"].rec); err != nil {
		t.Fatal(err)
	}
	if s.index.entries["A"].rec.seg == first {
		t.Fatal("not moved")
	}
	s = reopen(t, s)
	s.settle = 0
	if err := s.Remove("A"); err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		if err := s.Remove(testID(i)); err != nil {
			t.Fatal(err)
		}
	}
	for _, seg := range s.content.all {
		seg.stuck = true // B keeps the first one
	}
	p := Progress{State: Slow, Recipients: make([]Recipient, 2)}
	for range 3 { // progress goes through several segments, and is cleaned
		for range 6000 {
			if err := s.Save("B", p); err != nil {
				t.Fatal(err)
			}
		}
		s.upkeep(context.Background())
	}
	if got := files(t, s, progressName); got[0] == "00000000.log" {
		t.Fatalf("progress was not cleaned: %v", got)
	}
	s = reopen(t, s)
	wantIDs(t, s, "B")
}

func TestProgressIsCleaned(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir(), Segment: 32 << 10})
	const n = 50
	for i := range n {
		mustPut(t, s, testID(i), 100)
	}
	for i := range n / 2 {
		if err := s.Remove(testID(i)); err != nil {
			t.Fatal(err)
		}
	}
	for round := range 60 {
		for i := n / 2; i < n; i++ {
			p := Progress{State: Slow, Reason: fmt.Sprint(round), Recipients: make([]Recipient, 2)}
			if i > n/2 || round == 0 { // one is only saved once
				if err := s.Save(testID(i), p); err != nil {
					t.Fatal(err)
				}
			}
		}
		s.upkeep(context.Background())
	}
	if got := disk(t, s, progressName); got > 10*32<<10 {
		t.Errorf("progress takes %d bytes: %v", got, files(t, s, progressName))
	}
	s = reopen(t, s)
	if got := len(ids(s)); got != n/2 {
		t.Errorf("%d messages, want %d", got, n/2)
	}
	for i := n / 2; i < n; i++ {
		want := "59"
		if i == n/2 {
			want = "0"
		}
		if m, err := s.Get(testID(i)); err != nil || m.Progress.Reason != want {
			t.Errorf("%s: %v, progress %+v", testID(i), err, m)
		}
	}
}

func TestCacheIsBounded(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir(), Cache: 100 << 10})
	for i := range 100 {
		mustPut(t, s, testID(i), 5000)
		if got := s.Stats().Cache; got > 100<<10 {
			t.Fatalf("cache holds %d bytes", got)
		}
	}
	inMemory := 0
	for i := range 100 {
		if s.index.entries[testID(i)].rec.fresh != nil {
			inMemory++
		}
		check(t, s, testID(i), 5000)
	}
	if inMemory == 0 || inMemory == 100 {
		t.Errorf("%d of 100 messages in memory", inMemory)
	}
	for i := range 100 {
		if err := s.Remove(testID(i)); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.Stats().Cache; got != 0 {
		t.Errorf("cache holds %d bytes of nothing", got)
	}
}

// Files of large messages are written again, but never under a reader, and
// never twice at a time.
func TestLargeFilesAreUsedAgain(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir(), Large: 10000, Cache: 1})
	mustPut(t, s, "A", 60000)
	mustPut(t, s, "B", 60000)
	reader, err := s.Open("A")
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"A", "B"} {
		if err := s.Remove(id); err != nil {
			t.Fatal(err)
		}
	}
	mustPut(t, s, "C", 50000) // before the removal is durable
	if err := s.Sync(context.Background()); err != nil {
		t.Fatal(err)
	}
	mustPut(t, s, "D", 50000) // where B was
	mustPut(t, s, "E", 15000)
	if err := s.Remove("C"); err != nil {
		t.Fatal(err)
	}
	if err := s.Sync(context.Background()); err != nil {
		t.Fatal(err)
	}
	mustPut(t, s, "F", 15000) // much smaller than C, whose file it takes
	if got, want := files(t, s, largeName), []string{"B", "C", "E"}; !slices.Equal(got, want) {
		t.Errorf("files %v, want %v", got, want)
	}
	if got := disk(t, s, largeName); got != 60000+15000+15000 {
		t.Errorf("files take %d bytes", got)
	}
	var b bytes.Buffer
	if _, err := reader.WriteTo(&b); err != nil || !bytes.Equal(b.Bytes(), wantContent("A", 60000)) {
		t.Errorf("A: content differs (%v)", err)
	}
	_ = reader.Close()
	s = reopen(t, s)
	wantIDs(t, s, "D", "E", "F")
	check(t, s, "D", 50000)
	check(t, s, "E", 15000)
	check(t, s, "F", 15000)
}

// When the removal of a message can't be read back, it must not get the bytes
// of the one that has its file now.
func TestDamagedRemoval(t *testing.T) {
	for _, removed := range []bool{false, true} { // the second message, too
		s := open(t, Options{Dir: t.TempDir(), Large: 10000})
		mustPut(t, s, "A", 60000)
		if err := s.Remove("A"); err != nil {
			t.Fatal(err)
		}
		if err := s.Sync(context.Background()); err != nil {
			t.Fatal(err)
		}
		mustPut(t, s, "B", 60000)
		want := []string{"B"}
		if removed {
			if err := s.Remove("B"); err != nil {
				t.Fatal(err)
			}
			want = []string{"A"} // nobody can tell
		}
		dir := copyDir(t, s.opts.Dir)
		flip(t, filepath.Join(dir, progressName, s.progress.current.name), block+frameSize)
		s = open(t, Options{Dir: dir, Large: 10000})
		wantIDs(t, s, want...)
		if removed {
			if _, err := s.Open("A"); !errors.Is(err, ErrDamaged) {
				t.Errorf("A with the bytes of B: %v", err)
			}
		} else {
			check(t, s, "B", 60000)
		}
	}
}

// Nothing is lost, and nothing comes back, when the progress log fails to sync.
func TestProgressSyncFails(t *testing.T) {
	fail := false
	s := open(t, Options{Dir: t.TempDir(), Segment: tiny, Failpoint: func(step string) error {
		if fail && step == journalStep(progressName, journalSync) {
			fail = false
			return os.ErrPermission
		}
		return nil
	}})
	for _, id := range []string{"A", "B", "L"} {
		mustPut(t, s, id, map[string]int{"L": 200 << 10}[id])
	}
	if err := s.Save("A", Progress{State: Hold, Reason: "why", Recipients: make([]Recipient, 2)}); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"B", "L"} {
		if err := s.Remove(id); err != nil {
			t.Fatal(err)
		}
	}
	failed := s.progress.current
	fail = true
	if err := s.Sync(context.Background()); err == nil {
		t.Fatal("Sync passed")
	}
	if got := files(t, s, largeName); len(got) != 1 {
		t.Errorf("the file of L is gone before its removal is durable")
	}
	if err := s.Ready(); err == nil {
		t.Error("ready without a progress log")
	}
	s.upkeep(context.Background())
	if err := s.Ready(); err != nil {
		t.Errorf("Ready: %v", err)
	}
	for _, seg := range s.progress.all {
		if seg == failed {
			t.Error("the failed segment is still in use")
		}
	}
	s = reopen(t, s)
	if got := files(t, s, largeName); len(got) != 0 {
		t.Errorf("large files %v", got)
	}
	wantIDs(t, s, "A")
	if m, err := s.Get("A"); err != nil || m.Progress.Reason != "why" {
		t.Errorf("A: %v, %+v", err, m)
	}
}

// What a failed segment does not give back is progress, never a message.
func TestProgressIsLost(t *testing.T) {
	fail := false
	s := open(t, Options{Dir: t.TempDir(), Segment: tiny, Failpoint: func(step string) error {
		if fail && step == journalStep(progressName, journalSync) {
			fail = false
			return os.ErrPermission
		}
		return nil
	}})
	for _, id := range []string{"A", "B"} {
		mustPut(t, s, id, 100)
		if err := s.Save(id, Progress{State: Hold, Attempts: 3, Recipients: make([]Recipient, 2)}); err != nil {
			t.Fatal(err)
		}
	}
	lost := s.index.entries["A"].progress
	flip(t, filepath.Join(s.opts.Dir, progressName, lost.seg.name), int64(lost.at)+frameSize+1)
	if _, err := s.Get("A"); !errors.Is(err, ErrDamaged) {
		t.Errorf("Get with damaged progress: %v", err)
	}
	fail = true
	if err := s.Sync(context.Background()); err == nil {
		t.Fatal("Sync passed")
	}
	s.upkeep(context.Background())
	if err := s.Sync(context.Background()); err != nil {
		t.Errorf("Sync: %v", err)
	}
	for id, attempts := range map[string]int{"A": 0, "B": 3} {
		m, err := s.Get(id)
		if err != nil || m.Progress.Attempts != attempts || m.Progress.State != Hold {
			t.Errorf("%s: %v, %+v", id, err, m)
		}
		check(t, s, id, 100)
	}
}
