package filtertest_test

import (
	"os"
	"strings"
	"testing"
)

// The example of the page is the one that is compiled and tested here.
func TestAddingPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/filters/adding.md")
	if err != nil {
		t.Fatal(err)
	}
	_, code, _ := strings.Cut(string(page), "```go\n")
	code, _, _ = strings.Cut(code, "```\n")
	source, err := os.ReadFile("words_test.go")
	if err != nil {
		t.Fatal(err)
	}
	if code == "" || !strings.HasSuffix(strings.TrimSpace(string(source)), strings.TrimSpace(code)) {
		t.Error("docs/filters/adding.md shows other lines than words_test.go")
	}
}
