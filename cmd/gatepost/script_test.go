package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"gatepost": main})
}

// TestScripts runs the command line as its users do.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:   "testdata/script",
		Setup: setup,
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits":   exits,
			"spooled": spooled,
			"locked":  locked,
			"barecr":  bareCR,
		},
	})
}

// setup writes a configuration whose spool is in the script's folder.
func setup(env *testscript.Env) error {
	env.Setenv("GORACE", "atexit_sleep_ms=0") // a second for each command otherwise
	text := fmt.Sprintf(`hostname = "mx1.example.com"
spool = "%[1]s/spool"
control = "unix:%[1]s/control.sock"
relay.domains = ["example.com"]
listener.mx.address = "127.0.0.1:0"
route."example.com".to = "smtp://127.0.0.1:1"
`, env.WorkDir)
	return os.WriteFile(filepath.Join(env.WorkDir, "gw.toml"), []byte(text), 0o644)
}

// exits CODE command…: the command must end with that code.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// spooled puts two messages into the spool: one that waits, one that is held.
func spooled(ts *testscript.TestScript, _ bool, _ []string) {
	sp, err := spool.Open(spool.Options{Dir: ts.MkAbs("spool")})
	ts.Check(err)
	defer func() { ts.Check(sp.Close()) }()
	path := func(local, domain string) mail.Path {
		return mail.Path{Address: mail.Address{Local: local, Domain: domain}}
	}
	waits := spool.Entry{
		ID: "0twv0000001111111111BB", Received: time.Unix(1_700_000_000, 0), Origin: spool.FromSMTP, State: spool.Queue,
		Header: []byte("Subject: colour \x1b[31mred\r\n"), Client: "client[192.0.2.1]",
		Envelope: mail.Envelope{Sender: path("a", "sender.test"), Recipients: []mail.Path{path("done", "example.com"), path("u", "example.com")}},
	}
	held := spool.Entry{
		ID: "0twv0000002222222222BB", Received: time.Unix(1_700_000_100, 0), Origin: spool.FromDSN, State: spool.Hold, Reason: "spam",
		Header: []byte("Subject: held\r\n"), Envelope: mail.Envelope{Recipients: []mail.Path{path("u", "example.com")}},
	}
	for _, e := range []spool.Entry{waits, held} {
		d := sp.Draft(e.ID)
		_, err := d.Write([]byte("the body\r\n"))
		ts.Check(err)
		ts.Check(sp.Commit(context.Background(), d, e))
	}
	ts.Check(sp.Save(waits.ID, spool.Progress{State: spool.Queue, Attempts: 1, Recipients: []spool.Recipient{
		{Status: mail.Delivered},
		{Status: mail.Deferred, Reply: mail.Reply{Code: 451, Detail: "4.1", Text: "not now \x1b[31mred"}},
	}}))
}

// locked holds the spool as a process does that does not answer.
func locked(ts *testscript.TestScript, _ bool, _ []string) {
	sp, err := spool.Open(spool.Options{Dir: ts.MkAbs("spool")})
	ts.Check(err)
	ts.Defer(func() { _ = sp.Close() })
}

// bareCR writes a file that an archive can't hold.
func bareCR(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Check(os.WriteFile(ts.MkAbs("cr.eml"), []byte("Subject: x\r\n\r\na\rb\r\n"), 0o644))
}
