package filters

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
)

func TestEmptyPipeline(t *testing.T) {
	b := newBench(t, Config{}, nil)
	h := b.Handler()
	tx := message("Subject: x\n")
	for _, ask := range []func() mail.Verdict{
		func() mail.Verdict { return h.Connect(t.Context(), tx) },
		func() mail.Verdict { return h.Helo(t.Context(), tx) },
		func() mail.Verdict { return h.Mail(t.Context(), tx) },
		func() mail.Verdict { return h.Rcpt(t.Context(), tx, mail.Path{}) },
		func() mail.Verdict { return h.Data(t.Context(), tx) },
		func() mail.Verdict { return h.Message(t.Context(), tx) },
	} {
		if v := ask(); v.Action != mail.Accept {
			t.Errorf("action = %v, want the policy's", v.Action)
		}
	}
	var stages []mail.Stage
	for _, tx := range b.policy.asked {
		stages = append(stages, tx.Stage)
	}
	if len(stages) != 6 || stages[0] != mail.StageConnect || stages[5] != mail.StageMessage {
		t.Errorf("the policy was asked at %v", stages)
	}
	h.Abort(tx)
	h.Close()
}

func TestReportsStandByPositionNotByArrival(t *testing.T) {
	for _, collect := range []Collect{CollectNeeded, CollectAll} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, Config{Collect: collect}, nil,
				Step{Name: "slow", Filter: finds(3*time.Second, score(1))},
				Step{Name: "fast", Filter: finds(time.Second, score(2))},
				Step{Name: "middle", Filter: finds(2*time.Second, score(3))},
			)
			tx := message("Subject: x\n")
			b.message(t, tx)
			if got, want := names(tx.Findings), "slow/score fast/score middle/score"; got != want {
				t.Errorf("findings = %s, want %s", got, want)
			}
		})
	}
}

func TestParallelJudgesCostTheSlowest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Config{}, nil,
			Step{Name: "a", Filter: finds(3 * time.Second)},
			Step{Name: "b", Filter: finds(5 * time.Second)},
			Step{Name: "c", Filter: finds(4 * time.Second)},
		)
		start := time.Now()
		b.message(t, message("Subject: x\n"))
		if took := time.Since(start); took != 5*time.Second {
			t.Errorf("took %v, want the 5s of the slowest", took)
		}
	})
}

func TestModifyingFilterRunsInItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen sync.Map
		look := func(name string) Filter {
			return checkFunc(func(_ context.Context, tx *mail.Transaction) (Report, error) {
				seen.Store(name, tx.Message.Header.Get("Subject"))
				time.Sleep(time.Second)
				return Report{}, nil
			})
		}
		change := func(to string) Filter {
			return edits(func(tx *mail.Transaction) []mail.Edit {
				was := tx.Message.Header.Get("Subject")
				return []mail.Edit{mail.ChangeHeader{At: 0, Field: mail.NewField("Subject", was+to)}}
			})
		}
		b := newBench(t, Config{}, nil,
			Step{Name: "a", Filter: look("a")},
			Step{Name: "b", Filter: look("b")},
			Step{Name: "m1", Filter: change("1"), Modifies: true},
			Step{Name: "m2", Filter: change("2"), Modifies: true},
			Step{Name: "c", Filter: look("c")},
			Step{Name: "d", Filter: look("d")},
		)
		tx := message("Subject: x\n")
		start := time.Now()
		v := b.message(t, tx)
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("took %v, want 2s: a beside b, c beside d", took)
		}
		for name, want := range map[string]string{"a": "x", "b": "x", "c": "x12", "d": "x12"} {
			if got, _ := seen.Load(name); got != want {
				t.Errorf("%s saw %q, want %q", name, got, want)
			}
		}
		last := b.policy.last()
		if got := last.Message.Header.Get("Subject"); got != "x12" {
			t.Errorf("the policy saw %q, want x12", got)
		}
		_, m := mail.Apply(tx.Envelope, tx.Message, v.Edits)
		if got, want := text(t, m), "Subject: x12\n\nbody\n"; got != want {
			t.Errorf("message = %q, want %q", got, want)
		}
	})
}

func TestEditsWithoutRightsAreAFailure(t *testing.T) {
	f := edits(func(*mail.Transaction) []mail.Edit { return []mail.Edit{mail.DeleteHeader{At: 0}} })
	b := newBench(t, Config{}, nil, Step{Name: "a", Filter: f})
	v := b.message(t, message("Subject: x\n"))
	if v.Action != mail.TempFail || len(v.Edits) != 0 {
		t.Errorf("verdict = %+v, want tempfail without edits", v)
	}
}

func TestEarlyStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Config{}, nil,
			Step{Name: "slow", Filter: finds(time.Minute/2, score(1))},
			Step{Name: "av", Filter: finds(time.Second, virus("Eicar"))},
			Step{Name: "later", Filter: edits(func(*mail.Transaction) []mail.Edit { t.Error("later was asked"); return nil }), Modifies: true},
		)
		start := time.Now()
		v := b.message(t, message("Subject: x\n"))
		if took := time.Since(start); took != time.Second {
			t.Errorf("took %v, want 1s", took)
		}
		if v.Action != mail.Reject || v.Reply.Text != "virus Eicar" {
			t.Errorf("verdict = %+v", v)
		}
		synctest.Wait()
		if b.count.count("slow cancelled") != 1 {
			t.Errorf("results = %v, want slow cancelled", b.count.results)
		}
		if err := b.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestCollectAllHearsEverybody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Config{Collect: CollectAll}, nil,
			Step{Name: "slow", Filter: finds(3*time.Second, score(1))},
			Step{Name: "av", Filter: finds(time.Second, virus("Eicar"))},
		)
		tx := message("Subject: x\n")
		if v := b.message(t, tx); v.Action != mail.Reject {
			t.Errorf("action = %v", v.Action)
		}
		if got, want := names(tx.Findings), "slow/score av/virus"; got != want {
			t.Errorf("findings = %s, want %s", got, want)
		}
	})
}

// The answer is the same whoever is first, whether the others are stopped,
// answer or fail.
func TestVerdictDoesNotDependOnTiming(t *testing.T) {
	second, third := time.Second, 2*time.Second
	for _, action := range []mail.Action{mail.Reject, mail.Discard, mail.Quarantine} {
		policy := func() *testPolicy {
			return &testPolicy{decide: func(tx *mail.Transaction, _ *mail.Path) mail.Verdict {
				if len(tx.Find(mail.FindingVirus)) > 0 {
					return mail.Verdict{Action: action, Reason: "virus"}
				}
				return mail.Verdict{}
			}}
		}
		for _, delays := range [][2]time.Duration{{0, second}, {second, 0}, {third, second}} {
			for _, collect := range []Collect{CollectNeeded, CollectAll} {
				synctest.Test(t, func(t *testing.T) {
					broken := checkFunc(func(ctx context.Context, _ *mail.Transaction) (Report, error) {
						time.Sleep(delays[0])
						return Report{}, errors.New("broken")
					})
					b := newBench(t, Config{Collect: collect}, policy(),
						Step{Name: "broken", Filter: broken},
						Step{Name: "av", Filter: finds(delays[1], virus("Eicar"))})
					v := b.message(t, message("Subject: x\n"))
					if v.Action != action || v.Reason != "virus" {
						t.Errorf("delays %v, collect %s: %v (%s), want %v", delays, collect, v.Action, v.Reason, action)
					}
					if err := b.Close(t.Context()); err != nil {
						t.Error(err)
					}
				})
			}
		}
	}
}

// A policy that calls a delivery settled is not believed: a failure may still
// forbid it.
func TestDeliveryIsNeverSettled(t *testing.T) {
	policy := &testPolicy{decide: func(*mail.Transaction, *mail.Path) mail.Verdict { return mail.Verdict{Action: mail.Accept} }}
	b := newBench(t, Config{}, policy,
		Step{Name: "av", Filter: finds(0, virus("Eicar"))}, // settles, by testPolicy
		Step{Name: "broken", Filter: fails("broken")})
	if v := b.message(t, message("Subject: x\n")); v.Action != mail.TempFail {
		t.Errorf("action = %v, want tempfail", v.Action)
	}
}

func TestConcurrencyLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now, most atomic.Int32
		f := checkFunc(func(ctx context.Context, tx *mail.Transaction) (Report, error) {
			n := now.Add(1)
			defer now.Add(-1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			time.Sleep(time.Second)
			return Report{}, nil
		})
		// Three seconds of waiting are more than the timeout of one second and
		// a half: waiting does not count against it.
		b := newBench(t, Config{}, nil, Step{Name: "sa", Filter: f, MaxConcurrent: 2, Timeout: 1500 * time.Millisecond})
		var wg sync.WaitGroup
		start := time.Now()
		for range 8 {
			wg.Go(func() {
				if v := b.message(t, message("Subject: x\n")); v.Action != mail.Accept {
					t.Errorf("verdict = %+v", v)
				}
			})
		}
		wg.Wait()
		if most.Load() != 2 || time.Since(start) != 4*time.Second {
			t.Errorf("%d at a time, %v in all; want 2, 4s", most.Load(), time.Since(start))
		}
	})
}

func TestWaitingForATurnEndsWithTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Config{Deadline: 10 * time.Second}, nil,
			Step{Name: "sa", Filter: finds(8 * time.Second), MaxConcurrent: 1, Breaker: Breaker{Failures: 1}})
		var wg sync.WaitGroup
		var tempfails atomic.Int32
		for range 3 {
			wg.Go(func() {
				if v := b.message(t, message("Subject: x\n")); v.Action == mail.TempFail {
					tempfails.Add(1)
				}
			})
			synctest.Wait()
		}
		wg.Wait()
		synctest.Wait()
		// The second is cut off in its check at 10s, the third never has a turn.
		if tempfails.Load() != 2 {
			t.Errorf("%d tempfails, want 2", tempfails.Load())
		}
	})
}

// Waiting in vain is no fault of the filter.
func TestWaitingForATurnDoesNotTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Config{}, nil,
			Step{Name: "sa", Filter: finds(8 * time.Second), MaxConcurrent: 1, Breaker: Breaker{Failures: 1}})
		first := make(chan mail.Verdict)
		go func() { first <- b.message(t, message("Subject: x\n")) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if v := b.Handler().Message(ctx, message("Subject: x\n")); v.Action != mail.TempFail {
			t.Errorf("the one that waited: %v, want tempfail", v.Action)
		}
		if v := <-first; v.Action != mail.Accept {
			t.Errorf("the one that had its turn: %v, want accept", v.Action)
		}
		if b.count.count("sa false") != 0 || b.count.count("sa timeout") != 1 {
			t.Errorf("ups = %v, results = %v", b.count.ups, b.count.results)
		}
	})
}

func TestFilterThatIgnoresItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var late error
		deaf := checkFunc(func(_ context.Context, tx *mail.Transaction) (Report, error) {
			<-release
			_, late = tx.Message.Body().ReadAt(make([]byte, 1), 0)
			return Report{Findings: []mail.Finding{virus("late")}}, nil
		})
		b := newBench(t, Config{}, nil, Step{Name: "deaf", Filter: deaf, Timeout: 5 * time.Second})
		tx := message("Subject: x\n")
		start := time.Now()
		v := b.message(t, tx)
		if time.Since(start) != 5*time.Second || v.Action != mail.TempFail {
			t.Errorf("%v after %v, want tempfail after its timeout", v.Action, time.Since(start))
		}
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := b.Close(short); err == nil || !strings.Contains(err.Error(), "deaf (1)") {
			t.Errorf("Close = %v, want the name of the filter that still runs", err)
		}
		close(release)
		if err := b.Close(t.Context()); err != nil {
			t.Errorf("Close = %v", err)
		}
		if !errors.Is(late, errLease) {
			t.Errorf("late read of the body: %v, want %v", late, errLease)
		}
	})
}

func TestFindingsOfTheSessionComeWithEachMessage(t *testing.T) {
	at := func(stage mail.Stage) Step {
		f := checkFunc(func(_ context.Context, tx *mail.Transaction) (Report, error) {
			return Report{Findings: []mail.Finding{{Name: tx.Stage.String()}}}, nil
		})
		return Step{Name: "f-" + stage.String(), Filter: f, Stages: []mail.Stage{stage}}
	}
	b := newBench(t, Config{}, nil, at(mail.StageConnect), at(mail.StageHelo), at(mail.StageRcpt))
	h := b.Handler()
	h.Connect(t.Context(), &mail.Transaction{})
	h.Helo(t.Context(), &mail.Transaction{})
	h.Helo(t.Context(), &mail.Transaction{}) // again, after STARTTLS
	for range 2 {
		tx := &mail.Transaction{}
		h.Mail(t.Context(), tx)
		h.Rcpt(t.Context(), tx, mail.Path{})
		if got, want := names(tx.Findings), "f-connect/connect f-helo/helo f-rcpt/rcpt"; got != want {
			t.Errorf("findings = %s, want %s", got, want)
		}
	}
}

func TestRecipientInQuestionIsSeen(t *testing.T) {
	var seen []mail.Path
	f := checkFunc(func(_ context.Context, tx *mail.Transaction) (Report, error) {
		seen = tx.Envelope.Recipients
		return Report{}, nil
	})
	var decided *mail.Path
	policy := &testPolicy{decide: func(tx *mail.Transaction, rcpt *mail.Path) mail.Verdict {
		decided = rcpt
		if len(tx.Envelope.Recipients) != 1 {
			t.Errorf("the policy sees %d recipients, want those accepted so far", len(tx.Envelope.Recipients))
		}
		return mail.Verdict{}
	}}
	b := newBench(t, Config{}, policy, Step{Name: "f", Filter: f, Stages: []mail.Stage{mail.StageRcpt}})
	tx := message("Subject: x\n", "first")
	tx.Message = nil
	second := mail.Path{Address: mail.Address{Local: "second", Domain: "example.com"}}
	b.Handler().Rcpt(t.Context(), tx, second)
	if len(seen) != 2 || seen[1].Address != second.Address {
		t.Errorf("the filter saw %v", seen)
	}
	if decided == nil || decided.Address != second.Address {
		t.Errorf("the policy was asked about %v", decided)
	}
}

func TestPanickingPolicyIsATempfail(t *testing.T) {
	policy := &testPolicy{decide: func(*mail.Transaction, *mail.Path) mail.Verdict { panic("rule 7") }}
	b := newBench(t, Config{}, policy, Step{Name: "a", Filter: finds(0)})
	v := b.message(t, message("Subject: x\n"))
	if v.Action != mail.TempFail || v.Reply.Code != 451 {
		t.Errorf("verdict = %+v, want 451", v)
	}
	if !strings.Contains(b.log.String(), "rule 7") || !strings.Contains(b.log.String(), "goroutine") {
		t.Errorf("log = %s, want panic and stack", b.log)
	}
}

func TestRefusedConfigurations(t *testing.T) {
	ok := finds(0)
	tests := []struct {
		name  string
		cfg   Config
		steps []Step
		want  string
	}{
		{name: "unknown on_error", steps: []Step{{Name: "av", Filter: ok, OnError: "pass"}}, want: `"pass" is not one of`},
		{name: "two of one name", steps: []Step{{Name: "av", Filter: ok}, {Name: "av", Filter: ok}}, want: "two of that name"},
		{name: "no filter", steps: []Step{{Name: "av"}}, want: "without name or filter"},
		{name: "negative timeout", steps: []Step{{Name: "av", Filter: ok, Timeout: -1}}, want: "negative"},
		{name: "unknown collect", cfg: Config{Collect: "some"}, want: `"some" is not one of`},
		{name: "unknown word for a listener", cfg: Config{OnErrorByListener: map[string]OnError{"mx": "later"}}, want: "listener mx"},
		{name: "negative deadline", cfg: Config{Deadline: -1}, want: "negative"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := New(tt.cfg, tt.steps, &testPolicy{}, nil, nopLog())
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("New = %v, want %q", err, tt.want)
			}
		})
	}
}
