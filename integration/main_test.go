// Package integration holds black-box tests of the built binary with real
// servers on both sides. It imports the testkit and nothing else of ours.
package integration

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	milter "github.com/d--j/go-milter"

	"gatepost/internal/testkit"
)

// binaries are built when the first test asks for them.
var binaries struct{ race, plain, failpoint func() (string, error) }

func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() {
		fmt.Println("integration: left out by -short")
		os.Exit(0)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := testkit.TempDir()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	build := func(o testkit.BuildOptions) func() (string, error) {
		return sync.OnceValues(func() (string, error) { return testkit.Build(dir, o) })
	}
	binaries.race = build(testkit.BuildOptions{Race: true})
	binaries.plain = build(testkit.BuildOptions{})
	milter.LogWarning = func(string, ...any) {} // of clients that are killed
	binaries.failpoint = build(testkit.BuildOptions{Tags: "failpoint"})
	return m.Run()
}

// newGateway prepares a gateway in front of next. It is not started yet.
func newGateway(t *testing.T, binary func() (string, error), next ...string) *testkit.Gateway {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	g, err := testkit.NewGateway(testkit.Dir(t), path, next...)
	if err != nil {
		t.Fatal(err)
	}
	// So that a test that waits for the second attempt has not to wait long.
	g.Config.Set("queue", "first_retry", `"200ms"`)
	g.Config.Set("queue", "max_retry", `"1s"`)
	g.Config.Set("queue", "first_pause", `"100ms"`)
	g.Config.Set("queue", "max_pause", `"500ms"`)
	return g
}

// command runs a sub-command that must end with this exit code.
func command(t *testing.T, g *testkit.Gateway, code int, args ...string) testkit.CLIResult {
	t.Helper()
	res, err := g.Run(args...)
	if err != nil {
		t.Fatal(err)
	}
	if res.Code != code {
		t.Fatalf("%v: exit %d, want %d\n%s%s", args, res.Code, code, res.Stdout, res.Stderr)
	}
	return res
}

// letter is a message of the ordinary outside client to the ordinary recipient.
func letter(data []byte) testkit.Letter {
	return testkit.Letter{From: "s@sender.test", To: []string{"u@example.com"}, Data: data}
}

// sendWant sends and wants this code for the stage; a code below 10 stands for
// its class.
func sendWant(t *testing.T, addr string, l testkit.Letter, stage string, code int) testkit.Result {
	t.Helper()
	res := testkit.Send(addr, l)
	if res.Stage != stage || res.Code != code && res.Code/100 != code {
		t.Fatalf("got %v, want %s: %d", res, stage, code)
	}
	return res
}

// waitMails returns the n messages that the sink got, and fails when there are
// less or more.
func waitMails(t *testing.T, s *testkit.Sink, n int) []testkit.Mail {
	t.Helper()
	mails := s.Wait(n, 20*time.Second)
	if len(mails) != n {
		t.Fatalf("%d messages at the next hop, want %d", len(mails), n)
	}
	return mails
}

// added returns the header fields in front of the original message, which must
// be there unchanged.
func added(t *testing.T, got, original []byte) string {
	t.Helper()
	head, ok := bytes.CutSuffix(got, original)
	if !ok {
		t.Fatalf("not byte-identical below the added fields:\ngot  …%q\nwant …%q", last(got, 600), last(original, 600))
	}
	if !bytes.HasSuffix(head, []byte("\r\n")) {
		t.Fatalf("the added fields end in the middle of a line: %q", head)
	}
	return string(head)
}

func last(b []byte, n int) []byte { return b[max(0, len(b)-n):] }

// field returns the value of the first field of that name, unfolded; "" when
// there is none.
func field(head, name string) string {
	head = strings.NewReplacer("\r\n ", " ", "\r\n\t", " ").Replace(head)
	for line := range strings.SplitSeq(head, "\r\n") {
		if n, v, ok := strings.Cut(line, ":"); ok && strings.EqualFold(n, name) {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// needRoot skips, and in CI fails, a test that an ordinary user can't run.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() == 0 {
		return
	}
	if testkit.CI() {
		t.Fatal("needs root")
	}
	t.Skip("needs root")
}
