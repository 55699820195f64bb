package config

import (
	"fmt"

	"gatepost/rules/checkrules"
	"gatepost/rules/rewrite"
)

// readTables reads [check_rules] and [rewrite], with the files that they name.
func (c *Config) readTables(top table, m main) {
	c.CheckRules, c.Rewrite = m.CheckRules, m.Rewrite
	checks := top.table("check_rules")
	_, warnings, err := checkrules.Load(c.CheckRules)
	c.attachFiles(top, checks, split(err), &c.CheckRules, c.CheckRules.File)
	for _, text := range warnings {
		if p, ok := inFile(text, c.CheckRules.File); ok {
			top.r.warnings = append(top.r.warnings, p)
		}
	}
	for i, name := range c.CheckRules.Listeners {
		if !c.hasEntry(name) {
			checks.child("listeners").item(i).problem(fmt.Sprintf("there is no listener and no milter %q", name), "write the name of a section [listener.NAME] or [milter.NAME]")
		}
	}
	_, err = rewrite.Load(c.Rewrite)
	c.attachFiles(top, top.table("rewrite"), split(err), &c.Rewrite, c.Rewrite.Genericstable, c.Rewrite.Domaintable, c.Rewrite.Virtusertable, c.Rewrite.Aliases)
}

// attachFiles gives problems to the files that they are in, and the others to
// the keys of a section.
func (c *Config) attachFiles(top, section table, texts []string, dst any, files ...string) {
	var own []string
	for _, text := range texts {
		if p, ok := inFile(text, files...); ok {
			top.r.problems = append(top.r.problems, p)
		} else {
			own = append(own, text)
		}
	}
	section.attach(own, dst)
}
