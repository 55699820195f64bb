package integration

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// exampleLines are the lines of an example that are no comment.
func exampleLines(t *testing.T, name, comment string) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "examples", name))
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, comment) {
			lines = append(lines, line)
		}
	}
	return lines
}

// TestMilterExamples: real MTAs with the lines of the examples, word for word but
// for the places of sockets.
func TestMilterExamples(t *testing.T) {
	needRoot(t)
	dir := testkit.Dir(t)
	clamd := testkit.Up(t, testkit.NewClamd(dir))
	spamd := testkit.Up(t, testkit.NewSpamd(dir))
	const documented = "/run/gatepost/milter.socket"
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			s := &mtaSetup{T: t, sink: testkit.Up(t, testkit.NewSink())}
			s.gateway = newGateway(t, binaries.race, s.sink.Addr)
			section := ""
			for _, line := range exampleLines(t, "gatepost-milter.toml", "#") {
				if strings.HasPrefix(line, "[") {
					section = strings.Trim(line, "[]")
				} else if key, value, ok := strings.Cut(line, "="); ok {
					s.gateway.Config.Set(section, strings.TrimSpace(key), strings.TrimSpace(value))
				}
			}
			s.gateway.UseClamd("unix:"+clamd.Socket, "tempfail")
			s.gateway.UseSpamd("tcp:"+spamd.Addr, "continue")
			address := milterSocket(t, s.gateway, "unix")
			switch kind.name {
			case "Postfix":
				p := testkit.NewMilterPostfix(testkit.Dir(t), s.sink.Addr, "", exampleLines(t, "postfix-main.cf", "#")...)
				p.Chroot = true
				address = filepath.Join(p.QueueDir(), "gatepost", "milter.socket")
				if err := os.MkdirAll(filepath.Dir(address), 0o755); err != nil {
					t.Fatal(err)
				}
				s.gateway.Config.Set("milter.main", "socket", fmt.Sprintf("%q", "unix:"+address))
				s.mta = p
			case "sendmail":
				m := testkit.NewSendmail(testkit.Dir(t), s.sink.Addr, "")
				for _, line := range exampleLines(t, "sendmail.mc", "dnl") {
					if !strings.Contains(line, documented) {
						t.Fatalf("examples/sendmail.mc: %q is not about %s", line, documented)
					}
					m.Config = append(m.Config, strings.ReplaceAll(line, documented, address))
				}
				s.mta = m
			}
			testkit.Up(t, s.gateway)
			testkit.Up(t, s.mta)
			l := letter(testkit.Message("1", "x", "x"))
			sendWant(t, s.Address(), l, testkit.Dot, 250)
			checkDelivered(t, s.arrive(0).Data, l.Data)
			sendWant(t, s.Address(), letter(testkit.Message("2", "eicar", testkit.EICAR())), testkit.Dot, 554)
			sendWant(t, s.Address(), letter(testkit.Message("3", "gtube", testkit.GTUBE())), testkit.Dot, 550)
		})
	}
}

// TestReinject: what is held in our own hold, for one recipient of two, comes
// back through a port of the MTA that asks no milter, and is not held again.
func TestReinject(t *testing.T) {
	needRoot(t)
	clamd := testkit.Up(t, testkit.NewClamd(testkit.Dir(t)))
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			back, err := testkit.FreeAddr()
			if err != nil {
				t.Fatal(err)
			}
			s := &mtaSetup{T: t, sink: testkit.Up(t, testkit.NewSink())}
			s.gateway = newGateway(t, binaries.race, s.sink.Addr)
			s.gateway.UseClamd("unix:"+clamd.Socket, "tempfail")
			s.gateway.Config.Set(`policy.for."hold@example.com"`, "virus", `"quarantine"`)
			s.gateway.Config.Set(`policy.for."drop@example.com"`, "virus", `"discard"`)
			s.gateway.Config.Set("milter.main", "quarantine", `"hold"`)
			s.gateway.Config.Set("milter.main", "reinject", `"smtp://`+back+`"`)
			address := milterSocket(t, s.gateway, "unix")
			testkit.Up(t, s.gateway)
			if kind.name == "Postfix" {
				p := testkit.NewMilterPostfix(testkit.Dir(t), s.sink.Addr, "unix:"+address)
				p.Reinject = back
				s.mta = testkit.Up(t, p)
			} else {
				m := testkit.NewSendmail(testkit.Dir(t), s.sink.Addr, "S=unix:"+address+", F=T")
				m.Config = []string{"DAEMON_OPTIONS(`Name=Reinject, Family=inet, Addr=127.0.0.1, Port=" + testkit.Port(back) + ", InputMailFilters=')dnl"}
				s.mta = testkit.Up(t, m)
			}
			l := testkit.Letter{From: "s@sender.test", To: []string{"hold@example.com", "drop@example.com"}, Data: testkit.Message("1", "held", testkit.EICAR())}
			sendWant(t, s.Address(), l, testkit.Dot, 250)
			held := inState(t, s.gateway, "hold")
			if n, err := s.Held(); err != nil || n != 0 || len(held) != 1 {
				t.Fatalf("%d held by the MTA, %v, %d by us; want 0 and 1", n, err, len(held))
			}
			if n := len(s.sink.Mails()); n != 0 {
				t.Fatalf("%d messages arrived before the release", n)
			}
			command(t, s.gateway, 0, "queue", "release", fmt.Sprint(held[0]["id"]))
			got := s.arrive(0)
			if !bytes.HasSuffix(got.Data, l.Data) || len(got.To) != 1 || !strings.HasPrefix(got.To[0], "<hold@example.com>") {
				t.Errorf("released: to %q\n%s", got.To, got.Data)
			}
			testkit.Eventually(t, 60*time.Second, "nothing held", func() bool { return len(inState(t, s.gateway, "hold")) == 0 })
		})
	}
}
