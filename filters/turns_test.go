package filters

import (
	"context"
	"errors"
	"testing"
	"time"

	"gatepost/internal/mail"
)

// asks is a prompt step whose checks note when they ask and hear; wait is what
// they do between.
func asks(d *diary, name string, wait func(ctx context.Context, t *Turn) (Report, error)) Step {
	return Step{Name: name, Prompt: true, Filter: checkFunc(func(ctx context.Context, _ *mail.Transaction) (Report, error) {
		d.note("%s:asks", name)
		r, err := wait(ctx, TurnOf(ctx))
		d.note("%s:hears", name)
		return r, err
	})}
}

// until ends with ctx at the latest.
func until(ctx context.Context, ch <-chan struct{}) error {
	select {
	case <-ch:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func pauses(_ context.Context, t *Turn) (Report, error) {
	if t == nil {
		return Report{}, errors.New("no turn")
	}
	t.Pause()
	return Report{Findings: []mail.Finding{score(1)}}, nil
}

func TestAllAreAskedBeforeOneIsHeard(t *testing.T) {
	d := &diary{}
	b := newBench(t, Config{}, nil, asks(d, "a", pauses), asks(d, "b", pauses), asks(d, "c", func(_ context.Context, turn *Turn) (Report, error) {
		turn.Pause()
		turn.Pause()
		if TurnOf(context.WithValue(t.Context(), turnKey{}, turn)) != nil {
			t.Error("the last one left has somebody to hold up")
		}
		return Report{}, nil
	}))
	tx := message("A: 1\n")
	if v := b.message(t, tx); v.Action != mail.Accept {
		t.Errorf("action %s", v.Action)
	}
	if got, want := d.String(), "a:asks b:asks c:asks a:hears b:hears c:hears"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := names(tx.Findings), "a/score b/score"; got != want {
		t.Errorf("found %q, want %q", got, want)
	}
}

func TestLoneCheckHasNobodyToHoldUp(t *testing.T) {
	d := &diary{}
	b := newBench(t, Config{}, nil, asks(d, "a", func(_ context.Context, turn *Turn) (Report, error) {
		if turn != nil {
			t.Error("it has a turn")
		}
		return Report{}, nil
	}))
	b.message(t, message("A: 1\n"))
}

// One whose answer is late waits for it in a goroutine of its own.
func TestWhoLeavesHoldsUpNobody(t *testing.T) {
	d, done := &diary{}, make(chan struct{})
	b := newBench(t, Config{Deadline: 10 * time.Second}, nil,
		asks(d, "late", func(ctx context.Context, turn *Turn) (Report, error) {
			turn.Pause()
			turn.Leave()
			return Report{Findings: []mail.Finding{score(1)}}, until(ctx, done)
		}),
		asks(d, "quick", func(context.Context, *Turn) (Report, error) { return Report{}, nil }),
		asks(d, "last", func(_ context.Context, turn *Turn) (Report, error) {
			turn.Pause()
			close(done)
			return Report{Findings: []mail.Finding{score(2)}}, nil
		}))
	tx := message("A: 1\n")
	b.message(t, tx)
	if got, want := names(tx.Findings), "late/score last/score"; got != want {
		t.Errorf("found %q, want %q", got, want)
	}
}

// Nobody waits for those that can't change the verdict any more; they are told.
func TestTurnsEndWhenItIsEnough(t *testing.T) {
	d := &diary{}
	endless := func(ctx context.Context, turn *Turn) (Report, error) {
		turn.Pause()
		<-ctx.Done()
		return Report{}, ctx.Err()
	}
	b := newBench(t, Config{}, nil, asks(d, "finds", func(_ context.Context, turn *Turn) (Report, error) {
		turn.Pause()
		return Report{Findings: []mail.Finding{virus("Eicar")}}, nil
	}), asks(d, "endless", endless), asks(d, "endless too", endless))
	if v := b.message(t, message("A: 1\n")); v.Action != mail.Reject {
		t.Errorf("action %s", v.Action)
	}
	if err := b.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if n := b.count.count("endless " + ResultCancelled); n != 1 {
		t.Errorf("%d cancelled, want 1: %v", n, b.count.results)
	}
}

// A panic costs the check that made it, and a turn of the filter that is taken
// costs the others nothing.
func TestTurnsOfThoseThatCannotGoOn(t *testing.T) {
	d := &diary{}
	full := asks(d, "full", pauses)
	full.MaxConcurrent, full.OnError = 1, Continue
	broken := asks(d, "broken", func(_ context.Context, turn *Turn) (Report, error) {
		turn.Pause()
		panic("index out of range")
	})
	broken.OnError = Continue
	b := newBench(t, Config{Deadline: 100 * time.Millisecond}, nil, full, broken, asks(d, "a", pauses))
	b.steps[0].turns <- struct{}{}
	tx := message("A: 1\n")
	if v := b.message(t, tx); v.Action != mail.Accept {
		t.Errorf("action %s: %s", v.Action, v.Reason)
	}
	if got, want := names(tx.Findings), "full/failed broken/failed a/score"; got != want {
		t.Errorf("found %q, want %q", got, want)
	}
	for _, result := range []string{"full " + ResultTimeout, "broken " + ResultPanic, "a " + ResultOK} {
		if b.count.count(result) != 1 {
			t.Errorf("no %s: %v", result, b.count.results)
		}
	}
}

// harmless is a checker that may change something and knows that it doesn't.
type harmless struct{ *page }

func (harmless) ChangesNothing() bool { return true }

type harmlessOnes struct{ *diary }

func (h harmlessOnes) Open() Checker { return harmless{h.diary.Open().(*page)} }

func TestWhoChangesNothingIsAskedBesideOthers(t *testing.T) {
	d := &diary{}
	said := func(name string, edits ...mail.Edit) *diary {
		return &diary{check: func(_ int, ctx context.Context, _ *mail.Transaction) (Report, error) {
			d.note("%s:asks", name)
			if turn := TurnOf(ctx); turn != nil {
				turn.Pause()
			}
			d.note("%s:hears", name)
			return Report{Edits: edits}, nil
		}}
	}
	step := func(name string, s SessionFilter) Step {
		return Step{Name: name, Session: s, Modifies: true, Prompt: true}
	}
	b := newBench(t, Config{}, nil, step("a", harmlessOnes{said("a")}), step("b", harmlessOnes{said("b")}),
		step("c", said("c")), step("d", harmlessOnes{said("d")}))
	if v := b.message(t, message("A: 1\n")); v.Action != mail.Accept {
		t.Errorf("action %s: %s", v.Action, v.Reason)
	}
	if got, want := d.String(), "a:asks b:asks a:hears b:hears c:asks c:hears d:asks d:hears"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}

	b = newBench(t, Config{}, nil, step("a", harmlessOnes{said("a", mail.DeleteHeader{At: 0})}), step("b", harmlessOnes{said("b")}))
	tx := message("A: 1\n")
	if v := b.message(t, tx); v.Action != mail.TempFail {
		t.Errorf("an edit of one that changes nothing: action %s", v.Action)
	}
}
