package policy

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the page anew")

// TestPage keeps the page as the program has it.
func TestPage(t *testing.T) {
	const path = "../../docs/rules-vocabulary.md"
	if *update {
		if err := os.WriteFile(path, []byte(Page()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != Page() {
		t.Errorf("%s is not what \"gatepost rules vocabulary\" prints; run go test ./rules/policy -update", path)
	}
}

// TestExamples runs what the pages show: all examples of the vocabulary, and all
// of rules.md.
func TestExamples(t *testing.T) {
	for _, e := range Examples() {
		t.Run(e.Title, func(t *testing.T) { runExample(t, e.Text, true) })
	}
	text, err := os.ReadFile("../../docs/rules.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(text), "```toml\n")[1:]
	if len(blocks) == 0 {
		t.Fatal("rules.md shows nothing")
	}
	for _, block := range blocks {
		example, _, _ := strings.Cut(block, "```")
		if strings.Contains(example, "[[rule]]") {
			runExample(t, example, false)
		}
	}
}

func runExample(t *testing.T, text string, tested bool) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "rules.toml")
	if err := errors.Join(
		os.WriteFile(path, []byte(text), 0o600),
		os.Mkdir(filepath.Join(dir, "lists"), 0o700),
		os.WriteFile(filepath.Join(dir, "lists/bad-hosts.list"), []byte("evil.example\n"), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	s, err := Load(Config{Files: []string{path}})
	if err != nil {
		t.Fatalf("%v\nof\n%s", err, text)
	}
	if len(s.warnings) > 0 {
		t.Errorf("warnings: %v", s.warnings)
	}
	if tested && len(s.cases) == 0 {
		t.Error("it has no test")
	}
}

// Every word of the vocabulary stands in an example or in a golden file.
func TestEveryWordIsTried(t *testing.T) {
	files, _ := filepath.Glob("testdata/golden/ok-*.txtar")
	var all strings.Builder
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	for _, e := range Examples() {
		all.WriteString(e.Text)
	}
	for name := range newVocabulary().byName {
		_, field, ok := strings.Cut(name, "[].")
		if ok {
			name = "." + field
		}
		if !strings.Contains(all.String(), name) {
			t.Errorf("%s is tried nowhere", name)
		}
	}
}
