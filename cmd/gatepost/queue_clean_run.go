package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"gatepost/internal/backscatter"
	foreignq "gatepost/internal/mailq"
)

// cleaning is one run of "queue clean": it judges, counts and tells.
type cleaning struct {
	a     *app
	o     cleanOptions
	rule  backscatter.Rule
	dir   string // of the queue
	begun time.Time

	wanted   map[string]cleaned // given up, and not deleted yet
	given    int                // messages that were given up
	deleted  int
	failed   int
	gone     int // left the queue before they could be deleted
	ordinary int
	kept     map[string]int // by reason
	domains  map[string]int // of the recipients of what was deleted
}

func newCleaning(a *app, o cleanOptions, rule backscatter.Rule) *cleaning {
	return &cleaning{
		a: a, o: o, rule: rule, begun: time.Now(),
		wanted: make(map[string]cleaned), kept: make(map[string]int), domains: make(map[string]int),
	}
}

// cleaned is what became of one message.
type cleaned struct {
	ID      string `json:"id"`
	Action  string `json:"action"` // kept, deleted, "would delete", gone or failed
	Reason  string `json:"reason"`
	To      string `json:"to,omitempty"`
	From    string `json:"from,omitempty"` // of the message that is returned
	Subject string `json:"subject,omitempty"`
	Cause   string `json:"cause,omitempty"` // its Message-ID
	Score   string `json:"score,omitempty"`
}

const (
	actionKept    = "kept"
	actionDeleted = "deleted"
	actionWould   = "would delete"
	actionGone    = "gone"
	actionFailed  = "failed"
)

var errMax = errors.New("as many as --max were deleted")

// judge asks the rule. One that panics over what strangers wrote keeps the
// message.
func (c *cleaning) judge(m foreignq.Message, about backscatter.Candidate, content io.Reader) (bool, error) {
	d := c.decide(about, content)
	line := cleaned{
		ID: m.ID, Action: actionKept, Reason: d.Reason, To: strings.Join(m.Recipients, " "),
		From: d.Cause.From, Subject: d.Cause.Subject, Cause: d.Cause.MessageID, Score: d.Cause.Score.String(),
	}
	if !d.Delete {
		kind := d.Reason
		if !d.Cause.Score.IsZero() {
			kind = "a score that is not above " + c.rule.Limit.String()
		}
		c.kept[kind]++
		return false, c.tell(line)
	}
	if c.o.max > 0 && c.given == c.o.max {
		return false, errMax
	}
	c.given++
	if c.o.dryRun {
		c.deleted++
		c.count(line)
		line.Action = actionWould
		return false, c.tell(line)
	}
	c.wanted[m.ID] = line
	return true, nil
}

func (c *cleaning) decide(about backscatter.Candidate, content io.Reader) (d backscatter.Decision) {
	defer func() {
		if e := recover(); e != nil {
			d = backscatter.Decision{Reason: fmt.Sprintf("it can't be judged: %v", e)}
		}
	}()
	return c.rule.Judge(about, content)
}

// Deleted implements mailq.Visitor.
func (c *cleaning) Deleted(m foreignq.Message, err error) {
	line := c.wanted[m.ID]
	delete(c.wanted, m.ID)
	switch {
	case err == nil:
		c.deleted++
		c.count(line)
		line.Action = actionDeleted
	case errors.Is(err, foreignq.ErrGone) || errors.Is(err, foreignq.ErrChanged):
		c.gone++
		c.given-- // --max counts deletions
		line.Action, line.Reason = actionGone, err.Error()
	default:
		c.failed++
		line.Action, line.Reason = actionFailed, err.Error()
		fmt.Fprintf(c.a.err, "gatepost: %s: %s\n", visible(line.ID), lineOf(err))
	}
	_ = c.tell(line) // the next one that is told of, or the summary, fails as well
}

// lineOf is an error on one line.
func lineOf(err error) string { return line(err.Error()) }

// Skipped implements mailq.Visitor.
func (c *cleaning) Skipped(m foreignq.Message, why string) {
	if why == foreignq.Ordinary {
		c.ordinary++
		if !c.o.verbose {
			return
		}
	} else {
		c.kept[why]++
	}
	_ = c.tell(cleaned{ID: m.ID, Action: actionKept, Reason: why, To: strings.Join(m.Recipients, " ")})
}

func (c *cleaning) count(l cleaned) {
	domain := l.To[strings.LastIndexByte(l.To, '@')+1:]
	if len(c.domains) < 10000 || c.domains[domain] > 0 {
		c.domains[domain]++
	}
}

// tell says what became of a message, to those who want to hear it.
func (c *cleaning) tell(l cleaned) error {
	if c.a.json {
		return c.a.printJSON(l)
	}
	if !c.o.verbose && !c.o.dryRun {
		return nil
	}
	text := l.ID + ": " + l.Action
	if l.To != "" {
		text += ", to=<" + l.To + ">"
	}
	text += ": " + l.Reason
	if l.From != "" {
		text += "; returned: from=" + shortText(l.From)
	}
	if l.Subject != "" {
		text += ", subject=" + shortText(l.Subject)
	}
	if _, err := fmt.Fprintln(c.a.out, line(text)); err != nil {
		return exit(exitSystem, "writing: %w", err)
	}
	return nil
}

// shortText keeps one message on one line of the screen or the mail.
func shortText(s string) string {
	const most = 60
	if runes := []rune(s); len(runes) > most {
		s = string(runes[:most]) + "…"
	}
	return s
}

// cleanSummary is the last line of --json.
type cleanSummary struct {
	Summary  bool           `json:"summary"`
	Queue    string         `json:"queue"`
	DryRun   bool           `json:"dry_run"`
	Above    string         `json:"score_above"`
	Deleted  int            `json:"deleted"` // or would be
	Failed   int            `json:"failed"`
	Gone     int            `json:"gone"`
	Ordinary int            `json:"ordinary"`
	Kept     map[string]int `json:"kept"` // bounces, by reason
}

func (c *cleaning) summary() error {
	if c.a.json {
		return c.a.printJSON(cleanSummary{true, c.dir, c.o.dryRun, c.rule.Limit.String(), c.deleted, c.failed, c.gone, c.ordinary, c.kept})
	}
	if !c.o.report {
		return nil
	}
	var b strings.Builder
	word := "deleted"
	if c.o.dryRun {
		word = "would be deleted"
	}
	fmt.Fprintf(&b, "Spam bounces in %s, %s\n\n", c.dir, c.begun.Format("2 Jan 2006 15:04"))
	fmt.Fprintf(&b, "%8d %s: the score of what they return is above %s\n", c.deleted, word, c.rule.Limit)
	if c.failed > 0 {
		fmt.Fprintf(&b, "%8d could not be deleted\n", c.failed)
	}
	if c.gone > 0 {
		fmt.Fprintf(&b, "%8d left the queue meanwhile\n", c.gone)
	}
	fmt.Fprintf(&b, "%8d messages with a sender, not looked into\n", c.ordinary)
	table(&b, "Bounces that are kept", c.kept)
	table(&b, "Where they would have gone", c.domains)
	fmt.Fprintf(&b, "\nIt took %s.\n", time.Since(c.begun).Round(10*time.Millisecond))
	if _, err := io.WriteString(c.a.out, b.String()); err != nil {
		return exit(exitSystem, "writing: %w", err)
	}
	return nil
}

// table prints the ten greatest counts.
func table(b *strings.Builder, title string, counts map[string]int) {
	if len(counts) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s:\n", title)
	keys := slices.SortedFunc(maps.Keys(counts), func(x, y string) int {
		if counts[x] != counts[y] {
			return counts[y] - counts[x]
		}
		return strings.Compare(x, y)
	})
	const most = 10
	rest := 0
	for i, k := range keys {
		if i >= most {
			rest += counts[k]
			continue
		}
		fmt.Fprintf(b, "%8d %s\n", counts[k], line(k))
	}
	if rest > 0 {
		fmt.Fprintf(b, "%8d others\n", rest)
	}
}
