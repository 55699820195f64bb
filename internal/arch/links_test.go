package arch

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

var (
	link   = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	inCode = regexp.MustCompile("`[^`]*`")
)

// page is a text for people: where it leads, and what of it can be led to.
type page struct {
	links    []string // as they stand there
	headings []string // the names of anchors
}

// pages are all *.md files, by their path from the root.
func pages(t *testing.T) map[string]page {
	t.Helper()
	root := filepath.Join("..", "..")
	all := make(map[string]page)
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && file != root):
			return filepath.SkipDir
		case d.IsDir() || filepath.Ext(file) != ".md":
			return nil
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, file)
		all[filepath.ToSlash(rel)] = readPage(string(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 20 {
		t.Fatalf("only %d pages found: is the walk broken?", len(all))
	}
	return all
}

// readPage leaves out what stands in code, where a link is none.
func readPage(text string) (p page) {
	fenced := false
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			fenced = !fenced
		}
		if fenced {
			continue
		}
		if title, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && strings.HasPrefix(line, "#") {
			p.headings = append(p.headings, anchor(title))
		}
		for _, m := range link.FindAllStringSubmatch(inCode.ReplaceAllString(line, "`"), -1) {
			p.links = append(p.links, m[1])
		}
	}
	return p
}

// anchor is the name that a heading has in links, as the forges make it.
func anchor(title string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
			return unicode.ToLower(r)
		}
		return -1
	}, strings.TrimSpace(title))
}

// Every link between our own pages leads somewhere.
func TestLinks(t *testing.T) {
	all := pages(t)
	for from, p := range all {
		for _, l := range p.links {
			if strings.Contains(l, "://") || strings.HasPrefix(l, "mailto:") {
				continue
			}
			file, heading, _ := strings.Cut(l, "#")
			to := path.Join(path.Dir(from), file)
			if file == "" {
				to = from
			}
			if _, err := os.Stat(filepath.Join("..", "..", filepath.FromSlash(to))); err != nil {
				t.Errorf("%s links to %s, which is not there", from, l)
				continue
			}
			if heading != "" && !slices.Contains(all[to].headings, heading) {
				t.Errorf("%s links to %s: %s has no such heading, but %v", from, l, to, all[to].headings)
			}
		}
	}
}

// Every page can be found by who starts at the README.
func TestPagesAreFound(t *testing.T) {
	all := pages(t)
	found := map[string]bool{"README.md": true}
	for next := []string{"README.md"}; len(next) > 0; next = next[1:] {
		for _, l := range all[next[0]].links {
			file, _, _ := strings.Cut(l, "#")
			to := path.Join(path.Dir(next[0]), file)
			if _, isPage := all[to]; isPage && !found[to] {
				found[to] = true
				next = append(next, to)
			}
		}
	}
	for file := range all {
		if !found[file] {
			t.Errorf("no link leads from README.md to %s", file)
		}
	}
}

// Configurations and commands name pages of ours by their path; those are there,
// too.
func TestNamedPages(t *testing.T) {
	named := regexp.MustCompile(`\bdocs/[a-z0-9/_-]+\.md\b`)
	for _, folder := range []string{"examples", "cmd", "internal", "filters", "proxy", "rules", "milter", "packaging"} {
		err := filepath.WalkDir(filepath.Join("..", "..", folder), func(file string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.Contains(filepath.ToSlash(file), "/testdata/") {
				return err
			}
			text, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			for _, name := range named.FindAllString(string(text), -1) {
				if _, err := os.Stat(filepath.Join("..", "..", filepath.FromSlash(name))); err != nil {
					t.Errorf("%s names %s, which is not there", file, name)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
