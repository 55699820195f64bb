package arch

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Every folder stands on the page about the architecture, among the tables, so
// that one can look up what it is for.
func TestFoldersAreDescribed(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	times := make(map[string]int)
	for line := range strings.Lines(string(page)) {
		first, _, ok := strings.Cut(strings.TrimPrefix(line, "| "), " |")
		if !ok || !strings.HasPrefix(line, "| ") {
			continue
		}
		for name := range strings.SplitSeq(first, ", ") {
			times[strings.Trim(name, "`")]++
		}
	}
	seen := map[string]bool{"internal/dns/dnstest": true} // beside internal/dns
	for _, s := range sources(t) {
		if seen[s.folder] {
			continue
		}
		seen[s.folder] = true
		if n := times[s.folder]; n != 1 {
			t.Errorf("docs/architecture.md has %s in %d of its tables, want 1", s.folder, n)
		}
	}
	for name := range times {
		if strings.Contains(name, "/") && !seen[name] {
			t.Errorf("docs/architecture.md has %s, which is not there", name)
		}
	}
}
