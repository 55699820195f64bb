package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gatepost/internal/config"
	book "gatepost/internal/generations"
	"gatepost/rules"
	"gatepost/rules/policy"
)

// keepGenerations is how many can be gone back to.
const keepGenerations = 20

// ruleChange is a wish for other rules.
type ruleChange struct {
	who, reason string
	from        string // "start", "reload", "apply"…
	force       bool
	rules       []string          // rule files; nil: those of the configuration
	texts       map[string][]byte // what stands for files
	again       *book.Draft       // a generation that is there; nil: files are read
	disk        bool              // what the configuration names counts, though it is as it was
	site        string            // with again or rules: what the configuration named; "": as it is
}

// candidate is a generation that could be.
type candidate struct {
	judge, bare *ruled
	draft       *book.Draft // nil: it is the one that is kept
	is          book.Generation
}

// managed reports whether a file is of a list that commands fill.
func (g *gateway) managed(path string) bool {
	return strings.HasPrefix(path, g.boot.Rules.Files.Managed+"/")
}

// candidate reads what a change wants, and keeps the texts. Nothing is in use
// yet.
func (g *gateway) candidate(cfg *config.Config, c ruleChange) (candidate, error) {
	old, err := g.book.Current()
	known := err == nil
	if err != nil && !errors.Is(err, book.ErrNone) {
		return candidate{}, err
	}
	made := candidate{draft: c.again}
	files := c.rules
	if made.draft == nil {
		if made.draft, files, err = g.read(cfg, c, old); err != nil {
			return candidate{}, err
		}
	}
	if made.judge, made.bare, err = g.judgesOf(cfg, files, made.draft); err != nil {
		return candidate{}, err
	}
	site := c.site
	if site == "" {
		site = made.draft.Sum(files, g.managed)
		if !c.disk && known && old.Site == site && old.Name != made.judge.rules.Generation() {
			// The files are as they were when something else was applied.
			return g.kept(cfg, old)
		}
	}
	made.is = described(made.judge.rules, files, made.draft)
	made.is.Time, made.is.Who, made.is.Reason, made.is.From, made.is.Forced, made.is.Site = time.Now().UTC(), c.who, c.reason, c.from, c.force, site
	made.is.Changes = book.Diff(old, made.is)
	if known && old.Site == site && old.Name == made.is.Name && c.rules == nil && c.again == nil || !known && made.is.Name == "" {
		made.draft = nil // there is nothing new to keep
	}
	return made, nil
}

// read begins a draft of files. Managed lists are as they are in use.
func (g *gateway) read(cfg *config.Config, c ruleChange, old book.Generation) (*book.Draft, []string, error) {
	draft, files := g.book.Draft(), c.rules
	if files == nil {
		var err error
		if files, err = policy.Files(cfg.Rules.Files.Files); err != nil {
			return nil, nil, err
		}
	}
	for _, f := range old.Files {
		if g.managed(f.Path) {
			draft.Add(f)
		}
	}
	for path, text := range c.texts {
		if err := draft.Put(path, strings.NewReader(string(text))); err != nil {
			return nil, nil, err
		}
	}
	return draft, files, nil
}

// kept is the generation that is in use according to the book.
func (g *gateway) kept(cfg *config.Config, old book.Generation) (candidate, error) {
	made := candidate{is: old}
	var err error
	if made.judge, made.bare, err = g.judgesOf(cfg, old.Rules, g.book.Again(old)); err != nil {
		return candidate{}, fmt.Errorf("generation %d of the rules: %w", old.Number, err)
	}
	g.log.Info("rules: the files of the configuration are as they were; what was applied since stays", "generation", old.Number, "name", old.Name, "from", old.From, "reason", old.Reason)
	return made, nil
}

// judgesOf makes filters and rules with these rule files.
func (g *gateway) judgesOf(cfg *config.Config, files []string, draft *book.Draft) (judge, bare *ruled, err error) {
	with := *cfg
	with.Rules.Files.Files, with.Rules.Files.Open = files, draft.Open
	return g.newJudges(&with)
}

// described is what the book says of a generation.
func described(set *rules.Set, files []string, draft *book.Draft) book.Generation {
	is := book.Generation{Name: set.Generation(), Rules: slices.Clone(files), Files: draft.Files(), Access: set.AccessEntries()}
	for _, l := range set.Policies().Lists() {
		is.Lists = append(is.Lists, book.Count{List: l.Name, Entries: l.Entries, Live: l.Dynamic || l.Managed})
	}
	return is
}

// checked refuses lists that got lost.
func (g *gateway) checked(cfg *config.Config, made candidate, force bool) error {
	old, err := g.book.Current()
	if force || made.draft == nil || errors.Is(err, book.ErrNone) {
		return nil
	}
	if err != nil {
		return err
	}
	if lost := book.Shrunk(old, made.is, cfg.RulesShrink); len(lost) > 0 {
		return &shrunkError{lost}
	}
	return nil
}

// shrunkError names lists that got lost.
type shrunkError struct{ lists []string }

func (e *shrunkError) Error() string {
	return strings.Join(e.lists, "; ") + ": if that is meant, apply with --force and a --reason (rules_shrink)"
}

// commit writes a generation down, so that it is there after a crash, too.
func (g *gateway) commit(made *candidate) error {
	if made.draft == nil {
		return nil
	}
	is, err := g.book.Commit(made.draft, made.is)
	if err != nil {
		return err
	}
	made.is = is
	return nil
}

// noted keeps what became of a change. It is in use, or it is not: an error of
// the log changes nothing about that.
func (g *gateway) noted(c ruleChange, made candidate, refused error) {
	e := book.Entry{Time: time.Now().UTC(), Who: c.who, From: c.from, Reason: c.reason, Forced: c.force}
	switch {
	case refused != nil:
		e.Refused = refused.Error()
	case made.draft == nil:
		return
	default:
		e.Number, e.Name, e.Changes = made.is.Number, made.is.Name, made.is.Changes
		g.log.Info("rules: a generation is in use", "generation", e.Number, "name", e.Name, "who", e.Who, "from", e.From, "reason", e.Reason, "changes", len(e.Changes))
	}
	if err := g.book.Note(e); err != nil {
		g.log.Error("rules: log not written", "error", err)
	}
}
