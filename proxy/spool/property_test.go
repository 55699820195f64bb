package spool

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"gatepost/internal/mail"
)

// model is what a spool must hold.
type model struct {
	live  map[string]Progress
	size  map[string]int    // of the body
	draft map[string]string // whose body it is
	gone  map[string]bool   // removed since the last sync
}

// machine drives a spool and its model.
type machine struct {
	s       *Spool
	m       model
	n       int
	base    string
	crashes int
	// How much of each progress segment was durable.
	durable map[string]int64
}

func propertyOptions(dir string) Options {
	return Options{Dir: dir, Segment: tiny, Large: 6000, Cache: 8000}
}

func (x *machine) open(t *rapid.T, dir string) {
	x.s, x.durable = nil, map[string]int64{}
	o := propertyOptions(dir)
	o.Failpoint = func(step string) error {
		if step == journalStep(progressName, journalSync) {
			x.noteDurable()
		}
		return nil
	}
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	s.settle = 0
	x.s = s
	x.noteDurable()
}

// noteDurable notes how much of the progress log is durable.
func (x *machine) noteDurable() {
	for _, seg := range x.s.progress.all {
		x.durable[seg.name] = seg.size
	}
}

func (x *machine) commit(t *rapid.T) {
	size := rapid.SampledFrom([]int{0, 1, 100, 3000, 5999, 6000, 6001, 9000}).Draw(t, "size")
	parts := rapid.IntRange(1, 3).Draw(t, "parts")
	x.n++
	group := testID(x.n)
	var names []string
	for i := range parts {
		names = append(names, group+strings.Repeat("b", i))
	}
	if err := putGroupSize(x.s, group, names, size); err != nil {
		t.Fatal(err)
	}
	for _, id := range names {
		x.m.live[id] = Progress{State: Queue, Recipients: make([]Recipient, 2)}
		x.m.size[id] = size
		x.m.draft[id] = group
	}
}

func putGroupSize(s *Spool, group string, names []string, size int) error {
	d := s.Draft(group)
	for b := testBody(group, size); len(b) > 0; {
		n := min(len(b), 2000)
		if _, err := d.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	var entries []Entry
	for _, id := range names {
		entries = append(entries, testEntry(id))
	}
	return s.Commit(context.Background(), d, entries...)
}

// any draws one of the messages.
func (x *machine) any(t *rapid.T) string {
	if len(x.m.live) == 0 {
		t.Skip("no messages")
	}
	return rapid.SampledFrom(slices.Sorted(maps.Keys(x.m.live))).Draw(t, "id")
}

func (x *machine) save(t *rapid.T) {
	id := x.any(t)
	p := Progress{
		State:    rapid.SampledFrom(states[:]).Draw(t, "state"),
		Reason:   rapid.StringN(0, 10, 20).Draw(t, "reason"),
		Attempts: rapid.IntRange(0, 100).Draw(t, "attempts"),
		Warned:   rapid.Bool().Draw(t, "warned"),
		Recipients: []Recipient{
			{Status: mail.Status(rapid.IntRange(0, 2).Draw(t, "status")), Reply: mail.Reply{Code: 450, Text: rapid.String().Draw(t, "text")}},
			{Remote: "mx"},
		},
	}
	if err := x.s.Save(id, p); err != nil {
		t.Fatal(err)
	}
	x.m.live[id] = p
}

func (x *machine) remove(t *rapid.T) {
	id := x.any(t)
	if err := x.s.Remove(id); err != nil {
		t.Fatal(err)
	}
	delete(x.m.live, id)
	x.m.gone[id] = true
}

func (x *machine) sync(t *rapid.T) {
	if err := x.s.Sync(context.Background()); err != nil {
		t.Fatal(err)
	}
	x.noteSync()
}

func (x *machine) noteSync() {
	x.m.gone = map[string]bool{}
	x.noteDurable()
}

func (x *machine) upkeep(*rapid.T) {
	x.s.upkeep(context.Background())
	x.m.gone = map[string]bool{} // it synced first
}

// crash goes on with a copy of the directory: all that the kernel has.
func (x *machine) crash(t *rapid.T) {
	x.crashes++
	dir := filepath.Join(x.base, fmt.Sprint("crash", x.crashes))
	if err := copyTree(x.s.opts.Dir, dir); err != nil {
		t.Fatal(err)
	}
	_ = x.s.Close()
	x.open(t, dir)
	x.noteSync() // what the next crash may lose begins here
}

// losing looks at a copy that lost all progress that was not synced.
func (x *machine) losing(t *rapid.T) {
	dir := filepath.Join(x.base, "losing")
	defer os.RemoveAll(dir)
	if err := copyTree(x.s.opts.Dir, dir); err != nil {
		t.Fatal(err)
	}
	for _, seg := range x.s.progress.all {
		name := filepath.Join(dir, progressName, seg.name)
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		clear(b[min(max(x.durable[seg.name], block), int64(len(b))):])
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Open(propertyOptions(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	have := map[string]bool{}
	for m := range s.All() {
		have[m.ID] = true
		if _, ok := x.m.live[m.ID]; !ok && !x.m.gone[m.ID] {
			t.Fatalf("%s came back", m.ID)
		}
		x.checkContent(t, s, m.ID)
	}
	for id := range x.m.live {
		if !have[id] {
			t.Fatalf("%s is lost", id)
		}
	}
	if f, err := os.ReadDir(filepath.Join(dir, corruptName)); err != nil || len(f) > 0 {
		t.Fatalf("set aside %v, %v", f, err)
	}
}

func (x *machine) reopen(t *rapid.T) {
	if err := x.s.Close(); err != nil {
		t.Fatal(err)
	}
	x.open(t, x.s.opts.Dir)
	x.noteSync()
}

func (x *machine) checkContent(t *rapid.T, s *Spool, id string) {
	got, err := read(s, id)
	want := slices.Concat(testHeader(id), crlf, testBody(x.m.draft[id], x.m.size[id]))
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%s: content differs (%v)", id, err)
	}
}

// check compares all of the spool with the model.
func (x *machine) check(t *rapid.T) {
	n := 0
	for m := range x.s.All() {
		n++
		p, ok := x.m.live[m.ID]
		if !ok {
			t.Fatalf("%s is there", m.ID)
		}
		if got, want := fmt.Sprintf("%+v", m.Progress), fmt.Sprintf("%+v", p); got != want {
			t.Fatalf("%s: progress %s, want %s", m.ID, got, want)
		}
		x.checkContent(t, x.s, m.ID)
	}
	if n != len(x.m.live) {
		t.Fatalf("%d messages, want %d", n, len(x.m.live))
	}
	x.checkBooks(t)
}

// checkBooks checks that what the segments count is what there is.
func (x *machine) checkBooks(t *rapid.T) {
	live, bytes := map[*segment]int{}, map[*segment]int64{}
	records := map[*record]bool{}
	for _, e := range x.s.index.entries {
		if !records[e.rec] {
			records[e.rec] = true
			live[e.rec.seg]++
			bytes[e.rec.seg] += int64(e.rec.size)
		}
		if p := e.progress; p.seg != nil {
			live[p.seg]++
			bytes[p.seg] += int64(p.size)
		}
	}
	for _, j := range []*journal{x.s.content, x.s.progress} {
		for _, seg := range j.all {
			if seg.live != live[seg] || seg.bytes != bytes[seg] {
				t.Fatalf("%s %s: %d live, %d bytes; want %d, %d", j.name, seg.name, seg.live, seg.bytes, live[seg], bytes[seg])
			}
		}
	}
	var cached int64
	for rec := range records {
		if rec.fresh != nil {
			cached += rec.fresh.cost
		}
	}
	if cached != x.s.cache.bytes || cached > x.s.cache.limit {
		t.Fatalf("cache of %d bytes, want %d", x.s.cache.bytes, cached)
	}
	if n := len(x.s.index.large); n > len(records) {
		t.Fatalf("%d large files of %d records", n, len(records))
	}
}

func TestModel(t *testing.T) {
	base := memDir(t)
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp(base, "")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		x := &machine{base: dir, m: model{live: map[string]Progress{}, size: map[string]int{}, draft: map[string]string{}}}
		x.open(t, filepath.Join(dir, "spool"))
		x.noteSync()
		defer func() { _ = x.s.Close() }()
		t.Repeat(map[string]func(*rapid.T){
			"commit": x.commit,
			"again":  x.commit,
			"save":   x.save,
			"remove": x.remove,
			"empty":  x.remove,
			"sync":   x.sync,
			"upkeep": x.upkeep,
			"crash":  x.crash,
			"losing": x.losing,
			"reopen": x.reopen,
			"":       x.check,
		})
	})
}
