package spool

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// The test binary runs itself as a child that uses a spool and is killed at a
// failpoint. What the child was told is durable must be there afterwards.

const (
	childDir  = "SPOOL_CHILD_DIR"
	childKill = "SPOOL_CHILD_KILL" // "step n"
	childMany = "SPOOL_CHILD_WRITERS"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		os.Exit(child(dir))
	}
	os.Exit(m.Run())
}

// killAt kills the process where failAt would fail.
func killAt(kill string) func(string) error {
	var want string
	var n int64
	_, _ = fmt.Sscan(kill, &want, &n)
	var hits atomic.Int64
	fail := failAt(want, syscall.EIO, n, &hits)
	return func(step string) error {
		err := fail(step)
		if err != nil && step == want {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // the signal is on its way
		}
		return err
	}
}

// childSize is the size of a message: every seventh has a file of its own.
func childSize(id string) int {
	n, _ := strconv.Atoi(strings.Trim(id, "Tab"))
	if n%7 == 3 {
		return 20<<10 + n
	}
	return 100 + 37*n
}

func childOptions(dir string) Options {
	return Options{Dir: dir, Segment: tiny, Large: 12 << 10, Cache: 16 << 10}
}

func child(dir string) int {
	o := childOptions(dir)
	o.Failpoint = killAt(os.Getenv(childKill))
	s, err := Open(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	s.settle = 0
	writers, _ := strconv.Atoi(os.Getenv(childMany))
	var wg sync.WaitGroup
	for w := range max(writers, 1) {
		wg.Go(func() { use(s, w, func(line string) { _, _ = os.Stdout.WriteString(line + "\n") }) })
	}
	wg.Wait()
	if err := s.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// use works with a spool and tells what it was told. An error is told, too, and
// the next message is tried.
func use(s *Spool, w int, tell func(string)) {
	ctx := context.Background()
	progress := Progress{State: Slow, Reason: "later", Attempts: 1, Recipients: make([]Recipient, 2)}
	for i := range 60 {
		group := testID(1000*w + i)
		names := []string{group}
		if i%10 == 5 {
			names = []string{group + "a", group + "b"}
		}
		tell("try " + strings.Join(names, ","))
		if err := putGroup(s, group, names, childSize(group)); err != nil {
			tell("failed " + strings.Join(names, ",") + " " + err.Error())
		} else {
			tell("ack " + strings.Join(names, ","))
		}
		for _, id := range names {
			if i%3 == 0 && s.Save(id, progress) == nil {
				tell("saved " + id)
			}
			if i%8 == 7 || id[len(id)-1] == 'b' {
				continue // stays
			}
			tell("removing " + id)
			if s.Remove(id) == nil {
				tell("removed " + id)
			}
		}
		if i%4 == 3 && w == 0 { // there is one Run
			s.upkeep(ctx)
		}
		if i%9 == 8 {
			if m := slices.Collect(s.All()); len(m) > 0 {
				_, _ = read(s, m[0].ID)
			}
		}
	}
	// Progress until its log has been cleaned.
	for i := range 1500 {
		id := testID(1000*w + 7)
		if s.Save(id, progress) == nil && i == 0 {
			tell("saved " + id)
		}
	}
	if w == 0 {
		s.upkeep(ctx)
	}
}

func putGroup(s *Spool, group string, names []string, size int) error {
	d := s.Draft(group)
	if _, err := d.Write(testBody(group, size)); err != nil {
		d.Discard()
		return err
	}
	var entries []Entry
	for _, id := range names {
		e := testEntry(id)
		e.Group = group
		entries = append(entries, e)
	}
	return s.Commit(context.Background(), d, entries...)
}

// ledger is what a child told.
type ledger struct {
	acked, tried, removing, removed, saved, failed map[string]bool
}

func readLedger(lines []string) ledger {
	l := ledger{map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}}
	for _, line := range lines {
		verb, rest, _ := strings.Cut(line, " ")
		names, _, _ := strings.Cut(rest, " ")
		for _, id := range strings.Split(names, ",") {
			switch verb {
			case "try":
				l.tried[id] = true
			case "ack":
				l.acked[id] = true
			case "failed":
				l.failed[id] = true
			case "removing":
				l.removing[id] = true
			case "removed":
				l.removed[id] = true
			case "saved":
				l.saved[id] = true
			}
		}
	}
	return l
}

// compare checks a spool against what was told of it.
func (l ledger) compare(t *testing.T, s *Spool) {
	t.Helper()
	have := map[string]bool{}
	for m := range s.All() {
		have[m.ID] = true
		group := strings.TrimRight(m.ID, "ab")
		want := slices.Concat(testHeader(m.ID), []byte("\r\n"), testBody(group, childSize(group)))
		got, err := read(s, m.ID)
		if err != nil || string(got) != string(want) {
			t.Errorf("%s: content differs (%v)", m.ID, err)
		}
		switch {
		case l.removed[m.ID]:
			t.Errorf("%s: removed and there", m.ID)
		case !l.tried[m.ID]:
			t.Errorf("%s: there and never tried", m.ID)
		case l.failed[m.ID]:
			t.Errorf("%s: failed and there", m.ID)
		}
		if l.saved[m.ID] && m.Progress.State != Slow {
			t.Errorf("%s: progress lost: %+v", m.ID, m.Progress)
		}
	}
	for id := range l.acked {
		if !have[id] && !l.removing[id] {
			t.Errorf("%s: acknowledged and lost", id)
		}
	}
	for id := range l.removing {
		delete(have, id)
	}
	maps.DeleteFunc(have, func(id string, _ bool) bool { return l.acked[id] })
	if len(have) > 2*8 {
		t.Errorf("%v: there and not acknowledged", have)
	}
	if aside := files(t, s, corruptName); len(aside) > 0 {
		t.Errorf("set aside %v", aside)
	}
}

// runChild runs the child until it dies, and returns what it told and whether it
// was killed.
func runChild(t *testing.T, dir, kill string, writers int) ([]string, bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir, childKill+"="+kill, childMany+"="+strconv.Itoa(writers))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for sc := bufio.NewScanner(out); sc.Scan(); {
		lines = append(lines, sc.Text())
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	killed := errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
	if err != nil && !killed {
		t.Fatalf("child: %v", err)
	}
	return lines, killed
}

func TestKill(t *testing.T) {
	hits := []int{1, 3, 8}
	if testing.Short() {
		hits = hits[:1]
	}
	for _, step := range Steps() {
		for _, n := range hits {
			for _, writers := range []int{1, 4} {
				t.Run(fmt.Sprintf("%s %d by %d", step, n, writers), func(t *testing.T) {
					dir := filepath.Join(t.TempDir(), "spool")
					lines, killed := runChild(t, dir, fmt.Sprint(step, " ", n), writers)
					if !killed && n == 1 {
						t.Fatal("never came to this step")
					}
					l := readLedger(lines)
					s := open(t, childOptions(dir))
					l.compare(t, s)
					stop := run(t, s)
					if err := s.Sync(context.Background()); err != nil {
						t.Error(err)
					}
					mustPut(t, s, "after", 100)
					stop()
					s = reopen(t, s)
					check(t, s, "after", 100)
					if err := s.Remove("after"); err != nil {
						t.Fatal(err)
					}
					l.compare(t, s)
				})
			}
		}
	}
}

// TestFail lets every step fail once.
func TestFail(t *testing.T) {
	for i, step := range Steps() {
		errno := []syscall.Errno{syscall.EIO, syscall.ENOSPC}[i%2]
		for _, n := range []int64{1, 2, 6} {
			t.Run(fmt.Sprintf("%s %v %d", step, errno, n), func(t *testing.T) {
				o := childOptions(filepath.Join(memDir(t), "spool"))
				var hits atomic.Int64
				o.Failpoint = failAt(step, errno, n, &hits)
				testFailing(t, o, step)
				if hits.Load() == 0 {
					t.Error("never came to this step")
				}
			})
		}
	}
}

// failAt fails the n-th time that step is reached. A step that is only taken
// after a failure gets one, and fails then.
func failAt(step string, errno syscall.Errno, n int64, hits *atomic.Int64) func(string) error {
	log, cut := strings.CutSuffix(step, "."+journalCut)
	var writes atomic.Int64
	return func(at string) error {
		switch {
		case at == step && cut:
			hits.Add(1)
			return errno
		case at == step && hits.Add(1) == n:
			return errno
		case cut && at == log+"."+journalWrite && writes.Add(1) == n:
			return errno
		}
		return nil
	}
}

func testFailing(t *testing.T, o Options, step string) {
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	s.settle = 0
	s.content.rest, s.progress.rest = 0, 0
	var lines []string
	use(s, 0, func(line string) { lines = append(lines, line) })
	s.upkeep(context.Background())
	if err := s.Ready(); err != nil {
		t.Errorf("not ready after the failure: %v", err)
	}
	readLedger(lines).compareFailed(t, s, step)
	_ = s.Close() // may be what fails
	o.Failpoint = nil
	readLedger(lines).compareFailed(t, open(t, o), step)
}

func (l ledger) compareFailed(t *testing.T, s *Spool, step string) {
	t.Helper()
	if step == journalStep(contentName, journalCut) {
		l.failed = nil // what could not be cut off may come back
	}
	l.compare(t, s)
}

func TestFailForSomeTime(t *testing.T) {
	for _, step := range []string{
		journalStep(contentName, journalWrite), journalStep(contentName, journalSync), stepContentTorn,
		journalStep(contentName, journalCreate), journalStep(contentName, journalAllocate), journalStep(contentName, journalMarkSync),
	} {
		t.Run(step, func(t *testing.T) {
			var failing atomic.Bool
			o := Options{Dir: t.TempDir(), Segment: tiny, Failpoint: func(at string) error {
				if at == step && failing.Load() {
					return syscall.ENOSPC
				}
				return nil
			}}
			s := open(t, o)
			run(t, s)
			mustPut(t, s, "A", 6000)
			failing.Store(true)
			for i := range 5 {
				if err := put(s, testID(i), 6000); i > 1 && !errors.Is(err, syscall.ENOSPC) {
					t.Errorf("commit %d: %v", i, err)
				}
			}
			if step != journalStep(contentName, journalWrite) && step != journalStep(contentName, journalSync) && step != stepContentTorn {
				if err := s.Ready(); !errors.Is(err, syscall.ENOSPC) {
					t.Errorf("Ready: %v", err)
				}
			}
			failing.Store(false)
			waitFor(t, func() bool { return s.Ready() == nil })
			mustPut(t, s, "B", 6000)
			before := ids(s)
			if !slices.Contains(before, "A") || !slices.Contains(before, "B") {
				t.Errorf("messages %v", before)
			}
			wantIDs(t, open(t, Options{Dir: copyDir(t, s.opts.Dir), Segment: tiny}), before...)
		})
	}
}
