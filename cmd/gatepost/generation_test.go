package main

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"gatepost/internal/mail"
)

// fakeJudge says when its Run and its Close were reached.
type fakeJudge struct{ ended chan struct{} }

type fakeHandler struct{ mail.Handler }

func (fakeHandler) Close() {}

func newFakeJudge() *fakeJudge { return &fakeJudge{make(chan struct{})} }

func (j *fakeJudge) Decides() []mail.Stage { return nil }
func (j *fakeJudge) ReadsBody() bool       { return true }
func (j *fakeJudge) HearsUnknown() bool    { return true }

func (j *fakeJudge) Up(...string) bool    { return true }
func (j *fakeJudge) Busy() map[string]int { return nil }

func (j *fakeJudge) Handler() mail.Handler { return fakeHandler{} }

func (j *fakeJudge) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func (j *fakeJudge) Close(context.Context) error {
	close(j.ended)
	return nil
}

func (j *fakeJudge) hasEnded(within time.Duration) bool {
	select {
	case <-j.ended:
		return true
	case <-time.After(within):
		return false
	}
}

// TestGenerations: one that was replaced lives until its last session ended.
func TestGenerations(t *testing.T) {
	const soon, long = 20 * time.Millisecond, 10 * time.Second
	g := generations{log: slog.New(slog.DiscardHandler)}
	first, second, third := newFakeJudge(), newFakeJudge(), newFakeJudge()
	g.replace(first)
	a, b := g.handler(), g.handler()
	g.replace(second)
	a.Close()
	a.Close() // counts once
	if first.hasEnded(soon) {
		t.Fatal("the first generation ended before its last session")
	}
	b.Close()
	if !first.hasEnded(long) {
		t.Fatal("the first generation is still there without sessions")
	}
	g.replace(third)
	if !second.hasEnded(long) {
		t.Fatal("the second generation had no session and is still there")
	}
	c := g.handler()
	c.Close()
	if third.hasEnded(soon) {
		t.Fatal("the current generation ended with its last session")
	}
	g.close()
	if !third.hasEnded(long) {
		t.Fatal("close did not end the current generation")
	}
}
