package policy

import (
	"fmt"
	"reflect"
	"strings"

	"gatepost/internal/mail"
)

// Page is the vocabulary as a page of documentation in Markdown.
func Page() string {
	var b strings.Builder
	b.WriteString(`# The vocabulary of rules

What a condition (` + "`when`" + `) of a [policy rule](rules.md) may ask. This page is printed by
` + "`gatepost rules vocabulary`" + ` from the program itself, and its examples are run by the
tests.

A word is known from its stage on; a rule without ` + "`stage`" + ` is asked about whole
messages, where all are known. Addresses and names of domains are in lower case,
domains as DNS has them; texts compare with regard to case.

`)
	page{&b}.words(reflect.TypeFor[Env](), "", mail.StageConnect)
	b.WriteString("\n## Functions\n\n| write | what it gives |\n|---|---|\n")
	env := reflect.TypeFor[Env]()
	for i := range env.NumField() {
		if f := env.Field(i); f.Type.Kind() == reflect.Func && f.Tag.Get("doc") != "" {
			fmt.Fprintf(&b, "| `%s(TEXT)` | %s |\n", f.Tag.Get("expr"), escaped(f.Tag.Get("doc")))
		}
	}
	for _, f := range functions() {
		fmt.Fprintf(&b, "| `%s` | %s |\n", f.form, escaped(f.doc))
	}
	for _, k := range kept {
		fmt.Fprintf(&b, "| `%s` | %s |\n", k.form, escaped(k.doc))
	}
	b.WriteString(`
## Operators

` + "`==`, `!=`, `<`, `<=`, `>`, `>=`; `and`, `or`, `not`; `+`, `-`, `*`, `/`; `in` for an element of a list,\n`contains`, `startsWith`, `endsWith` and `matches` for texts; `let NAME = …; …`, and `A ? B : C`" + `.
What stands behind ` + "`matches`" + ` is a regular expression of [RE2](https://github.com/google/re2/wiki/Syntax),
in quotes; ` + "`(?i)`" + ` at its beginning ignores case.

## Examples

Each of them is a whole rule file, with the cases that test it.
`)
	for _, e := range Examples() {
		fmt.Fprintf(&b, "\n### %s\n\n```toml\n%s```\n", e.Title, e.Text)
	}
	return b.String()
}

type page struct{ *strings.Builder }

// words prints a table for the top, and one for each struct in it.
func (b page) words(t reflect.Type, of string, at mail.Stage) {
	type inner struct {
		t    reflect.Type
		name string
		at   mail.Stage
	}
	var below []inner
	if of == "" {
		b.WriteString("## Words\n\n| word | is | from stage | |\n|---|---|---|---|\n")
	} else {
		fmt.Fprintf(b, "\n### %s\n\n| word | is | from stage | |\n|---|---|---|---|\n", of)
	}
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Tag.Get("doc") == "" {
			continue
		}
		stage := max(at, stages[f.Tag.Get("at")])
		name := f.Tag.Get("expr")
		if in, isList, ok := structOf(f.Type); ok {
			below = append(below, inner{in, innerName(f, name, isList), stage})
		}
		if f.Type.Kind() != reflect.Func {
			fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", name, kindName(f.Type), stageWord(stage), escaped(f.Tag.Get("doc")))
		}
	}
	seen := make(map[reflect.Type]bool)
	for _, in := range below {
		if !seen[in.t] {
			b.words(in.t, in.name, in.at)
		}
		seen[in.t] = true
	}
}

func innerName(f reflect.StructField, name string, isList bool) string {
	switch {
	case f.Type.Kind() == reflect.Func:
		return "an element of " + name + "(…)"
	case isList:
		return "an element of " + name
	case f.Type == reflect.TypeFor[Mailbox]():
		return "sender, rcpt, an element of recipients"
	}
	return name
}

func kindName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Float64:
		return "number"
	case reflect.Slice:
		if t.Elem().Kind() == reflect.String {
			return "list of texts"
		}
		return "list"
	}
	return "see below"
}

func escaped(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
