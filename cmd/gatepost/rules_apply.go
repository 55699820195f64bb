package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"gatepost/internal/config"
	book "gatepost/internal/generations"
	"gatepost/rules/policy"
)

// firstRules makes the generation that the gateway begins with. Where the files
// lost lists, or can't be kept, the one before serves on.
func (g *gateway) firstRules() error {
	g.restoreHits()
	c := ruleChange{who: "the gateway", from: "start", reason: "start"}
	made, err := g.candidate(g.boot, c)
	if err == nil {
		if err = g.checked(g.boot, made, false); err == nil {
			err = g.commit(&made)
		}
		if err != nil {
			g.noted(c, made, err)
			g.log.Error("rules: the files of the configuration are not taken", "error", err)
		}
	}
	if err != nil {
		old, none := g.book.Current()
		if none == nil {
			made, err = g.kept(g.boot, old)
		} else {
			made = candidate{}
			made.judge, made.bare, err = g.newJudges(g.boot) // without a book
		}
		if err != nil {
			return err
		}
	} else {
		g.noted(c, made, nil)
	}
	g.exportLists(made)
	g.renew(made.judge, made.bare)
	return nil
}

// applyRules puts other rules in use, all of them or none.
func (g *gateway) applyRules(c ruleChange) (book.Generation, error) {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	return g.change(c)
}

// change is applyRules for who holds reloading.
func (g *gateway) change(c ruleChange) (book.Generation, error) {
	cfg := g.current.Load()
	made, err := g.candidate(cfg, c)
	if err == nil && c.again == nil {
		err = g.checked(cfg, made, c.force)
	}
	if err == nil {
		err = g.commit(&made)
	}
	if err != nil {
		g.noted(c, made, err)
		g.log.Error("rules not applied, the old ones stay", "who", c.who, "reason", c.reason, "error", err)
		return book.Generation{}, err
	}
	g.renew(made.judge, made.bare)
	g.noted(c, made, nil)
	g.exportLists(made)
	return made.is, nil
}

// apply is "gatepost rules apply": the files of DIRs, or with none those of the
// configuration, in the place of all that there are.
func (g *gateway) apply(who, reason string, force bool, files []string) (book.Generation, error) {
	c := ruleChange{who: who, reason: reason, from: "apply", force: force, rules: files}
	if files == nil {
		c.disk = true
		return g.applyRules(c)
	}
	g.reloading.Lock()
	defer g.reloading.Unlock()
	site, err := g.site()
	if err != nil {
		return book.Generation{}, err
	}
	c.site = site
	return g.change(c)
}

// site is what the configuration named when it was last taken.
func (g *gateway) site() (string, error) {
	old, err := g.book.Current()
	if err == nil {
		return old.Site, nil
	}
	if errors.Is(err, book.ErrNone) {
		return g.book.Draft().Sum(nil, g.managed), nil // it names nothing
	}
	return "", err
}

// rollback goes back to a generation; 0 is the one before.
func (g *gateway) rollback(who, reason string, number int) (book.Generation, error) {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	now, err := g.book.Current()
	if err != nil {
		return now, err
	}
	if number == 0 {
		all, err := g.book.All()
		if err != nil {
			return now, err
		}
		if len(all) < 2 {
			return now, fmt.Errorf("there is none before: %w", book.ErrNone)
		}
		number = all[1].Number
	}
	old, err := g.book.Get(number)
	if err != nil {
		return old, err
	}
	return g.change(ruleChange{
		who: who, reason: reason, from: fmt.Sprintf("rollback %d", number), again: g.book.Again(old), rules: old.Rules, site: now.Site,
	})
}

// exportLists writes managed lists where people and programs can read them. What
// counts is in the book.
func (g *gateway) exportLists(made candidate) {
	if made.judge == nil || made.is.Number == 0 {
		return
	}
	for _, l := range made.judge.rules.Policies().Lists() {
		if !l.Managed {
			continue
		}
		path := policy.ManagedFile(g.boot.Rules.Files.Managed, l.Name)
		text, err := g.book.Text(made.is, path)
		if errors.Is(err, os.ErrNotExist) {
			text, err = nil, nil
		}
		if err == nil && !same(path, text) {
			err = book.WriteFile(path, text)
		}
		if err != nil {
			g.log.Error("rules: list not written", "list", l.Name, "error", err)
		}
	}
}

func same(path string, text []byte) bool {
	now, err := os.ReadFile(path)
	return err == nil && string(now) == string(text)
}

// ruleFiles are the files that DIRs and FILEs mean.
func ruleFiles(args []string) ([]string, error) {
	var all []string
	for _, arg := range args {
		path, err := filepath.Abs(arg)
		if err != nil {
			return nil, err
		}
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			all = append(all, path)
			continue
		}
		found, err := filepath.Glob(filepath.Join(path, "*.toml"))
		if err != nil || len(found) == 0 {
			return nil, fmt.Errorf("%s: has no rule files (*.toml)", path)
		}
		all = append(all, found...)
	}
	return all, nil
}

// reloadRules is the part of a reload that is about rules.
func (g *gateway) reloadRules(ctx context.Context, cfg *config.Config) (candidate, error) {
	c := ruleChange{who: "the gateway", from: "reload", reason: "reload"}
	made, err := g.candidate(cfg, c)
	if err == nil {
		err = g.checked(cfg, made, false)
	}
	if err != nil {
		g.noted(c, made, err)
	}
	return made, err
}
