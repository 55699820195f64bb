package filtertest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/internal/mail"
)

// patience is how long anything may take that has to be over soon. The machine
// may be slow; a filter that hangs does so for ever.
const patience = 30 * time.Second

// Subject is a filter under test. Each function makes one that lives for the
// length of the test; it ends what it started by t.Cleanup.
type Subject struct {
	// New makes the filter in good order: its daemon answers.
	New func(t *testing.T) filters.Step
	// Silent makes one whose daemon takes connections and says nothing. nil: it
	// asks nobody.
	Silent func(t *testing.T) filters.Step
	// Broken makes some that can't tell: no daemon there, one that hangs up,
	// one that talks nonsense.
	Broken map[string]func(t *testing.T) filters.Step
	// Remembers is set for a filter that may find something else the second
	// time: a counter, a greylist.
	Remembers bool
	// Prepare changes a transaction before the filter is asked, where it wants
	// to be asked about something else.
	Prepare func(tx *mail.Transaction)

	patience time.Duration     // 0: see above
	texts    map[string]string // nil: Messages
}

func (s Subject) messagesToAsk() map[string]string {
	if s.texts != nil {
		return s.texts
	}
	return Messages()
}

// soon fails the test when do takes too long.
func (s Subject) soon(t *testing.T, what string, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); do() }()
	select {
	case <-done:
	case <-time.After(cmp.Or(s.patience, patience)):
		t.Fatalf("%s: not over in time", what)
	}
}

// Run tests s.
func Run(t *testing.T, s Subject) {
	t.Run("step", func(t *testing.T) { s.step(t) })
	t.Run("messages", func(t *testing.T) { s.messages(t) })
	t.Run("many at a time", func(t *testing.T) { s.concurrent(t) })
	t.Run("ended context", func(t *testing.T) { s.ended(t) })
	if p, ok := pingerOf(s.New(t)); ok {
		t.Run("ping", func(t *testing.T) { s.ping(t, p) })
	}
	if s.Silent != nil {
		t.Run("cancelled while it waits", func(t *testing.T) { s.silent(t, context.Canceled) })
		t.Run("deadline while it waits", func(t *testing.T) { s.silent(t, context.DeadlineExceeded) })
	}
	for name, make := range s.Broken {
		t.Run("can't tell: "+name, func(t *testing.T) { s.broken(t, make(t)) })
	}
}

// asker asks the filter of a step, by a session of its own where it has some.
func asker(step filters.Step) (f filters.Filter, end func()) {
	if step.Session == nil {
		return step.Filter, func() {}
	}
	c := step.Session.Open()
	return c, c.Close
}

// stage is where the filter says most: at the last one that it wants.
func stage(step filters.Step) mail.Stage {
	last := mail.StageMessage
	for i, s := range step.Stages {
		if i == 0 || s > last {
			last = s
		}
	}
	return last
}

func (s Subject) transaction(t *testing.T, step filters.Step, message string) *mail.Transaction {
	t.Helper()
	tx := Transaction(t, message)
	tx.Stage = stage(step)
	if tx.Stage < mail.StageMessage {
		tx.Message = nil
	}
	if s.Prepare != nil {
		s.Prepare(tx)
	}
	return tx
}

// step is what the Multiplexer needs.
func (s Subject) step(t *testing.T) {
	step := s.New(t)
	if _, err := filters.New(filters.DefaultConfig(), []filters.Step{step}, accept{}, nil, slog.New(slog.DiscardHandler)); err != nil {
		t.Errorf("the step is refused: %v", err)
	}
}

// messages asks about all kinds of messages.
func (s Subject) messages(t *testing.T) {
	step := s.New(t)
	for name, text := range s.messagesToAsk() {
		t.Run(name, func(t *testing.T) {
			first := s.ask(t, step, text)
			if second := s.ask(t, step, text); !s.Remembers && !same(first, second) {
				t.Errorf("asked again it finds something else:\n%v\n%v", first, second)
			}
		})
	}
}

// same compares what was found, whatever was said of it: the text may tell a
// time.
func same(a, b []mail.Finding) bool {
	strip := func(list []mail.Finding) (out []string) {
		for _, f := range list {
			out = append(out, fmt.Sprint(f.Name, " ", f.Value, " ", f.Score))
		}
		return out
	}
	return reflect.DeepEqual(strip(a), strip(b))
}

// ask asks about one message and looks at the answer.
func (s Subject) ask(t *testing.T, step filters.Step, text string) []mail.Finding {
	t.Helper()
	tx := s.transaction(t, step, text)
	before := snapshot(t, tx)
	f, end := asker(step)
	defer end()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := f.Check(ctx, tx)
	if err != nil {
		t.Errorf("it can't tell: %v", err)
	}
	if after := snapshot(t, tx); after != before {
		t.Errorf("it changed the transaction:\n%.2000s\nwas\n%.2000s", after, before)
	}
	if len(r.Edits) > 0 && !step.Modifies {
		t.Errorf("%d edits, and its step doesn't modify", len(r.Edits))
	}
	for _, f := range r.Findings {
		checkFinding(t, f)
	}
	return r.Findings
}

// maxText bounds what one finding says: it is logged and kept.
const maxText = 16 << 10

// checkFinding refuses what would do harm in a log, a header field or a sum.
func checkFinding(t *testing.T, f mail.Finding) {
	t.Helper()
	switch {
	case f.Name == "":
		t.Errorf("a finding without a name: %+v", f)
	case f.Filter != "":
		t.Errorf("%s: the Multiplexer fills in Filter", f.Name)
	case math.IsNaN(f.Score) || math.IsInf(f.Score, 0):
		t.Errorf("%s: score %v", f.Name, f.Score)
	case mail.CleanText(f.Name) != f.Name || mail.CleanText(f.Value) != f.Value:
		t.Errorf("controls in %q, %q", f.Name, f.Value)
	case mail.CleanText(strings.ReplaceAll(f.Text, "\n", "")) != strings.ReplaceAll(f.Text, "\n", ""):
		t.Errorf("%s: controls in %q", f.Name, f.Text)
	case len(f.Value) > maxText || len(f.Text) > maxText:
		t.Errorf("%s: %d and %d bytes long", f.Name, len(f.Value), len(f.Text))
	}
}

// concurrent asks about all messages at the same time. What it finds must not
// depend on its neighbours, and nothing may run on afterwards.
func (s Subject) concurrent(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("asks", func(t *testing.T) {
		step := s.New(t)
		texts := s.messagesToAsk()
		alone := make(map[string][]mail.Finding)
		for name, text := range texts {
			alone[name] = s.ask(t, step, text)
		}
		var all sync.WaitGroup
		for range 4 {
			for name, text := range texts {
				all.Go(func() {
					if got := s.ask(t, step, text); !s.Remembers && !same(got, alone[name]) {
						t.Errorf("%s: %v, alone it found %v", name, got, alone[name])
					}
				})
			}
		}
		all.Wait()
	})
	s.noneLeft(t, before)
}

// noneLeft waits for goroutines to end.
func (s Subject) noneLeft(t *testing.T, before int) {
	t.Helper()
	for deadline := time.Now().Add(cmp.Or(s.patience, patience)); runtime.NumGoroutine() > before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			stacks := make([]byte, 64<<10)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
		}
	}
}

// ended asks when nobody wants to know any more.
func (s Subject) ended(t *testing.T) {
	step := s.New(t)
	f, end := asker(step)
	defer end()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.soon(t, "with an ended context", func() { _, _ = f.Check(ctx, s.transaction(t, step, Plain)) })
}

// silent asks a daemon that doesn't answer, and loses patience.
func (s Subject) silent(t *testing.T, why error) {
	before := runtime.NumGoroutine()
	t.Run("asks", func(t *testing.T) {
		step := s.Silent(t)
		f, end := asker(step)
		defer end()
		ctx, cancel := context.WithCancel(t.Context())
		if why == context.DeadlineExceeded {
			ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
		} else {
			go cancel()
		}
		defer cancel()
		s.soon(t, "without an answer", func() {
			if r, err := f.Check(ctx, s.transaction(t, step, Plain)); err == nil {
				t.Errorf("it knows without an answer: %+v", r)
			}
		})
	})
	s.noneLeft(t, before)
}

// broken asks one that can't tell: by itself, and in its place, where the
// message must not get through.
func (s Subject) broken(t *testing.T, step filters.Step) {
	f, end := asker(step)
	defer end()
	s.soon(t, "broken", func() {
		if r, err := f.Check(t.Context(), s.transaction(t, step, Plain)); err == nil {
			t.Errorf("it can't know that: %+v", r)
		}
	})
	step.OnError = filters.TempFail
	m, err := filters.New(filters.DefaultConfig(), []filters.Step{step}, accept{}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	h := m.Handler()
	defer h.Close()
	s.soon(t, "broken, in its place", func() {
		if v := judge(t.Context(), h, s.transaction(t, step, Plain)); v.Action != mail.TempFail {
			t.Errorf("verdict %v of a filter that can't tell", v.Action)
		}
	})
	if err := m.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// judge asks at the stage of tx.
func judge(ctx context.Context, h mail.Handler, tx *mail.Transaction) mail.Verdict {
	switch tx.Stage {
	case mail.StageConnect:
		return h.Connect(ctx, tx)
	case mail.StageHelo:
		return h.Helo(ctx, tx)
	case mail.StageMail:
		return h.Mail(ctx, tx)
	case mail.StageRcpt:
		return h.Rcpt(ctx, tx, tx.Envelope.Recipients[0])
	case mail.StageData:
		return h.Data(ctx, tx)
	}
	return h.Message(ctx, tx)
}

// pingerOf is the filter of a step, where it can be asked for a sign of life.
func pingerOf(step filters.Step) (p filters.Pinger, ok bool) {
	if step.Session != nil {
		p, ok = step.Session.(filters.Pinger)
		return p, ok
	}
	p, ok = step.Filter.(filters.Pinger)
	return p, ok
}

// ping asks for a sign of life.
func (s Subject) ping(t *testing.T, p filters.Pinger) {
	s.soon(t, "ping", func() {
		if err := p.Ping(t.Context()); err != nil {
			t.Errorf("ping: %v", err)
		}
	})
	if s.Silent == nil {
		return
	}
	p, ok := pingerOf(s.Silent(t))
	if !ok {
		t.Fatal("the silent one can't be pinged")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	s.soon(t, "ping without an answer", func() {
		if err := p.Ping(ctx); err == nil || errors.Is(err, context.Canceled) {
			t.Errorf("ping without an answer: %v", err)
		}
	})
}

// accept is a policy that has nothing against any message.
type accept struct{}

func (accept) Decide(*mail.Transaction, *mail.Path) mail.Verdict {
	return mail.Verdict{Action: mail.Accept}
}

func (accept) Settled(*mail.Transaction, []mail.Finding) bool { return false }
