package integration

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"gatepost/internal/testkit"
)

// The version of axe-core, and what its package is.
const (
	axeVersion = "4.10.3"
	axeSHA256  = "0f2b4d7dcdf7d1219df8d1959ad68e565f51d14c3f0d88bb71cd59abeb956292"
)

// axeCore is the script, fetched by npm once and kept.
func axeCore(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "gatepost", "axe-core")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "axe-core-"+axeVersion+".tgz")
	if fileSum(name) != axeSHA256 {
		fetchAxe(t, dir, name)
	}
	script, err := exec.Command("tar", "-xzOf", name, "package/axe.min.js").Output()
	if err != nil {
		t.Fatalf("axe-core: %v", err)
	}
	return string(script)
}

func fetchAxe(t *testing.T, dir, name string) {
	t.Helper()
	tmp, err := os.MkdirTemp(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	cmd := exec.Command(testkit.Program(t, "npm", "npm"), "pack", "--silent", "axe-core@"+axeVersion)
	cmd.Dir = tmp
	got := filepath.Join(tmp, filepath.Base(name))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("axe-core %s can't be had, so nobody looks at accessibility: %v\n%s", axeVersion, err, out)
	}
	if sum := fileSum(got); sum != axeSHA256 {
		t.Fatalf("axe-core %s is not what it was: %s", axeVersion, sum)
	}
	if err := os.Rename(got, name); err != nil {
		t.Fatal(err)
	}
}

func fileSum(name string) string {
	b, err := os.ReadFile(name)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// axeFinding is what axe-core says of a page.
type axeFinding struct {
	ID, Impact, Help string
	Nodes            []struct{ HTML, FailureSummary string }
}

// accessible wants no serious finding on any page, light and dark, wide and
// narrow.
func accessible(t *testing.T, s *site, alice *tab) {
	script := axeCore(t)
	b := alice.other(t)
	b.do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: script})
		return err
	}))
	check := func(what, only string) {
		t.Helper()
		text := eval[string](b, `axe.run({iframes: false, resultTypes: ["violations"]`+only+`}).then(r => JSON.stringify(r.violations))`)
		var found []axeFinding
		if err := json.Unmarshal([]byte(text), &found); err != nil {
			t.Fatalf("axe: %v in %s", err, text)
		}
		for _, f := range found {
			if f.Impact == "serious" || f.Impact == "critical" {
				var where []string
				for _, n := range f.Nodes[:min(3, len(f.Nodes))] {
					where = append(where, n.HTML+"\n\t"+n.FailureSummary)
				}
				t.Errorf("%s: %s %s: %s\n\t%s", what, f.Impact, f.ID, f.Help, strings.Join(where, "\n\t"))
			}
		}
	}
	b.looks(1280, 900, "light")
	b.open("/login")
	check("login", "")
	b.login("alice")
	for _, look := range []struct {
		name, only string
		width      int64
	}{{"light", "", 1280}, {"dark", `, runOnly: ["color-contrast", "label", "link-name", "button-name"]`, 390}} {
		b.looks(look.width, 900, look.name)
		for name, path := range s.pages() {
			b.open(path)
			check(name+" "+look.name, look.only)
		}
	}
}
