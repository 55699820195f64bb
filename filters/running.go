package filters

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// running counts the checks under way. A filter that ignores its context is
// not waited for by the message, but it keeps its turn, and it is waited for
// here.
type running struct {
	mu    sync.Mutex
	count map[string]int
	ended chan struct{} // closed at the next end; nil: nobody waits for it
}

// start runs f in a goroutine of its own.
func (r *running) start(name string, f func()) {
	r.begin(name)
	go func() {
		defer r.end(name)
		f()
	}()
}

func (r *running) begin(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.count == nil {
		r.count = make(map[string]int)
	}
	r.count[name]++
}

func (r *running) end(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.count[name]--; r.count[name] == 0 {
		delete(r.count, name)
	}
	if r.ended != nil {
		close(r.ended)
		r.ended = nil
	}
}

// wait returns when nothing runs. When ctx ends before, the error says what.
func (r *running) wait(ctx context.Context) error {
	for {
		r.mu.Lock()
		var names []string
		for name, n := range r.count {
			names = append(names, fmt.Sprintf("%s (%d)", name, n))
		}
		if r.ended == nil {
			r.ended = make(chan struct{})
		}
		ended := r.ended
		r.mu.Unlock()
		if len(names) == 0 {
			return nil
		}
		select {
		case <-ended:
		case <-ctx.Done():
			slices.Sort(names)
			return fmt.Errorf("still running: %s: %w", strings.Join(names, ", "), ctx.Err())
		}
	}
}
