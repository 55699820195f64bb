package filters

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatepost/internal/mail"
)

// runs is a filter with something to do beside its checks.
type runs struct {
	began, ended atomic.Int32
	how          string
}

func (r *runs) Check(context.Context, *mail.Transaction) (Report, error) { return Report{}, nil }

func (r *runs) Run(ctx context.Context) error {
	r.began.Add(1)
	defer r.ended.Add(1)
	switch r.how {
	case "panic":
		panic("broken")
	case "error":
		return errors.New("no more")
	}
	<-ctx.Done()
	return ctx.Err()
}

type syncLog struct {
	mu sync.Mutex
	strings.Builder
}

func (s *syncLog) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Builder.Write(p)
}

// Filters that run do so as long as the Multiplexer; one that breaks takes
// nobody with it.
func TestRunners(t *testing.T) {
	log := &syncLog{}
	all := []*runs{{}, {how: "panic"}, {how: "error"}, {}}
	var steps []Step
	for i, r := range all {
		steps = append(steps, Step{Name: string(rune('a' + i)), Filter: r})
	}
	m, err := New(DefaultConfig(), steps, constant(mail.Verdict{}), nil, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- m.Run(ctx) }()
	for deadline := time.Now().Add(60 * time.Second); all[0].began.Load()+all[3].began.Load()+all[1].ended.Load()+all[2].ended.Load() < 4; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not all run")
		}
	}
	if all[0].ended.Load() != 0 {
		t.Error("one ended before its time")
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if all[0].ended.Load() != 1 || all[3].ended.Load() != 1 {
		t.Error("Run did not wait")
	}
	if got := log.String(); strings.Count(got, "panicked") != 1 || strings.Count(got, "stopped running") != 1 {
		t.Errorf("log:\n%s", got)
	}
}
