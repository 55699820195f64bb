package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"gatepost/internal/mail"
)

func TestBadEntries(t *testing.T) {
	change := func(f func(e *Entry)) []Entry {
		e := testEntry("A")
		f(&e)
		return []Entry{e}
	}
	tests := []struct {
		name    string
		entries []Entry
	}{
		{"none", nil},
		{"no id", change(func(e *Entry) { e.ID = "" })},
		{"id that is a path", change(func(e *Entry) { e.ID = "../x" })},
		{"long id", change(func(e *Entry) { e.ID = string(bytes.Repeat([]byte("x"), 65)) })},
		{"no state", change(func(e *Entry) { e.State = "" })},
		{"unknown state", change(func(e *Entry) { e.State = "corrupt" })},
		{"body before the draft", change(func(e *Entry) { e.Body = -1 })},
		{"body behind the draft", change(func(e *Entry) { e.Body = 101 })},
		{"two bodies", []Entry{testEntry("A"), change(func(e *Entry) { e.ID, e.Body = "B", 1 })[0]}},
		{"id twice", []Entry{testEntry("A"), testEntry("A")}},
		{"id that is taken", []Entry{testEntry("B"), testEntry("taken")}},
		{"more than a record holds", change(func(e *Entry) { e.Header = make([]byte, maxData+1) })},
	}
	s := open(t, Options{Dir: t.TempDir()})
	mustPut(t, s, "taken", 10)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := s.Draft("A")
			if _, err := d.Write(make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
			if err := s.Commit(context.Background(), d, tt.entries...); err == nil {
				t.Error("committed")
			}
			if _, err := d.Write([]byte("x")); !errors.Is(err, ErrClosed) {
				t.Errorf("Write after Commit: %v", err)
			}
			d.Discard()
		})
	}
	wantIDs(t, s, "taken")
}

func TestDraft(t *testing.T) {
	const limit = 10000
	for _, size := range []int{0, 1, limit - 1, limit, limit + 1, 2 * limit, 5*limit + 3} {
		for _, step := range []int{1000, 7000, 3 * limit} {
			t.Run(fmt.Sprintf("%d by %d", size, step), func(t *testing.T) {
				s := open(t, Options{Dir: t.TempDir(), Large: limit})
				want := testBody("d", size)
				d := s.Draft("A")
				for b := want; len(b) > 0; b = b[min(step, len(b)):] {
					if n, err := d.Write(b[:min(step, len(b))]); err != nil || n != min(step, len(b)) {
						t.Fatalf("Write = %d, %v", n, err)
					}
				}
				if d.Size() != int64(size) {
					t.Errorf("size %d, want %d", d.Size(), size)
				}
				got, err := io.ReadAll(io.NewSectionReader(d, 0, 1<<40))
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("read %d of %d bytes, %v", len(got), size, err)
				}
				if large := len(files(t, s, largeName)) > 0; large != (size > limit) {
					t.Errorf("has a file: %v", large)
				}
				d.Discard()
				d.Discard()
				if err := s.large.clear(); err != nil {
					t.Error(err)
				}
				if left := files(t, s, largeName); len(left) > 0 {
					t.Errorf("discarded, and %v is left", left)
				}
				if _, err := d.ReadAt(make([]byte, 1), 0); !errors.Is(err, ErrClosed) {
					t.Errorf("ReadAt after Discard: %v", err)
				}
			})
		}
	}
}

// The body begins somewhere in the draft; the header before it was replaced.
func TestBodyOffset(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir(), Large: 10000, Cache: 1})
	for _, size := range []int{500, 30000} {
		for _, from := range []int{0, 1, 400, size} {
			id := fmt.Sprintf("M%d-%d", size, from)
			d := s.Draft(id)
			body := testBody(id, size)
			if _, err := d.Write(body); err != nil {
				t.Fatal(err)
			}
			a, b := testEntry(id), testEntry(id+"b")
			a.Body, b.Body = int64(from), int64(from)
			b.Header = nil
			if err := s.Commit(context.Background(), d, a, b); err != nil {
				t.Fatal(err)
			}
			for entry, header := range map[string][]byte{id: testHeader(id), id + "b": nil} {
				got, err := read(s, entry)
				if want := slices.Concat(header, crlf, body[from:]); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s: %d bytes, want %d, %v", entry, len(got), len(want), err)
				}
			}
			if err := s.Remove(id); err != nil {
				t.Fatal(err)
			}
			if _, err := read(s, id+"b"); err != nil {
				t.Errorf("after the other part was removed: %v", err)
			}
		}
	}
}

func TestCommitIsWithdrawn(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir()})
	over, cancel := context.WithCancel(context.Background())
	cancel()
	d := s.Draft("A")
	if err := s.Commit(over, d, testEntry("A")); !errors.Is(err, context.Canceled) {
		t.Errorf("commit with a context that is over: %v", err)
	}

	// Somebody writes; B leads the next batch, C and D wait behind it.
	s.content.mu.Lock()
	results := map[string]chan error{}
	ctx, cancel := context.WithCancel(context.Background())
	for i, id := range []string{"B", "C", "D"} {
		results[id] = make(chan error, 1)
		go func() {
			d := s.Draft(id)
			if id == "C" {
				results[id] <- s.Commit(ctx, d, testEntry(id))
			} else {
				results[id] <- s.Commit(context.Background(), d, testEntry(id))
			}
		}()
		waitFor(t, func() bool {
			s.committer.mu.Lock()
			defer s.committer.mu.Unlock()
			return len(s.committer.waiting) == i+1
		})
	}
	cancel()
	if err := <-results["C"]; !errors.Is(err, context.Canceled) {
		t.Errorf("C: %v", err)
	}
	s.content.mu.Unlock()
	for _, id := range []string{"B", "D"} {
		if err := <-results[id]; err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	wantIDs(t, s, "B", "D")
	mustPut(t, s, "C", 10)
}

// Many commit, read and remove at once, while segments come and go.
func TestConcurrent(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir(), Segment: 256 << 10, Large: 30000, Cache: 200 << 10})
	s.settle = 0
	stop := run(t, s)
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := range 40 {
				id := fmt.Sprintf("M%d-%d", w, i)
				size := 1000 * (i % 37)
				if err := put(s, id, size); err != nil {
					t.Error(err)
					return
				}
				check(t, s, id, size)
				if err := s.Save(id, Progress{State: Slow, Recipients: make([]Recipient, 2)}); err != nil {
					t.Error(err)
				}
				if i%5 != 0 {
					if err := s.Remove(id); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	for range 4 {
		wg.Go(func() {
			for range 10 {
				for m := range s.All() {
					if _, err := read(s, m.ID); err != nil && !isGone(err) {
						t.Errorf("%s: %v", m.ID, err)
					}
				}
			}
		})
	}
	wg.Wait()
	stop()
	s = reopen(t, s)
	if got := s.Stats().Messages[Slow]; got != 16*8 {
		t.Errorf("%d messages, want %d", got, 16*8)
	}
	for m := range s.All() {
		var w, i int
		_, _ = fmt.Sscanf(m.ID, "M%d-%d", &w, &i)
		check(t, s, m.ID, 1000*(i%37))
	}
}

// What is held open stays readable and unchanged when all else goes.
func TestContentOutlivesTheMessage(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir(), Segment: tiny, Large: 10000})
	run(t, s)
	var open []*Content
	sizes := []int{100, 5000, 50000}
	for i, size := range sizes {
		mustPut(t, s, testID(i), size)
		c, err := s.Open(testID(i))
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
		if err := s.Remove(testID(i)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 50 { // uses the memory and the segments again
		mustPut(t, s, testID(100+i), 5000)
		if err := s.Remove(testID(100 + i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Sync(context.Background()); err != nil {
		t.Fatal(err)
	}
	for i, c := range open {
		var b bytes.Buffer
		if _, err := c.WriteTo(&b); err != nil || !bytes.Equal(b.Bytes(), wantContent(testID(i), sizes[i])) {
			t.Errorf("%d bytes: content differs (%v)", sizes[i], err)
		}
		_ = c.Close()
		if _, err := c.ReadAt(make([]byte, 1), 0); !errors.Is(err, ErrClosed) {
			t.Errorf("ReadAt after Close: %v", err)
		}
	}
}

func TestAllIsInOrder(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir()})
	start := time.Now()
	var want []string
	for i := range 20 {
		e := testEntry(mail.NewID(start.Add(time.Duration(i*7%20) * time.Hour)))
		e.Received = start.Add(time.Duration(i*7%20) * time.Hour)
		if err := s.Commit(context.Background(), s.Draft(e.ID), e); err != nil {
			t.Fatal(err)
		}
		want = append(want, e.ID)
	}
	slices.Sort(want)
	var got []string
	for m := range s.All() {
		got = append(got, m.ID)
	}
	if !slices.Equal(got, want) {
		t.Errorf("order %v, want %v", got, want)
	}
}
