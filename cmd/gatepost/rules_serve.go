package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"gatepost/internal/console"
	book "gatepost/internal/generations"
	"gatepost/rules"
	"gatepost/rules/policy"
	"gatepost/rules/rehearse"
)

// ruleBook is the gateway for console.RuleBook.
type ruleBook struct{ *gateway }

func changed(is book.Generation, err error) (console.RuleChanged, error) {
	return console.RuleChanged{Number: is.Number, Name: is.Name, Changes: is.Changes}, err
}

// ApplyRules implements console.RuleBook.
func (b ruleBook) ApplyRules(_ context.Context, who string, c console.RuleChange) (console.RuleChanged, error) {
	return changed(b.apply(who, c.Reason, c.Force, c.Files))
}

// RollBackRules implements console.RuleBook.
func (b ruleBook) RollBackRules(_ context.Context, who string, c console.RuleChange) (console.RuleChanged, error) {
	return changed(b.rollback(who, c.Reason, c.Number))
}

// RuleLog implements console.RuleBook.
func (b ruleBook) RuleLog(most int) (any, error) { return b.book.Log(most) }

// RuleGenerations implements console.RuleBook.
func (b ruleBook) RuleGenerations() (any, error) { return b.book.All() }

// Rehearse implements console.RuleBook. One at a time: it takes all processors.
func (b ruleBook) Rehearse(ctx context.Context, c console.Rehearsal) (any, error) {
	if b.history == nil {
		return nil, errors.New("no history is kept, so there is nothing to rehearse on")
	}
	if !b.rehearsing.TryLock() {
		return nil, errors.New("another rehearsal is running")
	}
	defer b.rehearsing.Unlock()
	cfg := *b.current.Load()
	cfg.Rules.Personal = b.held.lists // as the rules in use have them, or each entry were a difference
	files := c.Files
	if len(files) == 0 {
		var err error
		if files, err = policy.Files(cfg.Rules.Files.Files); err != nil {
			return nil, err
		}
	}
	fresh, err := setOf(&cfg, b.forward, files, nil)
	if err != nil {
		return nil, err
	}
	old := b.rulesInUse()
	report, err := rehearse.Run(ctx, old, fresh, b.history, c.Since, nil)
	report.Notes = append(report.Notes, rehearsalNotes(fresh)...)
	return report, err
}

// rulesInUse are those of the newest generation.
func (g *gateway) rulesInUse() *rules.Set { return g.frame.Load().rules }

// hitsFile keeps counts over restarts.
func (g *gateway) hitsFile() string { return filepath.Join(g.boot.RulesDir, "hits.json") }

// keepHits writes counts down now and then, and when ctx ends.
func (g *gateway) keepHits(ctx context.Context) error {
	tick := time.NewTicker(saveHits)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			g.saveHits()
			return nil
		case <-tick.C:
			g.saveHits()
		}
	}
}

// saveHits is what a crash may lose of counts.
const saveHits = 30 * time.Second

func (g *gateway) restoreHits() {
	text, err := os.ReadFile(g.hitsFile())
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	var all []policy.Hit
	if err == nil {
		err = json.Unmarshal(text, &all)
	}
	if err != nil {
		g.log.Error("rules: hits not read, counting begins anew", "error", err)
		return
	}
	g.ruleWork.hits.Restore(all)
}

func (g *gateway) saveHits() {
	all := g.ruleWork.hits.List()
	if len(all) == 0 {
		return
	}
	text, err := json.Marshal(all)
	if err == nil && !same(g.hitsFile(), text) {
		err = book.WriteFile(g.hitsFile(), text)
	}
	if err != nil {
		g.log.Error("rules: hits not written", "error", err)
	}
}

// counted are the hits for the control API, with rules that never matched.
func (g *gateway) counted() []console.RuleHit {
	all := g.ruleWork.counted()
	known := make(map[string]bool, len(all))
	for _, h := range all {
		known[h.Rule] = true
	}
	for _, r := range g.rulesInUse().Policies().Rules() {
		if !known[r.Name] {
			all = append(all, console.RuleHit{Rule: r.Name, Where: r.Where, Observe: r.Observe})
		}
	}
	return all
}

// rehearsalNotes say what records can't tell of rules.
func rehearsalNotes(set *rules.Set) []string {
	notes := []string{}
	add := func(text string, args ...any) { notes = append(notes, fmt.Sprintf(text, args...)) }
	for _, r := range set.Policies().Rules() {
		if r.Reads {
			add("rule %s (%s) reads the text of messages, which records have only with history_text = true: without it the text is empty for it", r.Name, r.Where)
		}
	}
	for _, l := range set.Policies().DynamicLists() {
		add("the list %q is dynamic: who was on it at the time is not known, and nobody was for the rehearsal", l.Name)
	}
	return notes
}
