package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gatepost/internal/config"
	"gatepost/internal/mail"
	"gatepost/internal/metrics"
	"gatepost/milter"
)

// foreign is a milter that takes everything, marks it, and remembers what it
// was asked.
type foreign struct {
	mu   sync.Mutex
	seen []string
}

func (f *foreign) note(format string, args ...any) mail.Verdict {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen = append(f.seen, fmt.Sprintf(format, args...))
	return mail.Verdict{Action: mail.Accept}
}

func (f *foreign) saw() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := strings.Join(f.seen, "; ")
	f.seen = nil
	return s
}

func (f *foreign) Connect(context.Context, *mail.Transaction) mail.Verdict { return mail.Verdict{} }
func (f *foreign) Helo(context.Context, *mail.Transaction) mail.Verdict    { return mail.Verdict{} }
func (f *foreign) Mail(_ context.Context, tx *mail.Transaction) mail.Verdict {
	return f.note("mail %s", tx.Envelope.Sender)
}
func (f *foreign) Rcpt(_ context.Context, _ *mail.Transaction, p mail.Path) mail.Verdict {
	if p.Local == "no" {
		return mail.Verdict{Action: mail.Reject, Reply: mail.Reply{Code: 550, Detail: "1.1", Text: "the milter says no"}}
	}
	return f.note("rcpt %s", p)
}
func (f *foreign) Data(context.Context, *mail.Transaction) mail.Verdict { return mail.Verdict{} }
func (f *foreign) Message(_ context.Context, tx *mail.Transaction) mail.Verdict {
	var names []string
	for _, field := range tx.Message.Header {
		names = append(names, field.Name())
	}
	v := f.note("message %s", strings.Join(names, ","))
	v.Edits = []mail.Edit{
		mail.ChangeHeader{At: len(names) - 1, Field: mail.NewField(names[len(names)-1], "changed")},
		mail.InsertHeader{At: len(names), Field: mail.NewField("X-Foreign", "was here")},
	}
	return v
}
func (f *foreign) Abort(*mail.Transaction) {}
func (f *foreign) Close()                  {}

type memoryDraft struct{ bytes.Buffer }

func (m *memoryDraft) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(m.Bytes()).ReadAt(p, off)
}
func (m *memoryDraft) Size() int64 { return int64(m.Len()) }
func (m *memoryDraft) Discard()    {}

// serveMilter answers on a socket in dir until stop.
func serveMilter(t *testing.T, h mail.Handler, socket string) (stop func()) {
	t.Helper()
	cfg := milter.DefaultConfig()
	cfg.Name, cfg.Socket = "foreign", socket
	s, err := milter.New(cfg, milter.Deps{
		NewHandler: func() mail.Handler { return h }, Log: slog.New(slog.DiscardHandler),
		NewDraft: func(string) milter.Draft { return &memoryDraft{} },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// startGateway runs a gateway with its spool in dir.
func startGateway(t *testing.T, dir, text string) *gateway {
	t.Helper()
	file := filepath.Join(dir, "gw.toml")
	text = fmt.Sprintf("hostname = \"mx1.example.com\"\nspool = %q\nstate = %q\ncontrol = %q\n", dir+"/spool", "sqlite:"+dir+"/state.db", "unix:"+dir+"/control.sock") + text
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	g, err := assemble(cfg, slog.New(slog.DiscardHandler), new(slog.LevelVar), metrics.New("test"))
	if err != nil {
		t.Fatal(err)
	}
	if err := g.listen(); err != nil {
		g.close()
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		g.close()
	})
	return g
}

// smtp is a client that says lines and hears codes.
type smtp struct {
	t *testing.T
	c *textproto.Conn
}

func dialSMTP(t *testing.T, address string) (smtp, string) {
	t.Helper()
	c, err := textproto.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	s := smtp{t, c}
	return s, s.hear()
}

func (s smtp) hear() string {
	s.t.Helper()
	for {
		line, err := s.c.ReadLine()
		if err != nil {
			s.t.Fatal(err)
		}
		if len(line) < 4 || line[3] != '-' {
			return line
		}
	}
}

func (s smtp) say(text string) string {
	s.t.Helper()
	if err := s.c.PrintfLine("%s", text); err != nil {
		s.t.Fatal(err)
	}
	return s.hear()
}

func (s smtp) want(text, answer string) string {
	s.t.Helper()
	got := s.say(text)
	if !strings.HasPrefix(got, answer) {
		s.t.Errorf("%q: %q, want %q", text, got, answer)
	}
	return got
}

const relayForExample = `relay.domains = ["example.com"]
route."." = { to = "smtp://127.0.0.1:1" }
`

// A milter that takes everything opens no relay: ours are the rules, and it
// never hears of a recipient that they refuse.
func TestHandlerIsNoOpenRelay(t *testing.T) {
	dir := t.TempDir()
	f := &foreign{}
	stop := serveMilter(t, f, "unix:"+dir+"/other.sock")
	g := startGateway(t, dir, relayForExample+fmt.Sprintf("[listener.mx]\naddress = \"127.0.0.1:0\"\nhandler = %q\n[listener.lax]\naddress = \"127.0.0.1:0\"\nhandler = %q\nhandler_on_error = \"continue\"\n",
		"unix:"+dir+"/other.sock", "local:"+dir+"/other.sock"))
	for _, server := range g.servers {
		c, _ := dialSMTP(t, server.Addr().String())
		c.want("EHLO client.test", "250")
		c.want("MAIL FROM:<s@sender.test>", "250")
		for _, rcpt := range []string{"u@out.example", "u%out.example@example.com", "u@sub.example.com", "u@[127.0.0.1]", "out.example!u@example.com"} {
			c.want("RCPT TO:<"+rcpt+">", "550 5.7.1")
		}
		c.want("RCPT TO:<no@example.com>", "550 5.1.1 the milter says no")
		c.want("RCPT TO:<u@example.com>", "250")
		if got, want := f.saw(), "mail s@sender.test; rcpt u@example.com"; got != want {
			t.Errorf("the milter saw %q, want %q", got, want)
		}
		c.want("RSET", "250")
	}
	stop()
	_, banner := dialSMTP(t, g.servers[0].Addr().String())
	if !strings.HasPrefix(banner, "421") {
		t.Errorf("without the milter: %q, want 421", banner)
	}
	lax, _ := dialSMTP(t, g.servers[1].Addr().String())
	lax.want("EHLO client.test", "250")
	lax.want("MAIL FROM:<s@sender.test>", "250")
	lax.want("RCPT TO:<u@out.example>", "550 5.7.1")
	lax.want("RCPT TO:<u@example.com>", "250")
}

// The milter judges what is left after the border, and its edits reach the
// message that is kept.
func TestHandlerEdits(t *testing.T) {
	dir := t.TempDir()
	f := &foreign{}
	serveMilter(t, f, "unix:"+dir+"/other.sock")
	g := startGateway(t, dir, relayForExample+fmt.Sprintf("[listener.mx]\naddress = \"127.0.0.1:0\"\nhandler = %q\n", "unix:"+dir+"/other.sock"))
	c, _ := dialSMTP(t, g.servers[0].Addr().String())
	c.want("EHLO client.test", "250")
	for range 2 {
		c.want("MAIL FROM:<s@sender.test>", "250")
		c.want("RCPT TO:<u@example.com>", "250")
		c.want("DATA", "354")
		answer := c.want("X-Spam-Flag: forged\r\nFrom: a@b.test\r\nX-Gatepost-ID: forged\r\nSubject: old\r\n\r\nbody\r\n.", "250")
		id := answer[strings.LastIndexByte(answer, ' ')+1:]
		if got, want := f.saw(), "mail s@sender.test; rcpt u@example.com; message From,Subject"; got != want {
			t.Errorf("the milter saw %q, want %q", got, want)
		}
		got := kept(t, g, id)
		if _, rest, ok := strings.Cut(got, "by mx1.example.com"); !ok || !strings.Contains(rest, "\r\nFrom: a@b.test\r\nSubject: changed\r\nX-Foreign: was here\r\n\r\nbody\r\n") || strings.Contains(got, "forged") {
			t.Errorf("kept:\n%s", got)
		}
	}
}

// kept is the content of a message in the spool, once it can be read.
func kept(t *testing.T, g *gateway, id string) string {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for {
		content, err := g.spool.Open(id)
		if err == nil {
			defer content.Close()
			text, err := io.ReadAll(io.NewSectionReader(content, 0, content.Size()))
			if err != nil {
				t.Fatal(err)
			}
			return string(text)
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// verdicts is a handler that says one thing of messages.
type verdicts struct {
	foreign
	says    mail.Verdict
	aborted int
}

func (v *verdicts) Message(context.Context, *mail.Transaction) mail.Verdict { return v.says }
func (v *verdicts) Abort(*mail.Transaction)                                 { v.aborted++ }

// What the rules say of a message and what the milter says become one verdict:
// the stronger for each recipient. The milter is not asked about what the rules
// refuse, and told that there is no more to come.
func TestBehind(t *testing.T) {
	hold, drop := mail.Verdict{Action: mail.Quarantine, Reason: "ours"}, mail.Verdict{Action: mail.Discard}
	for _, tt := range []struct {
		name         string
		ours, theirs mail.Verdict
		want         string
		aborted      int
	}{
		{"both pass", mail.Verdict{}, mail.Verdict{Action: mail.Accept}, "accept []", 0},
		{"ours refuses", mail.Verdict{Action: mail.Reject}, mail.Verdict{}, "reject []", 1},
		{"ours drops", drop, hold, "discard []", 1},
		{"theirs refuses", hold, mail.Verdict{Action: mail.TempFail}, "tempfail []", 0},
		{"theirs refuses for all", mail.Verdict{Action: mail.Quarantine, Recipients: []mail.Verdict{hold, {}}}, mail.Verdict{Action: mail.Reject}, "reject []", 0},
		{"theirs drops", mail.Verdict{Action: mail.Quarantine, Recipients: []mail.Verdict{hold, {}}}, drop, "quarantine [quarantine discard]", 0},
		{"theirs holds", mail.Verdict{Action: mail.Discard, Recipients: []mail.Verdict{drop, {}}}, hold, "quarantine [quarantine quarantine]", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ours, theirs := &verdicts{says: tt.ours}, &verdicts{says: tt.theirs}
			tx := &mail.Transaction{Message: mail.NewMessage(nil, strings.NewReader(""), 0)}
			v := (&behind{Handler: ours, remote: theirs}).Message(t.Context(), tx)
			all := []mail.Action{}
			for _, r := range v.Recipients {
				all = append(all, r.Action)
			}
			if got := fmt.Sprintf("%v %v", v.Action, all); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			if theirs.aborted != tt.aborted {
				t.Errorf("aborted %d times, want %d", theirs.aborted, tt.aborted)
			}
		})
	}
}
