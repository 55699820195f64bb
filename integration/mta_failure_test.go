package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// What each MTA does with mail while Gatepost is stopped, by the setting that
// says so: the table of docs/milter.md.
func TestMTAWithoutGatepost(t *testing.T) {
	needRoot(t)
	const nobody = "inet:9@127.0.0.1" // the discard port: nothing listens there
	postfix := func(action string) func(dir, next string) mta {
		return func(dir, next string) mta {
			return testkit.NewMilterPostfix(dir, next, "inet:127.0.0.1:9", "milter_default_action = "+action)
		}
	}
	sendmail := func(flag string) func(dir, next string) mta {
		return func(dir, next string) mta { return testkit.NewSendmail(dir, next, "S="+nobody+flag) }
	}
	tests := []struct {
		name    string
		make    func(dir, next string) mta
		stage   string // where the client hears of it
		reply   string
		arrives bool
		held    int
	}{
		{"Postfix accept", postfix("accept"), testkit.Dot, "250 2.0.0", true, 0},
		{"Postfix tempfail", postfix("tempfail"), "MAIL", "451 4.7.1 Service unavailable - try again later", false, 0},
		{"Postfix reject", postfix("reject"), testkit.Banner, "554", false, 0},
		{"Postfix quarantine", postfix("quarantine"), testkit.Dot, "250 2.0.0", false, 1},
		{"sendmail without F", sendmail(""), testkit.Dot, "250 2.0.0", true, 0},
		{"sendmail F=T", sendmail(", F=T"), "MAIL", "451 4.3.2 Please try again later", false, 0},
		{"sendmail F=R", sendmail(", F=R"), testkit.Banner, "554", false, 0},
		{"sendmail F=4", sendmail(", F=4"), testkit.Banner, "421 4.7.0", false, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			sink := testkit.Up(t, testkit.NewSink())
			m := testkit.Up(t, tt.make(testkit.Dir(t), sink.Addr))
			res := testkit.Send(m.Address(), letter(testkit.Message("1", "x", "x")))
			if res.Stage != tt.stage || !strings.HasPrefix(res.Reply.String(), tt.reply) {
				t.Errorf("got %v, want %s: %s", res, tt.stage, tt.reply)
			}
			testkit.Eventually(t, 60*time.Second, "its messages held", func() bool {
				n, err := m.Held()
				return err == nil && n == tt.held
			})
			want := 0
			if tt.arrives {
				want = 1
			}
			waitMails(t, sink, want)
		})
	}
}

// "shutdown" came to Postfix with 3.11 and late patches of older versions. One
// that does not know it takes it for a mistake, and no mail.
func TestPostfixShutdownActionTakesNoMail(t *testing.T) {
	needRoot(t)
	t.Parallel()
	sink := testkit.Up(t, testkit.NewSink())
	p := testkit.Up(t, testkit.NewMilterPostfix(testkit.Dir(t), sink.Addr, "inet:127.0.0.1:9", "milter_default_action = shutdown"))
	res := testkit.Send(p.Addr, letter(testkit.Message("1", "x", "x")))
	if reply := res.Reply.String(); !strings.HasPrefix(reply, "421 4.7.1") && !strings.HasPrefix(reply, "451 4.3.5 Server configuration") {
		t.Errorf("got %v, want 421 4.7.1, or 451 4.3.5 of a Postfix that doesn't know the word", res)
	}
}

// A Gatepost that is stopped, killed and started again: both MTAs find it again
// by themselves, and nothing that they accepted meanwhile went past it.
func TestMTAFindsGatepostAgain(t *testing.T) {
	needRoot(t)
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			sink := testkit.Up(t, testkit.NewSink())
			g := newGateway(t, binaries.race, sink.Addr)
			address := milterSocket(t, g, "unix")
			testkit.Up(t, g)
			m := testkit.Up(t, kind.make(testkit.Dir(t), sink.Addr, "unix", address))
			l := letter(testkit.Message("1", "x", "x"))
			sendWant(t, m.Address(), l, testkit.Dot, 250)
			d := testkit.Connect(t, m.Address()) // a session that knows Gatepost
			d.Do("EHLO client.test", 250)
			g.Kill() // leaves its socket behind
			if res := d.Deliver(l); res.Code/100 != 4 {
				t.Errorf("in the open session got %v, want 4xx", res)
			}
			if res := testkit.Send(m.Address(), l); res.Code/100 != 4 {
				t.Errorf("in a new session got %v, want 4xx", res)
			}
			if err := g.Start(); err != nil {
				t.Fatal(err)
			}
			sendWant(t, m.Address(), l, testkit.Dot, 250)
			for _, mail := range waitMails(t, sink, 2) {
				if field(string(mail.Data), "X-Gatepost-ID") == "" {
					t.Errorf("a message went past us:\n%s", mail.Data)
				}
			}
		})
	}
}

// Debian's smtpd runs chrooted: the path of a unix socket begins at the queue
// directory, and Gatepost's socket has to lie below it.
func TestPostfixChroot(t *testing.T) {
	needRoot(t)
	t.Parallel()
	sink := testkit.Up(t, testkit.NewSink())
	p := testkit.NewMilterPostfix(testkit.Dir(t), sink.Addr, "unix:/gatepost/milter.sock", "milter_default_action = tempfail")
	p.Chroot = true
	dir := filepath.Join(p.QueueDir(), "gatepost")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	g := newGateway(t, binaries.race, sink.Addr)
	g.Config.Set("milter.main", "socket", `"unix:`+filepath.Join(dir, "milter.sock")+`"`)
	g.Config.Set("milter.main", "group", `"postfix"`)
	testkit.Up(t, g)
	testkit.Up(t, p)
	l := letter(testkit.Message("1", "x", "x"))
	sendWant(t, p.Addr, l, testkit.Dot, 250)
	checkStamped(t, waitMails(t, sink, 1)[0].Data, l.Data)
}

// The timeouts that docs/milter.md recommends: while a scanner takes longer than
// sendmail's R, our progress packets keep it patient.
func TestMTAWaitsForASlowScanner(t *testing.T) {
	needRoot(t)
	tests := []struct {
		name string
		make func(dir, next, path string) mta
	}{
		{"Postfix", func(dir, next, path string) mta {
			return testkit.NewMilterPostfix(dir, next, "unix:"+path, "milter_content_timeout = 3s", "milter_default_action = tempfail")
		}},
		{"sendmail", func(dir, next, path string) mta {
			return testkit.NewSendmail(dir, next, "S=unix:"+path+", F=T, T=S:3s;R:3s;E:1m")
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			sink := testkit.Up(t, testkit.NewSink())
			g := newGateway(t, binaries.race, sink.Addr)
			g.UseClamd("tcp:"+silence(t), "continue")
			g.Config.Set("filter.clamav", "timeout", `"6s"`)
			g.Config.Set("milter.main", "progress", `"1s"`)
			address := milterSocket(t, g, "unix")
			testkit.Up(t, g)
			m := testkit.Up(t, tt.make(testkit.Dir(t), sink.Addr, address))
			start := time.Now()
			sendWant(t, m.Address(), letter(testkit.Message("1", "x", "x")), testkit.Dot, 250)
			if took := time.Since(start); took < 4*time.Second {
				t.Errorf("answered after %v: the scanner was not waited for", took)
			}
			if got := waitMails(t, sink, 1)[0].Data; field(string(got), "X-Gatepost-ID") == "" {
				t.Errorf("the MTA lost patience and passed it on without us:\n%s", got)
			}
		})
	}
}
