package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gatepost/internal/mail"
)

// open opens a spool and closes it at the end of the test.
func open(t testing.TB, o Options) *Spool {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// reopen closes s and opens its directory again.
func reopen(t testing.TB, s *Spool) *Spool {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	o := s.opts
	o.Failpoint = nil
	return open(t, o)
}

// run runs s until the test or stop ends it.
func run(t testing.TB, s *Spool) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// memDir is a directory in memory where there is one: for tests that sync much
// and ask nothing of the disk.
func memDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "spool-test")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func testID(n int) string { return fmt.Sprintf("T%06d", n) }

// testBody depends on id, so that one message is never taken for another.
func testBody(id string, size int) []byte {
	seed := [32]byte{}
	copy(seed[:], id)
	b := make([]byte, size)
	_, _ = rand.NewChaCha8(seed).Read(b)
	return b
}

func testHeader(id string) []byte {
	return []byte("Subject: message " + id + "\r\nX-ID: " + id + "\r\n")
}

func testEntry(id string) Entry {
	return Entry{
		ID: id, Group: id, Received: time.Unix(1_700_000_000, int64(len(id))), Origin: FromSMTP,
		Envelope: mail.Envelope{
			Sender:     mail.Path{Address: mail.Address{Local: "sender", Domain: "example.org"}, Args: []string{"SIZE=100", "BODY=8BITMIME"}},
			Recipients: []mail.Path{{Address: mail.Address{Local: "a", Domain: "example.com"}}, {Address: mail.Address{Local: id, Domain: "example.com"}, Args: []string{"NOTIFY=NEVER"}}},
		},
		Header: testHeader(id), State: Queue,
		Client: "host[192.0.2.1]", Listener: "mx", Helo: "host", Subject: "message " + id, Score: 1.5,
		ClientName: "host.example.org", ClientAddr: netip.MustParseAddrPort("[2001:db8::1]:4025"), Proto: "ESMTPSA", User: "alice",
		Trusted: true, Window: true, Silent: "spam", Unscanned: "virus,spam", Replaces: "old",
	}
}

// wantContent is what the content of testEntry with testBody must be.
func wantContent(id string, size int) []byte {
	return slices.Concat(testHeader(id), []byte("\r\n"), testBody(id, size))
}

// put commits a message of testEntry with testBody.
func put(s *Spool, id string, size int) error {
	d := s.Draft(id)
	if _, err := d.Write(testBody(id, size)); err != nil {
		d.Discard()
		return err
	}
	return s.Commit(context.Background(), d, testEntry(id))
}

func mustPut(t testing.TB, s *Spool, id string, size int) {
	t.Helper()
	if err := put(s, id, size); err != nil {
		t.Fatal(err)
	}
}

// read returns the content of a message.
func read(s *Spool, id string) ([]byte, error) {
	c, err := s.Open(id)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	var b bytes.Buffer
	n, err := c.WriteTo(&b)
	if err == nil && n != c.Size() {
		err = fmt.Errorf("wrote %d of %d bytes", n, c.Size())
	}
	return b.Bytes(), err
}

func check(t testing.TB, s *Spool, id string, size int) {
	t.Helper()
	got, err := read(s, id)
	if err != nil {
		t.Errorf("%s: %v", id, err)
		return
	}
	if want := wantContent(id, size); !bytes.Equal(got, want) {
		t.Errorf("%s: content is %d bytes, want %d, or they differ", id, len(got), len(want))
	}
}

// ids lists what the spool holds.
func ids(s *Spool) []string {
	var list []string
	for m := range s.All() {
		list = append(list, m.ID)
	}
	slices.Sort(list)
	return list
}

func wantIDs(t testing.TB, s *Spool, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := ids(s); !slices.Equal(got, want) {
		t.Errorf("messages %v, want %v", got, want)
	}
}

func files(t testing.TB, s *Spool, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(filepath.Join(s.opts.Dir, dir))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range list {
		names = append(names, f.Name())
	}
	return names
}

// logTo collects log lines.
func logTo(b *bytes.Buffer) *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func TestCommitAndRead(t *testing.T) {
	tests := []struct {
		name string
		size int
	}{
		{"empty body", 0},
		{"one byte", 1},
		{"a block", block},
		{"small", 5000},
		{"just small", 1000 << 10 >> 3},
		{"at the limit", 128 << 10},
		{"just large", 128<<10 + 1},
		{"large", 3 << 20},
	}
	for _, fromDisk := range []bool{false, true} {
		s := open(t, Options{Dir: t.TempDir()})
		for i, tt := range tests {
			mustPut(t, s, testID(i), tt.size)
		}
		if fromDisk {
			s = reopen(t, s)
		}
		for i, tt := range tests {
			t.Run(fmt.Sprintf("%s, from disk %v", tt.name, fromDisk), func(t *testing.T) {
				id := testID(i)
				check(t, s, id, tt.size)
				c, err := s.Open(id)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				if err := readAtEverywhere(c, wantContent(id, tt.size)); err != nil {
					t.Error(err)
				}
			})
		}
		if got := len(files(t, s, largeName)); got != 2 {
			t.Errorf("%d large files, want 2", got)
		}
	}
}

// readAtEverywhere reads at the places where parts meet.
func readAtEverywhere(r io.ReaderAt, want []byte) error {
	for _, off := range []int{0, 1, 17, len(testHeader(testID(0))) - 1, len(testHeader(testID(0))), len(testHeader(testID(0))) + 1, len(want) / 2, len(want) - 1, len(want)} {
		for _, n := range []int{0, 1, 3, 40, 5000, len(want)} {
			if off < 0 || off > len(want) {
				continue
			}
			p := make([]byte, n)
			got, err := r.ReadAt(p, int64(off))
			end := min(off+n, len(want))
			if !bytes.Equal(p[:got], want[off:end]) {
				return fmt.Errorf("ReadAt(%d, %d) = %d other bytes", n, off, got)
			}
			if (err == io.EOF) != (off+n > len(want)) || err != nil && err != io.EOF {
				return fmt.Errorf("ReadAt(%d, %d): %v", n, off, err)
			}
		}
	}
	return nil
}

func TestGet(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir()})
	want := testEntry("A")
	mustPut(t, s, "A", 100)
	for _, where := range []string{"memory", "disk"} {
		m, err := s.Get("A")
		if err != nil {
			t.Fatal(err)
		}
		if m.Header != nil {
			t.Errorf("%s: header %q", where, m.Header)
		}
		if want := int64(len(wantContent("A", 100))); m.Size != want {
			t.Errorf("%s: size %d, want %d", where, m.Size, want)
		}
		got := fmt.Sprintf("%+v", m.Entry)
		w := want
		w.Header = nil
		if got != fmt.Sprintf("%+v", w) {
			t.Errorf("%s: got  %s\nwant %+v", where, got, w)
		}
		if m.Progress.State != Queue || len(m.Progress.Recipients) != 2 || m.Progress.Recipients[0].Status != mail.Deferred {
			t.Errorf("%s: progress %+v", where, m.Progress)
		}
		s = reopen(t, s)
	}
	if _, err := s.Get("B"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Get of nothing: %v", err)
	}
	if _, err := s.Open("B"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Open of nothing: %v", err)
	}
}

func TestSaveAndRemove(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir()})
	for i := range 3 {
		mustPut(t, s, testID(i), 100+i*(200<<10))
	}
	want := Progress{
		State: Hold, Reason: "virus", Attempts: 3, Next: time.Unix(1_800_000_000, 5), Warned: true,
		Recipients: []Recipient{
			{Status: mail.Delivered, Reply: mail.Reply{Code: 250, Detail: "0.0", Text: "ok"}, Remote: "mx[192.0.2.9]:25", Attempts: 1, Last: time.Unix(1_700_000_001, 0)},
			{Status: mail.Failed, Reply: mail.Reply{Code: 550, Detail: "1.1", Text: "no\nsuch user"}, Attempts: 3},
		},
	}
	if err := s.Save(testID(0), want); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(testID(1)); err != nil {
		t.Fatal(err)
	}
	for _, where := range []string{"before", "after reopening"} {
		m, err := s.Get(testID(0))
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%+v", m.Progress); got != fmt.Sprintf("%+v", want) {
			t.Errorf("%s: got  %s\nwant %+v", where, got, want)
		}
		if m.Entry.State != Queue {
			t.Errorf("%s: entry's state %q, want that of the commit", where, m.Entry.State)
		}
		wantIDs(t, s, testID(0), testID(2))
		if err := s.Remove(testID(1)); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: second Remove: %v", where, err)
		}
		if got := s.Stats().Messages; got[Hold] != 1 || got[Queue] != 1 {
			t.Errorf("%s: counts %v", where, got)
		}
		s = reopen(t, s)
	}
	if got := files(t, s, largeName); !slices.Equal(got, []string{testID(2)}) {
		t.Errorf("large files %v, want the one of %s", got, testID(2))
	}
	err := s.Save(testID(0), Progress{State: Queue})
	if err == nil || !strings.Contains(err.Error(), "recipients") {
		t.Errorf("Save without recipients: %v", err)
	}
}
