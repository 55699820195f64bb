package history

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"gatepost/internal/mail"
)

// Store writes the history of a gateway, and finds what is in it.
type Store struct {
	cfg   Config
	o     Options
	line  line
	codec *codec

	complaints complaints

	// Those of the writer, Run.
	file      *file
	seq       lastSeq // of messages
	eventSeq  lastSeq
	nextClean time.Time

	mu     sync.Mutex
	reader *Reader // nil: not open
}

// Open makes a store. It touches no file: Run does, and each search.
func Open(cfg Config, o Options) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	if cfg.Path == "" {
		return nil, errors.New("history: a path is needed")
	}
	c, err := newCodec()
	if err != nil {
		return nil, err
	}
	o = o.withDefaults()
	return &Store{cfg: cfg, o: o, codec: c, line: newLine(o.Line), complaints: complaints{log: o.Log}}, nil
}

// Decision has a record written. It never waits, and keeps r.
func (s *Store) Decision(r Record) {
	if r.Inside != nil && !s.cfg.Text {
		r.Inside.Text = ""
	}
	s.put(item{record: &r})
}

// Event has a step in the life of a message written. It never waits.
func (s *Store) Event(e mail.Event) {
	if e.Time.IsZero() {
		e.Time = s.o.Now()
	}
	if e.Group == "" {
		e.Group = e.ID
	}
	s.put(item{event: &e})
}

func (s *Store) put(i item) {
	if !s.line.put(i) {
		s.o.Stats.Recorded("full", 1)
		s.complaints.add("history: the line of what is to be written is full; this is left out", 1, nil)
	}
}

// gather is how long the first of a batch waits for others.
const gather = 100 * time.Millisecond

// endTime is what the last batch may take when the gateway ends.
const endTime = 5 * time.Second

// Run writes until ctx ends, and then what is left.
func (s *Store) Run(ctx context.Context) error {
	defer s.end()
	clean := time.NewTicker(cleanEvery)
	defer clean.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTime)
			defer cancel()
			s.writeAll(last)
			return nil
		case <-clean.C:
			s.guarded(func() { s.clean(ctx) })
		case <-s.line.wake:
			sleep(ctx, gather)
			s.writeAll(ctx)
		}
	}
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// guarded keeps a mistake of ours from ending the gateway.
func (s *Store) guarded(do func()) {
	defer func() {
		if p := recover(); p != nil {
			s.o.Stats.Recorded("panic", 1)
			s.o.Log.Error("panic", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
	}()
	do()
}

// atOnce is how many go into one transaction.
const atOnce = 500

func (s *Store) writeAll(ctx context.Context) {
	for {
		batch := s.line.take(atOnce)
		if len(batch) == 0 {
			return
		}
		s.guarded(func() { s.write(ctx, batch) })
		if now := s.o.Now(); now.After(s.nextClean) { // whatever the load is
			s.nextClean = now.Add(cleanEvery)
			s.guarded(func() { s.clean(ctx) })
		}
	}
}

// Waits between attempts to write.
const (
	firstWait   = 500 * time.Millisecond
	longestWait = 10 * time.Second
)

// write writes a batch. It tries on while the disk is full or the file is
// locked; meanwhile the line is what there is room for.
func (s *Store) write(ctx context.Context, batch []item) {
	for wait := firstWait; ; wait = min(wait*2, longestWait) {
		n, err := s.try(ctx, batch)
		switch {
		case err == nil:
			s.o.Stats.Recorded("written", n)
			return
		case damaged(err):
			if err = s.replace(err); err == nil {
				continue
			}
		case hopeless(err):
			s.o.Stats.Recorded("failed", len(batch))
			s.complaints.add("history: this can't be written, and is left out", len(batch), err)
			return
		}
		if ctx.Err() != nil {
			s.o.Stats.Recorded("failed", len(batch))
			s.o.Log.Error("history not written", "lost", len(batch), "error", err)
			return
		}
		s.complaints.add("history: not written, tried again", 0, err)
		sleep(ctx, wait)
	}
}

func (s *Store) try(ctx context.Context, batch []item) (int, error) {
	if err := s.open(ctx); err != nil {
		return 0, err
	}
	return s.insert(context.WithoutCancel(ctx), batch)
}

// openTime is what a file that a crash left behind may take.
const openTime = 30 * time.Second

func (s *Store) open(ctx context.Context) error {
	if s.file != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), openTime)
	defer cancel()
	f, err := openFile(ctx, s.cfg.Path)
	if err != nil {
		return err
	}
	s.file = f
	return nil
}

// replace sets a damaged file aside; the next one is made when it is needed.
func (s *Store) replace(why error) error {
	s.closeReader()
	if s.file != nil {
		_ = s.file.close() // it is damaged
		s.file = nil
	}
	to, err := setAside(s.cfg.Path, s.o.Now())
	s.closeReader() // one that was opened meanwhile has the old file
	if err != nil {
		return fmt.Errorf("%w; setting it aside: %w", why, err)
	}
	s.o.Log.Error("history: the file is damaged; it is set aside, and a new one begins", "file", s.cfg.Path, "aside", to, "error", why)
	return nil
}

func (s *Store) end() {
	s.complaints.end()
	s.closeReader()
	if s.file != nil {
		if err := s.file.close(); err != nil {
			s.o.Log.Error("history not closed", "error", err)
		}
		s.file = nil
	}
}

func (s *Store) closeReader() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reader != nil {
		_ = s.reader.Close() // nothing was written to it
		s.reader = nil
	}
}

// find returns who searches.
func (s *Store) find() (*Reader, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reader == nil {
		r, err := OpenReader(s.cfg.Path)
		if err != nil {
			return nil, err
		}
		s.reader = r
	}
	return s.reader, nil
}

// Life implements Finder.
func (s *Store) Life(ctx context.Context, id string) (Life, error) {
	r, err := s.find()
	if err != nil {
		return Life{}, err
	}
	return r.Life(ctx, id)
}

// Search implements Finder.
func (s *Store) Search(ctx context.Context, q Query) (Page, error) {
	r, err := s.find()
	if err != nil {
		return Page{}, err
	}
	return r.Search(ctx, q)
}

// Each implements Finder.
func (s *Store) Each(ctx context.Context, q Query, yield func(Record) error) error {
	r, err := s.find()
	if err != nil {
		return err
	}
	return r.Each(ctx, q, yield)
}

// Report implements Finder.
func (s *Store) Report(ctx context.Context, since, until time.Time, top int) (Report, error) {
	r, err := s.find()
	if err != nil {
		return Report{}, err
	}
	return r.Report(ctx, since, until, top)
}
