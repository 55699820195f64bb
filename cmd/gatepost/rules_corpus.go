package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"gatepost/internal/config"
	"gatepost/internal/history"
	"gatepost/rules"
)

// corpus is message files that go through all filters, as a source of records.
type corpus struct {
	path    string
	scanner *scanner
	app     *app
}

// newCorpus judges by the rules in use, or, where those don't want messages taken
// apart, by the other ones: what both are asked about must be known.
func newCorpus(cfg *config.Config, path string, f scanFlags, a *app, old *rules.Set, files []string) (*corpus, error) {
	with := *cfg
	if !old.Policies().WantsInside() {
		with.Rules.Files.Files = files
	}
	s, err := newScanner(&with, f, a)
	if err != nil {
		return nil, err
	}
	return &corpus{path, s, a}, nil
}

// Each implements rehearse.Source.
func (c *corpus) Each(ctx context.Context, _ history.Query, yield func(history.Record) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	messages := make(chan letterFile)
	var judging sync.WaitGroup
	var mu sync.Mutex
	for range runtime.NumCPU() {
		judging.Go(func() {
			for m := range messages {
				r, err := c.judge(ctx, m)
				mu.Lock()
				if err != nil {
					fmt.Fprintf(c.app.err, "gatepost: %s: %s\n", line(m.name), line(err.Error()))
				} else if err := yield(r); err != nil {
					cancel(err)
				}
				mu.Unlock()
			}
		})
	}
	err := c.walk(func(m letterFile) error {
		select {
		case messages <- m:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	close(messages)
	judging.Wait()
	return errors.Join(err, context.Cause(ctx))
}

// letterFile is a message file, or one message of an mbox.
type letterFile struct {
	name string
	text []byte // of an mbox
}

func (c *corpus) judge(ctx context.Context, m letterFile) (history.Record, error) {
	s, name := *c.scanner, m.name
	if m.text != nil {
		s.stdin, name = bytes.NewReader(m.text), "-"
	}
	r, err := s.file(ctx, name)
	return r.record, err
}

func (c *corpus) walk(yield func(letterFile) error) error {
	info, err := os.Stat(c.path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return c.mbox(yield)
	}
	return filepath.WalkDir(c.path, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == "tmp" && path != c.path:
			return filepath.SkipDir
		case !d.Type().IsRegular() || d.Name()[0] == '.':
			return nil
		}
		return yield(letterFile{name: path})
	})
}

// mbox cuts a file at lines that begin with "From ". One that does not begin so
// is one message.
func (c *corpus) mbox(yield func(letterFile) error) error {
	f, err := os.Open(c.path)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewReaderSize(f, 64<<10)
	if head, err := lines.Peek(5); err != nil || string(head) != "From " {
		return yield(letterFile{name: c.path})
	}
	var text []byte
	n, blank, begun := 0, true, false
	send := func() error {
		n++
		return yield(letterFile{fmt.Sprintf("%s (message %d)", c.path, n), slices.Clone(text)})
	}
	for {
		one, err := lines.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			text = append(text, one...)
			if begun {
				return errors.Join(send(), ignoreEOF(err))
			}
			return ignoreEOF(err)
		}
		if blank && bytes.HasPrefix(one, []byte("From ")) {
			if begun {
				if err := send(); err != nil {
					return err
				}
			}
			text, begun, blank = text[:0], true, false
			continue
		}
		blank = len(bytes.TrimRight(one, "\r\n")) == 0
		if quoted := bytes.TrimLeft(one, ">"); len(quoted) < len(one) && bytes.HasPrefix(quoted, []byte("From ")) {
			one = one[1:]
		}
		if len(text) > maxTested {
			return fmt.Errorf("%s: a message is larger than %d bytes", c.path, maxTested)
		}
		text = append(text, one...)
	}
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
