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
	"strings"
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
			"crowded": crowded,
			"locked":  locked,
			"barecr":  bareCR,
			"await":   await,
			"milter":  playMilter,
		},
	})
}

// setup writes a configuration whose spool is in the script's folder.
func setup(env *testscript.Env) error {
	env.Setenv("EVIL", "red\x1b[31m\u202e")
	env.Setenv("LONG", strings.Repeat("k", 1025))
	env.Setenv("GORACE", "atexit_sleep_ms=0") // a second for each command otherwise
	text := fmt.Sprintf(`hostname = "mx1.example.com"
spool = "%[1]s/spool"
state = "sqlite:%[1]s/state.db"
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
	commit(ts, sp, waits, held)
	ts.Check(sp.Save(waits.ID, spool.Progress{State: spool.Queue, Attempts: 1, Recipients: []spool.Recipient{
		{Status: mail.Delivered},
		{Status: mail.Deferred, Reply: mail.Reply{Code: 451, Detail: "4.1", Text: "not now \x1b[31mred"}},
	}}))
}

func commit(ts *testscript.TestScript, sp *spool.Spool, entries ...spool.Entry) {
	for _, e := range entries {
		d := sp.Draft(e.ID)
		_, err := d.Write([]byte("the body\r\n"))
		ts.Check(err)
		ts.Check(sp.Commit(context.Background(), d, e))
	}
}

// crowded puts messages into the spool whose IDs end in their numbers: 1 and 2
// as spooled does, 3 slow, 4 held for a virus and made to look bad on a
// terminal, 5 held because clamd was down, 6 fresh.
func crowded(ts *testscript.TestScript, neg bool, args []string) {
	spooled(ts, neg, args)
	sp, err := spool.Open(spool.Options{Dir: ts.MkAbs("spool")})
	ts.Check(err)
	defer func() { ts.Check(sp.Close()) }()
	to := func(sender string, rcpts ...string) (e mail.Envelope) {
		parse := func(s string) mail.Path {
			a, err := mail.ParseAddress(s, true)
			ts.Check(err)
			return mail.Path{Address: a}
		}
		e.Sender = parse(sender)
		for _, r := range rcpts {
			e.Recipients = append(e.Recipients, parse(r))
		}
		return e
	}
	const evil = "free\r\n\n0twv0000000000000000BB 1 Mon Jan  1 00:00:00 forged@x.test \u009b31m\x1b]0;title\x07 \u202egpj.exe"
	now := time.Now()
	slow := spool.Entry{
		ID: "0twv0000003333333333BB", Received: now.Add(-3 * time.Hour), Origin: spool.FromSMTP, State: spool.Slow, User: "alice", Listener: "submission",
		Envelope: to("bulk@spam.test", "v@sub.other.test", "w@other.test"), Header: []byte("Subject: slow\r\n"), Score: 2.5,
	}
	slow.Envelope.Recipients[1].Args = []string{"NOTIFY=NEVER"}
	virus := spool.Entry{
		ID: "0twv0000004444444444BB", Received: now.Add(-2 * time.Hour), Origin: spool.FromSMTP, State: spool.Hold, Reason: "virus " + evil, Helo: evil, Subject: evil,
		Envelope: to("bulk@spam.test", "u@example.com"), Header: []byte("Subject: " + evil + "\r\n"), Score: 12.5, Silent: "virus",
	}
	unscanned := spool.Entry{
		ID: "0twv0000005555555555BB", Received: now.Add(-time.Hour), Origin: spool.FromSMTP, State: spool.Hold, Reason: "not judged yet", Unscanned: "clamav",
		Envelope: to("c@sender.test", "u@example.com"), Header: []byte("Subject: unscanned\r\n"),
	}
	fresh := spool.Entry{
		ID: "0twv0000006666666666BB", Received: now, Origin: spool.FromSMTP, State: spool.Queue,
		Envelope: to("c@sender.test", "u@example.com"), Header: []byte("Subject: fresh\r\n"),
	}
	commit(ts, sp, slow, virus, unscanned, fresh)
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
	deadline := time.Now().Add(60 * time.Second)
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
