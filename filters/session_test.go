package filters

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gatepost/internal/mail"
)

// diary opens checkers that note what happens to them.
type diary struct {
	mu     sync.Mutex
	lines  []string
	opened int
	check  func(n int, ctx context.Context, tx *mail.Transaction) (Report, error)
	wants  func(tx *mail.Transaction) bool
}

func (d *diary) note(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

func (d *diary) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.lines, " ")
}

func (d *diary) Open() Checker {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.opened++
	return &page{d, d.opened}
}

type page struct {
	d *diary
	n int
}

func (p *page) Wants(tx *mail.Transaction) bool { return p.d.wants == nil || p.d.wants(tx) }
func (p *page) Abort()                          { p.d.note("%d:abort", p.n) }
func (p *page) Close()                          { p.d.note("%d:close", p.n) }
func (p *page) Check(ctx context.Context, tx *mail.Transaction) (Report, error) {
	p.d.note("%d:%s", p.n, tx.Stage)
	if p.d.check == nil {
		return Report{}, nil
	}
	return p.d.check(p.n, ctx, tx)
}

func allStages() []mail.Stage {
	return []mail.Stage{mail.StageConnect, mail.StageHelo, mail.StageMail, mail.StageRcpt, mail.StageData, mail.StageMessage}
}

// dialogue is a session with the multiplexer.
type dialogue struct {
	t  *testing.T
	h  mail.Handler
	tx *mail.Transaction
}

func (b *bench) dialogue(t *testing.T) *dialogue {
	return &dialogue{t, b.Handler(), message("A: 1\n")}
}

func (d *dialogue) at(stage mail.Stage) mail.Verdict {
	ctx := d.t.Context()
	switch stage {
	case mail.StageConnect:
		return d.h.Connect(ctx, d.tx)
	case mail.StageHelo:
		return d.h.Helo(ctx, d.tx)
	case mail.StageMail:
		return d.h.Mail(ctx, d.tx)
	case mail.StageRcpt:
		return d.h.Rcpt(ctx, d.tx, mail.Path{Address: mail.Address{Local: "r", Domain: "example.com"}})
	case mail.StageData:
		return d.h.Data(ctx, d.tx)
	}
	return d.h.Message(ctx, d.tx)
}

func (d *dialogue) all() (last mail.Verdict) {
	for _, stage := range allStages() {
		last = d.at(stage)
	}
	return last
}

func TestSessionOpensUsesAbortsAndCloses(t *testing.T) {
	d := &diary{}
	b := newBench(t, Config{}, nil, Step{Name: "child", Session: d, Stages: []mail.Stage{mail.StageMail, mail.StageMessage}})
	s := b.dialogue(t)
	s.all()
	s.at(mail.StageMail)
	s.h.Abort(s.tx)
	s.h.Close()
	// A checker makes nothing of an abort without a message.
	if got, want := strings.ReplaceAll(d.String(), "1:", ""), "mail message abort abort mail abort close"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// After an error it is out of the message, fails at each further stage by its
// policy without being asked, and another is opened for the next message.
func TestSessionFailsForOneMessage(t *testing.T) {
	for name, broken := range map[string]func(context.Context) error{
		"error":   func(context.Context) error { return errors.New("broken pipe") },
		"panic":   func(context.Context) error { panic("bug") },
		"timeout": func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
	} {
		t.Run(name, func(t *testing.T) {
			d := &diary{check: func(n int, ctx context.Context, tx *mail.Transaction) (Report, error) {
				if n == 1 && tx.Stage == mail.StageRcpt {
					return Report{}, broken(ctx)
				}
				return Report{}, nil
			}}
			b := newBench(t, Config{}, nil, Step{Name: "child", Session: d, Stages: allStages(), Timeout: 100 * time.Millisecond})
			s := b.dialogue(t)
			if v := s.all(); v.Action != mail.TempFail {
				t.Errorf("message: %s, want tempfail", v.Action)
			}
			if n := len(s.tx.Find(mail.FindingFailed)); n != 1 {
				t.Errorf("%d findings of one failure", n)
			}
			if v := s.at(mail.StageMail); v.Action != mail.Accept {
				t.Errorf("next message: %s (%s)", v.Action, v.Reason)
			}
			s.h.Close()
			if err := b.Close(t.Context()); err != nil { // one that was left behind is closed when it ends
				t.Error(err)
			}
			got := strings.Fields(strings.NewReplacer("1:abort", "", "2:abort", "").Replace(d.String()))
			open := slices.DeleteFunc(slices.Clone(got), func(e string) bool { return e == "1:close" })
			if want := "1:connect 1:helo 1:mail 1:rcpt 2:mail 2:close"; strings.Join(open, " ") != want || len(got) != len(open)+1 {
				t.Errorf("got %q, want %q and one 1:close", got, want)
			}
		})
	}
}

// A check that ignores its context keeps its checker, and nobody else gets it.
func TestSessionThatIgnoresItsContext(t *testing.T) {
	release := make(chan struct{})
	d := &diary{check: func(n int, _ context.Context, tx *mail.Transaction) (Report, error) {
		if n == 1 && tx.Stage == mail.StageMail {
			<-release
		}
		return Report{}, nil
	}}
	b := newBench(t, Config{}, nil, Step{Name: "child", Session: d, Stages: allStages(), Timeout: 50 * time.Millisecond, OnError: Continue})
	s := b.dialogue(t)
	s.at(mail.StageConnect)
	s.at(mail.StageMail)
	s.h.Abort(s.tx)
	if v := s.all(); v.Action != mail.Accept || d.opened != 2 {
		t.Errorf("%s with %d checkers, want accept with 2", v.Action, d.opened)
	}
	s.h.Close()
	if strings.Contains(d.String(), "1:close") {
		t.Error("closed while in use")
	}
	close(release)
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(d.String(), "1:close") {
		t.Errorf("never closed: %s", d)
	}
}

// Who isn't wanted isn't asked, and can't fail, not even while it is down.
func TestSessionThatIsNotWanted(t *testing.T) {
	wanted := true
	d := &diary{
		wants: func(*mail.Transaction) bool { return wanted },
		check: func(int, context.Context, *mail.Transaction) (Report, error) { return Report{}, errors.New("refused") },
	}
	b := newBench(t, Config{}, nil, Step{Name: "child", Session: d, Breaker: Breaker{Failures: 1}, OnError: Refuse})
	s := b.dialogue(t)
	s.at(mail.StageMail)
	if v := s.at(mail.StageMessage); v.Action != mail.TempFail || !strings.Contains(b.log.String(), "filter is down") {
		t.Fatalf("%s, log %s", v.Action, b.log)
	}
	if v := b.dialogue(t).at(mail.StageConnect); v.Reply.Code != 421 {
		t.Errorf("while it is down: %s", v.Reply)
	}
	wanted = false
	if v := b.dialogue(t).all(); v.Action != mail.Accept {
		t.Errorf("message that it isn't asked about: %s (%s)", v.Action, v.Reason)
	}
}

// What is good before the end of a message does not hide that its end is bad.
func TestBreakerOfASession(t *testing.T) {
	d := &diary{check: func(_ int, _ context.Context, tx *mail.Transaction) (Report, error) {
		if tx.Stage == mail.StageMessage {
			return Report{}, errors.New("hangs up")
		}
		return Report{}, nil
	}}
	b := newBench(t, Config{}, nil, Step{Name: "child", Session: d, Stages: allStages(), Breaker: Breaker{Failures: 2}})
	for range 2 {
		b.dialogue(t).all()
	}
	if b.count.count("child false") != 1 {
		t.Errorf("the breaker did not trip: %v", b.count.ups)
	}
}

// votes is a session that votes at one stage.
func votes(stage mail.Stage, v Vote, wait <-chan struct{}) *diary {
	return &diary{check: func(_ int, ctx context.Context, tx *mail.Transaction) (Report, error) {
		if tx.Stage != stage {
			return Report{}, nil
		}
		if wait != nil {
			select {
			case <-wait:
			case <-ctx.Done():
				return Report{}, ctx.Err()
			}
		}
		return Report{Vote: v}, nil
	}}
}

func TestVotesAreMergedByStrengthAndPlace(t *testing.T) {
	no := func(text string) Vote {
		return Vote{Action: mail.Reject, Reply: mail.Reply{Code: 550, Text: text}}
	}
	later := Vote{Action: mail.TempFail, Reply: mail.Reply{Code: 451, Text: "later"}}
	hold := Vote{Action: mail.Quarantine, Reason: "odd"}
	drop := Vote{Action: mail.Discard}
	perRecipient := &testPolicy{decide: func(tx *mail.Transaction, _ *mail.Path) mail.Verdict {
		if tx.Stage != mail.StageMessage {
			return mail.Verdict{}
		}
		return mail.Verdict{Action: mail.Quarantine, Recipients: []mail.Verdict{{Action: mail.Accept}, {Action: mail.Quarantine}}}
	}}
	for _, tt := range []struct {
		name   string
		policy *testPolicy
		votes  []Vote
		fails  bool // one more filter can't tell
		want   string
	}{
		{"none", nil, []Vote{{}, {}}, false, "accept 0"},
		{"strongest", nil, []Vote{drop, hold, later}, false, "tempfail 451 later"},
		{"first of two", nil, []Vote{no("one"), no("two")}, false, "reject 550 one"},
		{"reject stands over a failure", nil, []Vote{no("one")}, true, "reject 550 one"},
		{"failure over quarantine", nil, []Vote{hold}, true, "tempfail 451 4.7.1 " + textLater},
		{"per recipient, discard", perRecipient, []Vote{drop}, false, "quarantine 0 [discard quarantine]"},
		{"per recipient, reject", perRecipient, []Vote{no("one")}, false, "reject 550 one"},
		{"per recipient, later", perRecipient, []Vote{later}, false, "tempfail 451 later"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var steps []Step
			var gates []chan struct{}
			for i, v := range tt.votes {
				gates = append(gates, make(chan struct{}))
				steps = append(steps, Step{Name: fmt.Sprint("c", i), Session: votes(mail.StageMessage, v, gates[i])})
			}
			if tt.fails {
				steps = append(steps, Step{Name: "av", Filter: fails("down")})
			}
			b := newBench(t, Config{}, tt.policy, steps...)
			go func() { // the last one answers first
				for i := range gates {
					close(gates[len(gates)-1-i])
				}
			}()
			v := b.message(t, message("A: 1\n", "r", "s"))
			got := v.Action.String() + " " + v.Reply.String()
			if len(v.Recipients) > 0 {
				got += fmt.Sprintf(" [%s %s]", v.Recipients[0].Action, v.Recipients[1].Action)
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// Where the policy is certain, it is not a matter of time whether a vote
// counts.
func TestVoteBesideACertainPolicy(t *testing.T) {
	for _, voteFirst := range []bool{true, false} {
		voted, found := make(chan struct{}), make(chan struct{})
		child := votes(mail.StageMessage, Vote{Action: mail.Reject, Reply: mail.Reply{Code: 550, Text: "child"}}, voted)
		av := checkFunc(func(ctx context.Context, _ *mail.Transaction) (Report, error) {
			<-found
			return Report{Findings: []mail.Finding{virus("EICAR")}}, nil
		})
		b := newBench(t, Config{}, nil, Step{Name: "child", Session: child}, Step{Name: "av", Filter: av})
		first, second := voted, found
		if !voteFirst {
			first, second = found, voted
		}
		go func() {
			close(first)
			close(second)
		}()
		if v := b.message(t, message("A: 1\n")); v.Reply.Text != "virus EICAR" {
			t.Errorf("vote first %v: %q", voteFirst, v.Reply.Text)
		}
	}
}

func TestVoteStopsThoseBehind(t *testing.T) {
	reject := Vote{Action: mail.Reject, Reply: mail.Reply{Code: 550, Text: "no"}}
	for _, stage := range allStages() {
		for _, collect := range []Collect{CollectNeeded, CollectAll} {
			behind := &diary{}
			b := newBench(t, Config{Collect: collect}, nil,
				Step{Name: "first", Session: votes(stage, reject, nil), Stages: []mail.Stage{stage}, Modifies: true},
				Step{Name: "behind", Session: behind, Stages: []mail.Stage{stage}, Modifies: true})
			s := b.dialogue(t)
			if v := s.at(stage); v.Action != mail.Reject || v.Reply.Text != "no" {
				t.Errorf("%s: %s %q", stage, v.Action, v.Reply.Text)
			}
			asked := strings.Contains(behind.String(), stage.String())
			together := stage != mail.StageRcpt && stage != mail.StageMessage // nothing can be changed there
			if want := together || collect == CollectAll && stage == mail.StageMessage; asked != want {
				t.Errorf("%s, collect %s: the one behind was asked: %v, want %v", stage, collect, asked, want)
			}
		}
	}
}

// A shadow is neither waited for nor shown to the policy, and can't fail.
func TestShadow(t *testing.T) {
	d := &diary{check: func(_ int, _ context.Context, tx *mail.Transaction) (Report, error) {
		return Report{Findings: []mail.Finding{score(100)}, Vote: Vote{Action: mail.Reject}}, nil
	}}
	b := newBench(t, Config{}, nil,
		Step{Name: "shadow", Session: d, Shadow: true},
		Step{Name: "bad", Filter: fails("down"), Shadow: true},
		Step{Name: "av", Filter: finds(50*time.Millisecond, mail.Finding{Name: mail.FindingClean})})
	tx := message("A: 1\n")
	if v := b.message(t, tx); v.Action != mail.Accept {
		t.Errorf("%s (%s)", v.Action, v.Reason)
	}
	if got, want := names(tx.Findings), "av/clean shadow/score"; got != want || tx.Score() != 0 {
		t.Errorf("found %q with score %v, want %q with 0", got, tx.Score(), want)
	}
	if last := b.policy.last(); names(last.Findings) != "av/clean" {
		t.Errorf("the policy saw %q", names(last.Findings))
	}
	if err := b.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestSteps(t *testing.T) {
	for name, s := range map[string]Step{
		"neither filter nor session": {Name: "a"},
		"both":                       {Name: "a", Filter: fails("x"), Session: &diary{}},
		"shadow that modifies":       {Name: "a", Session: &diary{}, Shadow: true, Modifies: true},
	} {
		if _, err := New(Config{}, []Step{s}, &testPolicy{}, nil, nil); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
