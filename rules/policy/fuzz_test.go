package policy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/expr-lang/expr"
	"github.com/rogpeppe/go-internal/txtar"

	"gatepost/internal/mail"
)

// seeds are the rule files of the golden files.
func seeds(f *testing.F, add func(name, text string)) {
	f.Helper()
	files, err := filepath.Glob("testdata/golden/*.txtar")
	if err != nil || len(files) == 0 {
		f.Fatal("no seeds", err)
	}
	for _, file := range files {
		ar, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, one := range ar.Files {
			add(one.Name, string(one.Data))
		}
	}
}

// FuzzRules: whatever a rule file has, it is refused with a place, or can be
// asked about any message.
func FuzzRules(f *testing.F) {
	seeds(f, func(name, text string) {
		if strings.HasSuffix(name, ".toml") {
			f.Add(text)
		}
	})
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "file") {
			return // no files of strangers
		}
		path := filepath.Join(t.TempDir(), "rules.toml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Load(Config{Files: []string{path}})
		if err != nil {
			for _, p := range err.(Problems) {
				if p.File == "" || p.What == "" {
					t.Errorf("a problem without a place or a word: %+v", p)
				}
			}
			return
		}
		tx := usual(t)
		for stage := mail.StageConnect; stage <= mail.StageMessage; stage++ {
			tx.Stage = stage
			run := s.Begin(tx, 1)
			res := run.For(tx.Envelope.Recipients[0].Address)
			run.Edits(res, tx.Envelope.Recipients[0], map[mail.Address]bool{})
			run.Asides(res, tx.Envelope.Recipients[0].Address)
			if _, err := run.Alter(res); err != nil && !strings.Contains(err.Error(), "budget") {
				t.Errorf("alter: %v", err)
			}
		}
	})
}

// FuzzExpression: an expression is refused with a place inside it, or gives an
// answer.
func FuzzExpression(f *testing.F) {
	for _, s := range []string{
		"true", `sender.domain in list("l")`, `any(parts, .ext == "exe" and any(urls, .host matches "a+"))`, `subject matches "("`, "let a = 1; a > size", `"ü" == sbject`,
		"parts[99].name == \"\"", "1 / 0 > 1", "size % 0 == 1", `subject[1:900] == ""`, `count(parts, true) > len(urls) ? true : 1`, `from.addresses in list("l") ?? false`, "((((((((1))))))))", `{"a": 1}.a == 1`,
	} {
		f.Add(s)
	}
	lists := map[string]*list{"l": newList("l", ListDomain)}
	set := &Set{}
	f.Fuzz(func(t *testing.T, text string) {
		p, faults := newCompiler(lists).compile(text, mail.StageMessage, expr.AsBool())
		for _, x := range faults {
			if x.at < 0 || x.at > len(text) || x.what == "" {
				t.Errorf("fault %+v in %q", x, text)
			}
		}
		if p == nil {
			return
		}
		run := set.Begin(usual(t), 1)
		before := run.left
		_, _ = p.holds(run)
		if run.left > before {
			t.Error("the budget has grown")
		}
	})
}

// FuzzList: a list file is refused line by line, or its entries are found.
func FuzzList(f *testing.F) {
	seeds(f, func(name, text string) {
		if strings.HasSuffix(name, ".list") {
			for _, kind := range listTypes {
				f.Add(kind, text)
			}
		}
	})
	f.Add("cidr", "192.0.2.0/24\n2001:db8::/32 until=2020-01-01\n::ffff:1.2.3.4\n")
	f.Fuzz(func(t *testing.T, kind, text string) {
		l := newList("l", ListType(kind))
		l.files = []string{"x.list"}
		r := &report{}
		if err := l.read(strings.NewReader(text), time.Now(), r); err != nil {
			return
		}
		now := time.Unix(0, 0)
		clear(l.until)
		for key, at := range l.exact {
			if _, ok := l.find(key, now, func(int) {}); !ok && kind != string(ListDomain) && !strings.HasPrefix(key, "@") && !strings.HasSuffix(key, "@") {
				t.Errorf("%q of line %d is not found", key, at.line)
			}
		}
		for p := range l.nets {
			if _, ok := l.find(p.Addr().String(), now, func(int) {}); !ok {
				t.Errorf("%s is not found", p)
			}
		}
	})
}
