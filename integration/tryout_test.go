package integration

import (
	"bytes"
	"context"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// `make run` shows a newcomer what it should, and stays up with a console that
// lets him in, until he has seen enough.
func TestTryout(t *testing.T) {
	for _, s := range []testkit.Server{testkit.NewClamd(testkit.Dir(t)), testkit.NewSpamd(testkit.Dir(t))} {
		testkit.Up(t, s) // skips where they are not installed
	}
	run := startTryout(t)
	run.waitFor(t, "Ctrl-C stops everything")
	for _, row := range []string{
		`a clean note +delivered +nothing found`,
		`GTUBE.* refused +spam score .*\n +> 550 5\.7\.1 `,
		`EICAR.* refused +virus Eicar.*\n +> 55\d 5\.7\.1 `,
		`an \.exe in a zip +refused +attachment: "invoice\.exe" in "invoice\.zip".*\n +> 55\d 5\.7\.1 `,
		`a forged sender.* refused +DMARC: not from example\.com.*\n +> 550 5\.7\.1 `,
		`of ours holds +held +rule gift-cards .*\n +> 250 2\.0\.0 .*\n +\* rule gift-cards .* did: hold`,
		`of ours watches +delivered .*\n +> 250 2\.0\.0 .*\n +\* rule newsletters .* only watches, would do: tag`,
		`not ours +refused .*\n +> 55\d 5\.7\.1 `,
		`(?s)as "gatepost trace.*boss@example\.com +you@example\.com +reject .*quarantine +Gift cards`,
	} {
		if !regexp.MustCompile(row).MatchString(run.said()) {
			t.Errorf("no row %s", row)
		}
	}
	if strings.Contains(run.said(), "Not judged here") {
		t.Error("something is not judged, with all that it needs installed")
	}
	run.logIn(t)
	run.explains(t)
	dir := run.find(t, `removes (\S+)\.`)[1]
	if err := run.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := run.cmd.Wait(); err != nil {
		t.Errorf("it ends with %v", err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s is left: %v", dir, err)
	}
}

// tryout is the program of `make run`.
type tryout struct {
	cmd *exec.Cmd

	mu  sync.Mutex
	out bytes.Buffer
}

// Write keeps what it says.
func (r *tryout) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.Write(b)
}

func (r *tryout) said() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.String()
}

func startTryout(t *testing.T) *tryout {
	t.Helper()
	gatepost, err := binaries.plain()
	if err != nil {
		t.Fatal(err)
	}
	root, err := testkit.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(testkit.Dir(t), "tryout")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", program, "./examples/tryout")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	t.Cleanup(cancel)
	r := &tryout{cmd: exec.CommandContext(ctx, program, "-binary", gatepost)}
	r.cmd.Cancel = func() error { return r.cmd.Process.Signal(syscall.SIGTERM) }
	r.cmd.WaitDelay = time.Minute
	r.cmd.Dir, r.cmd.Stdout, r.cmd.Stderr = root, r, r
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if r.cmd.ProcessState == nil {
			cancel()
			_ = r.cmd.Wait() // the test has failed already
		}
		if t.Failed() {
			t.Log(r.said())
		}
	})
	return r
}

func (r *tryout) waitFor(t *testing.T, text string) {
	t.Helper()
	for end := time.Now().Add(3 * time.Minute); !strings.Contains(r.said(), text); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never said %q", text)
		}
	}
}

func (r *tryout) find(t *testing.T, pattern string) []string {
	t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(r.said())
	if m == nil {
		t.Fatalf("says nothing like %s", pattern)
	}
	return m
}

// logIn logs in to the console with what is on the screen.
func (r *tryout) logIn(t *testing.T) {
	t.Helper()
	m := r.find(t, `console +(http://\S+)/ +user (\S+), password (\S+) `)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar, Timeout: time.Minute}
	for _, try := range []struct{ password, lands string }{{"not-" + m[3], "/login"}, {m[3], "/queue"}} {
		resp, err := client.PostForm(m[1]+"/login", url.Values{"name": {m[2]}, "password": {try.password}, "to": {"/queue"}})
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Error(err)
		}
		if got := resp.Request.URL.Path; got != try.lands {
			t.Errorf("with password %q: %s, %s, want %s", try.password, resp.Status, got, try.lands)
		}
	}
}

// explains types the line that asks why a message is held.
func (r *tryout) explains(t *testing.T) {
	t.Helper()
	words := strings.Fields(r.find(t, `why it is held +(.*)`)[1])
	out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("gift-cards")) {
		t.Errorf("%v: %v\n%s", words, err, out)
	}
}
