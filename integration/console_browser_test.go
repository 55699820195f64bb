package integration

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"gatepost/internal/testkit"
)

// patience is how long a page may take on a machine that is very busy.
const patience = 90 * time.Second

// chromium is one process for all tabs of a test.
func chromium(t *testing.T) context.Context {
	t.Helper()
	path := testkit.Program(t, "chromium", "chromium")
	opts := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.Flag("headless", "new"), chromedp.UserDataDir(testkit.Dir(t)),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"), chromedp.DisableGPU)
	ctx, stop := chromedp.NewExecAllocator(context.Background(), opts...)
	t.Cleanup(stop)
	ctx, stop = chromedp.NewContext(ctx)
	t.Cleanup(stop)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("chromium: %v", err)
	}
	return ctx
}

// tab is somebody with a browser of his own: cookies are not shared. Whatever a
// page does that it must not (a dialog, a request to another place, something
// that its policy had to stop, an error of a script) fails the test.
type tab struct {
	t    *testing.T
	ctx  context.Context
	base string

	browser context.Context
	gateway *testkit.Gateway

	mu     sync.Mutex
	lax    bool // what is heard is no fault
	faults []string
}

func newTab(t *testing.T, browser context.Context, g *testkit.Gateway) *tab {
	t.Helper()
	ctx, stop := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	t.Cleanup(stop)
	b := &tab{t: t, ctx: ctx, base: "http://" + g.Console, browser: browser, gateway: g}
	if err := chromedp.Do(ctx); err != nil { // the tab lives as long as the context of its first step
		t.Fatalf("chromium: a tab: %v", err)
	}
	b.do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, cdplog.Enable, cdp.Empty{})
		return err
	}))
	if err := chromedp.Listen(ctx, b.hear); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.quiet("at the end") })
	return b
}

// other is somebody else in the same browser.
func (b *tab) other(t *testing.T) *tab {
	t.Helper()
	return newTab(t, b.browser, b.gateway)
}

func (b *tab) hear(ev any) {
	fault := ""
	switch e := ev.(type) {
	case *page.EventJavascriptDialogOpening:
		fault = "a dialog: " + e.Message
	case *network.EventRequestWillBeSent:
		if !strings.HasPrefix(e.Request.URL, b.base+"/") && !strings.HasPrefix(e.Request.URL, "data:") { // pictures of form fields are data
			fault = "a request to " + e.Request.URL
		}
	case *cdplog.EventEntryAdded:
		if e.Entry.Source == "security" || e.Entry.Source == "javascript" {
			fault = fmt.Sprintf("%s: %s", e.Entry.Source, e.Entry.Text)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if fault != "" && !b.lax {
		b.faults = append(b.faults, fault)
	}
}

func (b *tab) careless(on bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lax = on
}

// quiet wants that nothing was heard.
func (b *tab) quiet(where string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range b.faults {
		b.t.Errorf("%s: %s", where, f)
	}
	b.faults = nil
}

func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.broken(err)
	}
}

// broken ends the test with what is to be seen.
func (b *tab) broken(err error) {
	b.t.Helper()
	b.quiet("before")
	ctx, cancel := context.WithTimeout(b.ctx, 10*time.Second)
	defer cancel()
	where, _ := chromedp.Run(ctx, chromedp.Location())
	text, _ := chromedp.Run(ctx, chromedp.Evaluate[string]("document.body.innerText"))
	b.t.Fatalf("%v\nat %s:\n%s", err, where, text)
}

// load does something that leads to a page, and returns its status.
func (b *tab) load(step chromedp.Action[chromedp.Void]) int64 {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	resp, err := chromedp.RunResponse(ctx, step)
	if err != nil {
		b.broken(err)
	}
	return resp.Status
}

func eval[T any](b *tab, script string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise))
	if err != nil {
		b.broken(fmt.Errorf("%.200s: %w", script, err))
	}
	return v
}

func (b *tab) open(path string) int64 {
	b.t.Helper()
	return b.load(chromedp.Navigate(b.base + path))
}

// text is what a reader sees.
func (b *tab) text() string { return eval[string](b, "document.body.innerText") }

// shows wants all of these words on the page.
func (b *tab) shows(words ...string) {
	b.t.Helper()
	text := b.text()
	for _, w := range words {
		if !strings.Contains(strings.ToLower(text), strings.ToLower(w)) {
			b.t.Errorf("no %q at %s:\n%s", w, eval[string](b, "location.href"), text)
		}
	}
}

// comes loads a page until it shows all of these words.
func (b *tab) comes(path string, words ...string) {
	b.t.Helper()
	testkit.Eventually(b.t, patience, path+" shows "+strings.Join(words, ", "), func() bool {
		b.open(path)
		text := b.text()
		for _, w := range words {
			if !strings.Contains(text, w) {
				return false
			}
		}
		return true
	})
}

// hides wants none of these words on the page.
func (b *tab) hides(words ...string) {
	b.t.Helper()
	text := b.text()
	for _, w := range words {
		if strings.Contains(text, w) {
			b.t.Errorf("%q at %s:\n%s", w, eval[string](b, "location.href"), text)
		}
	}
}

// set fills in a field.
func (b *tab) set(selector, value string) {
	b.t.Helper()
	eval[bool](b, fmt.Sprintf("(() => { document.querySelector(%q).value = %q; return true })()", selector, value))
}

// press clicks on what a selector finds, which leads to a page.
func (b *tab) press(selector string) int64 {
	b.t.Helper()
	return b.load(chromedp.Click(chromedp.CSS(selector)))
}

func (b *tab) login(name string) { b.t.Helper(); b.loginTo(name, "/") }

func (b *tab) loginTo(name, path string) {
	b.t.Helper()
	b.open(path) // leads to the login, and that back
	b.set("#name", name)
	b.set("#password", consolePassword)
	b.press("form.login button")
	if at := eval[string](b, "location.pathname"); at != path {
		b.t.Fatalf("the login of %s leads to %s:\n%s", name, at, b.text())
	}
}

// scheme is light or dark.
func (b *tab) looks(width, height int64, scheme string) {
	b.t.Helper()
	b.do(chromedp.EmulateViewport(width, height), chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		return err
	}))
}

// shot keeps a picture of the page where GATEPOST_SHOTS says, for people.
func (b *tab) shot(name string) {
	b.t.Helper()
	dir := os.Getenv("GATEPOST_SHOTS")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644)
	}
	if err != nil {
		b.t.Errorf("shot %s: %v", name, err)
	}
}
