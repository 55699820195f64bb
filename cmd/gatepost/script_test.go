package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"gatepost/internal/mail"
	"gatepost/milter"
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
			"await":   await,
			"milter":  playMilter,
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

// await FILE: until it is there.
func await(ts *testscript.TestScript, _ bool, args []string) {
	deadline := time.Now().Add(20 * time.Second)
	for {
		_, err := os.Stat(ts.MkAbs(args[0]))
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%v", err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// milter SOCKET KIND: a milter for the rest of the script. "foreign" refuses,
// changes and marks; "garbage" and "closes" are what they say.
func playMilter(ts *testscript.TestScript, _ bool, args []string) {
	cfg := milter.DefaultConfig()
	cfg.Name, cfg.Socket = "foreign", args[0]
	if args[1] == "foreign" {
		s, err := milter.New(cfg, milter.Deps{
			NewHandler: func() mail.Handler { return &foreign{} }, Log: slog.New(slog.DiscardHandler),
			NewDraft: func(string) milter.Draft { return &memoryDraft{} },
		})
		ts.Check(err)
		ts.Check(s.Listen())
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		ts.Defer(func() {
			cancel()
			ts.Check(<-done)
		})
		return
	}
	l, err := milter.Listen(args[0])
	ts.Check(err)
	done := make(chan struct{})
	ts.Defer(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if args[1] == "garbage" {
				_, _ = c.Write([]byte{0, 0, 0, 1, 'Z'})
			}
			// After its offer, so that it is no reset that the client sees.
			_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
			_, _ = c.Read(make([]byte, 100))
			_ = c.Close()
		}
	}()
}
