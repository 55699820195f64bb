package filters

import (
	"context"
	"iter"
	"slices"

	"gatepost/internal/mail"
)

// Turn is the place of a check among those of its group that share a goroutine,
// since each of them mostly waits for somebody else. A check with a Turn calls
// Pause before it waits for an answer, and Leave when that takes long: whoever
// waits holds up the others.
type Turn struct {
	yield func(leaves bool) bool
	alone bool
}

type turnKey struct{}

// TurnOf returns the check's place; nil when there is nobody that it could hold
// up.
func TurnOf(ctx context.Context) *Turn {
	t, _ := ctx.Value(turnKey{}).(*Turn)
	if t == nil || t.alone {
		return nil
	}
	return t
}

// Pause lets the others go on up to where they wait.
func (t *Turn) Pause() {
	if !t.alone {
		t.yield(false)
	}
}

// Leave gives the check a goroutine of its own.
func (t *Turn) Leave() {
	if !t.alone {
		t.yield(true)
	}
}

// question is a check that is to be made.
type question struct {
	at int // in the group
	*step
	filter Filter
	view   mail.Transaction
	answer outcome
}

func (q *question) ask(ctx context.Context) {
	q.answer = q.step.ask(ctx, q.filter, &q.view)
}

// taker is a question that is asked in turns.
type taker struct {
	*question
	turn *Turn
	next func() (leaves, more bool)
}

func (q *question) inTurns(ctx context.Context) taker {
	t := taker{question: q, turn: new(Turn)}
	t.next, _ = iter.Pull(func(yield func(bool) bool) { // always run to its end
		t.turn.yield = yield
		q.ask(context.WithValue(ctx, turnKey{}, t.turn))
	})
	return t
}

// finish runs what is left of the check in a goroutine of its own.
func (t taker) finish(answers chan<- *question) {
	t.turn.alone = true
	t.checks.start(t.Name, func() {
		for more := true; more; {
			_, more = t.next()
		}
		answers <- t.question
	})
}

// takeTurns asks all in the goroutine of the caller: what is to be sent goes to
// all of them before the first answer is waited for. It returns when all have
// answered or heard says that it is enough.
func takeTurns(ctx context.Context, questions []*question, heard func(*question) (enough bool)) {
	answers := make(chan *question, len(questions))
	var here []taker
	for _, q := range questions {
		here = append(here, q.inTurns(ctx))
	}
	defer func() { // what is not needed any more ends with ctx
		for _, t := range here {
			t.finish(answers)
		}
	}()
	apart := 0
	for len(here) > 0 {
		// A loop over the list as it stands: those that are through leave it.
		for i := 0; i < len(here); {
			t := here[i]
			t.turn.alone = len(here) == 1 && apart == 0
			leaves, more := t.next()
			if more && !leaves {
				i++
				continue
			}
			here = slices.Delete(here, i, i+1)
			if more {
				apart++
				t.finish(answers)
			} else if heard(t.question) {
				return
			}
		}
	}
	for ; apart > 0; apart-- {
		if heard(<-answers) {
			return
		}
	}
}
