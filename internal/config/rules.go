package config

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"gatepost/internal/mail"
	"gatepost/internal/mime"
	"gatepost/internal/state"
	"gatepost/rules/policy"
)

// checkRules lets test cases of rule files take messages apart, and warns of a
// pattern without files.
func (c *Config) checkRules(top table) {
	limits := c.MIME
	c.Rules.Files.Inspect = func(m *mail.Message) *mail.Inside { return mime.Inspect(context.Background(), m, limits) }
	for i, pattern := range c.Rules.Files.Files {
		p := top.child("rules").item(i)
		switch found, err := filepath.Glob(pattern); {
		case pattern == "":
			p.problem("is empty", "write the path of a rule file")
		case err == nil && len(found) == 0 && strings.ContainsAny(pattern, "*?["):
			p.warn("no file is called like that", "rules are in files that end in .toml")
		}
	}
}

// defaultRulesDir is where generations are when the store of windows is no file.
const defaultRulesDir = "/var/lib/gatepost/rules"

const defaultRulesShrink = 0.5

func (c *Config) checkRulesDir(top table, m main) {
	c.RulesDir, c.RulesShrink = m.RulesDir, m.RulesShrink
	p := top.child("rules_dir")
	switch {
	case c.RulesDir == "":
		c.RulesDir = defaultRulesDir
		if c.Store.Kind == state.KindSQLite {
			c.RulesDir = filepath.Join(filepath.Dir(c.Store.Path), "rules")
		}
		p.noteAs(strconv.Quote(c.RulesDir), false)
	case !filepath.IsAbs(c.RulesDir):
		p.problem(fmt.Sprintf("%q is no absolute path", c.RulesDir), `write one like "`+defaultRulesDir+`"`)
	}
	if !(c.RulesShrink >= 0 && c.RulesShrink <= 1) {
		top.child("rules_shrink").problem(fmt.Sprintf("%g is not between 0 and 1", c.RulesShrink), "write which share of its entries a list must keep, such as 0.5")
	}
	c.Rules.Files.Managed = filepath.Join(c.RulesDir, "lists")
}

// inRules takes the problems of rule files and their lists out of an error. rest
// is without them.
func (r *reader) inRules(err error, texts []string) (rest []string) {
	var files policy.Problems
	if !errors.As(err, &files) {
		return texts
	}
	r.problems = append(r.problems, files...)
	for _, text := range texts {
		if text != files.Error() {
			rest = append(rest, text)
		}
	}
	return rest
}
