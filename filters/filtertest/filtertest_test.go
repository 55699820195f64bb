package filtertest

import (
	"context"
	"errors"
	"math"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/internal/mail"
)

// check is a filter made of a function.
type check func(ctx context.Context, tx *mail.Transaction) (filters.Report, error)

func (c check) Check(ctx context.Context, tx *mail.Transaction) (filters.Report, error) {
	return c(ctx, tx)
}

func step(c check) func(*testing.T) filters.Step {
	return func(*testing.T) filters.Step {
		return filters.Step{Name: "under test", Filter: c, Stages: []mail.Stage{mail.StageMessage}}
	}
}

func finds(f mail.Finding) func(*testing.T) filters.Step {
	return step(func(context.Context, *mail.Transaction) (filters.Report, error) {
		return filters.Report{Findings: []mail.Finding{f}}, nil
	})
}

// waits never has an answer.
func waits(ctx context.Context, _ *mail.Transaction) (filters.Report, error) {
	<-ctx.Done()
	return filters.Report{}, ctx.Err()
}

var good = Subject{
	New:    finds(mail.Finding{Name: mail.FindingClean}),
	Silent: step(waits),
	Broken: map[string]func(*testing.T) filters.Step{
		"no daemon": step(func(context.Context, *mail.Transaction) (filters.Report, error) {
			return filters.Report{}, errors.New("nobody there")
		}),
	},
}

func TestGood(t *testing.T) { Run(t, good) }

// bad are filters that break the contract, and what the suite must say.
func bad() map[string]struct {
	subject Subject
	says    string
} {
	with := func(change func(*Subject)) Subject {
		s := good
		s.patience, s.texts = time.Second, map[string]string{"plain": Plain}
		change(&s)
		return s
	}
	clean := func(context.Context, *mail.Transaction) (filters.Report, error) {
		return filters.Report{Findings: []mail.Finding{{Name: mail.FindingClean}}}, nil
	}
	forever := make(chan struct{})
	return map[string]struct {
		subject Subject
		says    string
	}{
		"clean-without-an-answer": {with(func(s *Subject) { s.Silent = step(clean) }), "it knows without an answer"},
		"clean-when-broken":       {with(func(s *Subject) { s.Broken = map[string]func(*testing.T) filters.Step{"x": step(clean)} }), "it can't know that"},
		"deaf": {with(func(s *Subject) {
			s.Silent = step(func(context.Context, *mail.Transaction) (filters.Report, error) {
				<-forever
				return filters.Report{}, nil
			})
		}), "not over in time"},
		"edits-without-rights": {with(func(s *Subject) {
			s.New = step(func(context.Context, *mail.Transaction) (filters.Report, error) {
				return filters.Report{Edits: []mail.Edit{mail.DeleteHeader{}}}, nil
			})
		}), "its step doesn't modify"},
		"changes-the-envelope": {with(func(s *Subject) {
			s.New = step(func(_ context.Context, tx *mail.Transaction) (filters.Report, error) {
				tx.Envelope.Recipients = nil
				return filters.Report{}, nil
			})
		}), "it changed the transaction"},
		"leaves-goroutines": {with(func(s *Subject) {
			s.New = step(func(context.Context, *mail.Transaction) (filters.Report, error) {
				go func() { <-forever }()
				return filters.Report{}, nil
			})
		}), "goroutines"},
		"controls": {with(func(s *Subject) { s.New = finds(mail.Finding{Name: "x", Value: "a\r\nX-Evil: 1"}) }), "controls in"},
		"nan":      {with(func(s *Subject) { s.New = finds(mail.Finding{Name: "score", Score: math.NaN()}) }), "score NaN"},
		"fails-on-good-mail": {with(func(s *Subject) {
			s.New = step(func(context.Context, *mail.Transaction) (filters.Report, error) {
				return filters.Report{}, errors.New("no idea")
			})
		}), "it can't tell"},
		"another-answer-each-time": {with(func(s *Subject) {
			n := 0.0
			s.New = step(func(context.Context, *mail.Transaction) (filters.Report, error) {
				n++
				return filters.Report{Findings: []mail.Finding{{Name: "score", Score: n}}}, nil
			})
		}), "finds something else"},
	}
}

// TestBad fails, on purpose, in the process that TestSuiteBites starts.
func TestBad(t *testing.T) {
	if os.Getenv("FILTERTEST_BAD") == "" {
		t.Skip("is started by TestSuiteBites")
	}
	for name, b := range bad() {
		t.Run(name, func(t *testing.T) { Run(t, b.subject) })
	}
}

// A suite that nobody fails tests nothing.
func TestSuiteBites(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestBad$", "-test.v")
	cmd.Env = append(os.Environ(), "FILTERTEST_BAD=yes")
	out, err := cmd.CombinedOutput()
	var failed *exec.ExitError
	if !errors.As(err, &failed) {
		t.Fatalf("%v; want failures:\n%s", err, out)
	}
	for name, b := range bad() {
		if !strings.Contains(string(out), "--- FAIL: TestBad/"+name+" ") || !strings.Contains(string(out), b.says) {
			t.Errorf("%s: want a failure that says %q", name, b.says)
		}
	}
	if t.Failed() {
		t.Logf("%s", out)
	}
}
