package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gatepost/internal/testkit"
)

var (
	tomlBlock     = regexp.MustCompile("(?s)```toml[^\n]*\n(.*?)```")
	listFile      = regexp.MustCompile(`file:/etc/gatepost/[a-z-]+`)
	listenAddress = regexp.MustCompile(`(?m)^(address\s*=\s*)"[0-9.]+:(25|10025)"`)
)

// TestFilterPages starts a gateway with each example of docs/filters. What a page
// leaves out is what every configuration has.
func TestFilterPages(t *testing.T) {
	root, err := testkit.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob(filepath.Join(root, "docs/filters/*.md"))
	if err != nil || len(pages) < 12 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(page), ".md")
		examples := tomlBlock.FindAllStringSubmatch(string(text), -1)
		if len(examples) == 0 && name != "README" && name != "adding" {
			t.Errorf("%s has no example", name)
		}
		for i, e := range examples {
			t.Run(fmt.Sprintf("%s %d", name, i+1), func(t *testing.T) {
				t.Parallel()
				g := newGateway(t, binaries.plain, "127.0.0.1:9")
				g.Config.Raw = pageConfig(g, e[1])
				if err := os.WriteFile(filepath.Join(g.Dir, "list"), nil, 0o644); err != nil {
					t.Fatal(err)
				}
				if err := g.WriteConfig(); err != nil {
					t.Fatal(err)
				}
				res := command(t, g, 0, "check")
				if strings.Contains(res.Stdout+res.Stderr, "unknown") {
					t.Errorf("check: %s%s", res.Stdout, res.Stderr)
				}
				testkit.Up(t, g)
				command(t, g, 0, "status")
			})
		}
	}
}

// pageConfig is an example with what it leaves out, and with addresses that are
// free here.
func pageConfig(g *testkit.Gateway, example string) string {
	example = listFile.ReplaceAllString(example, "file:"+filepath.Join(g.Dir, "list"))
	example = listenAddress.ReplaceAllString(example, fmt.Sprintf("${1}%q", g.Addr))
	b := fmt.Sprintf("hostname = %q\nspool = %q\nstate = %q\nhistory = %q\ncontrol = %q\n", "mx1.example.com", g.Spool,
		"sqlite:"+filepath.Join(g.Dir, "state.db"), "sqlite:"+filepath.Join(g.Dir, "history.db"), "unix:"+filepath.Join(g.Dir, "control.sock"))
	for _, s := range []struct{ header, text string }{
		{"console", fmt.Sprintf("address = %q", g.Console)}, {"relay", `domains = ["example.com"]`},
		{"listener.mx", fmt.Sprintf("address = %q", g.Addr)}, {`route."example.com"`, `to = ["smtp://127.0.0.1:9"]`},
	} {
		if !strings.Contains(example, "["+s.header+"]") {
			b += "[" + s.header + "]\n" + s.text + "\n"
		}
	}
	return b + example
}
