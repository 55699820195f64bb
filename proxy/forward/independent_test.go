package forward

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"pgregory.net/rapid"

	"gatepost/internal/mail"
)

// backend is go-smtp's server, keeping what it gets.
type backend struct {
	mu  sync.Mutex
	got []received
}

func (b *backend) NewSession(*smtp.Conn) (smtp.Session, error) { return &backendSession{b: b}, nil }

type backendSession struct {
	b *backend
	m received
}

func (s *backendSession) Reset()        { s.m = received{} }
func (s *backendSession) Logout() error { return nil }
func (s *backendSession) Mail(from string, _ *smtp.MailOptions) error {
	s.m.from = from
	return nil
}
func (s *backendSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	if strings.HasPrefix(to, "no") {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user"}
	}
	s.m.rcpts = append(s.m.rcpts, to)
	return nil
}
func (s *backendSession) Data(r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.m.data = string(data)
	s.b.mu.Lock()
	s.b.got = append(s.b.got, s.m)
	s.b.mu.Unlock()
	return nil
}

// LMTPData answers for each recipient.
func (s *backendSession) LMTPData(r io.Reader, status smtp.StatusCollector) error {
	err := s.Data(r)
	for _, rcpt := range s.m.rcpts {
		if strings.HasPrefix(rcpt, "full") {
			status.SetStatus(rcpt, &smtp.SMTPError{Code: 452, EnhancedCode: smtp.EnhancedCode{4, 2, 2}, Message: "mailbox full"})
		} else {
			status.SetStatus(rcpt, err)
		}
	}
	return nil
}

func (b *backend) last() received {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.got[len(b.got)-1]
}

// goSMTP starts go-smtp's server and returns its URL.
func goSMTP(t testing.TB, b smtp.Backend, lmtp bool) string {
	t.Helper()
	network, address, url := "tcp", "127.0.0.1:0", "smtp://"
	if lmtp {
		network, address, url = "unix", filepath.Join(t.TempDir(), "lmtp.sock"), "lmtp+unix://"
	}
	ln, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	srv := smtp.NewServer(b)
	srv.LMTP, srv.EnableSMTPUTF8, srv.EnableDSN = lmtp, true, true
	srv.MaxLineLength = 0
	srv.ErrorLog = discardLog{}
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(ln) })
	t.Cleanup(func() { srv.Close(); wg.Wait() })
	return url + ln.Addr().String()
}

type discardLog struct{}

func (discardLog) Printf(string, ...any) {}
func (discardLog) Println(...any)        {}

// TestAnyContent: go-smtp's server gets any CRLF text byte for byte.
func TestAnyContent(t *testing.T) {
	line := rapid.OneOf(
		rapid.SampledFrom([]string{"", ".", "..", ".x", "...", "From x", "\xff\xfe", "é", "a.b."}),
		rapid.StringMatching(`[ -~]{0,120}`),
		rapid.Map(rapid.IntRange(1, 70_000), func(n int) string { return strings.Repeat(".y", n/2) + "z" }),
	)
	for _, lmtp := range []bool{false, true} {
		b := &backend{}
		f := newForwarder(t, quick(goSMTP(t, b, lmtp)))
		env := envelope(t, "a@example.com")
		rapid.Check(t, func(rt *rapid.T) {
			lines := rapid.SliceOfN(line, 0, 40).Draw(rt, "lines")
			in := strings.Join(append(lines, ""), "\r\n")
			check(t, deliver(t, f, env, text(in)), "sent 250 2.0.0…")
			if lmtp && in == "" {
				in = "\r\n" // go-smtp's client can't send nothing
			}
			if got := b.last().data; got != in {
				rt.Fatalf("lmtp %v: got %d bytes, want %d:\n%.200q\n%.200q", lmtp, len(got), len(in), got, in)
			}
		})
	}
}

func TestGoSMTPServer(t *testing.T) {
	for _, lmtp := range []bool{false, true} {
		b := &backend{}
		f := newForwarder(t, quick(goSMTP(t, b, lmtp)))
		env := envelope(t, "a@example.com", "no@example.com", "é@example.com", "full@example.com")
		env.Sender = mailPath(t, "sénder@example.org", "SMTPUTF8", "BODY=8BITMIME", "RET=FULL", "ENVID=x+2By")
		full := "sent 250 2.0.0…"
		if lmtp {
			full = "deferred 452 4.2.2…"
		}
		outs := deliver(t, f, env, hello)
		check(t, outs, "sent 250 2.0.0…", "bounced 550 5.1.1 no such user", "sent 250 2.0.0…", full)
		if m := b.last(); m.from != "sénder@example.org" || strings.Join(m.rcpts, " ") != "a@example.com é@example.com full@example.com" || m.data != string(hello) {
			t.Errorf("got %+v", m)
		}
		if !outs[0].DSN || outs[1].DSN {
			t.Errorf("DSN = %v and %v", outs[0].DSN, outs[1].DSN)
		}
	}
}

// smtpSink starts Postfix' test server, which writes each message to a file.
func smtpSink(t testing.TB, args ...string) (url, dir string) {
	t.Helper()
	bin, err := exec.LookPath("smtp-sink")
	if err != nil {
		bin = "/usr/sbin/smtp-sink"
	}
	if _, err := os.Stat(bin); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	// Not t.TempDir: the sink runs as another user, who must get there.
	dir, err = os.MkdirTemp("", "sink")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if os.Getuid() == 0 {
		args = append(args, "-u", "nobody")
	}
	cmd := exec.Command(bin, append(args, "-d", filepath.Join(dir, "%M."), addr, "100")...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() && stderr.Len() > 0 {
			t.Logf("smtp-sink: %s", &stderr)
		}
	})
	until(t, "smtp-sink", func() bool {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return "smtp://" + addr, dir
}

// TestSMTPSink: Postfix' own sink gets the bytes, with each set of extensions.
func TestSMTPSink(t *testing.T) {
	if testing.Short() {
		t.Skip("starts smtp-sink")
	}
	for _, tt := range []struct {
		name string
		args []string
	}{
		{"ESMTP", []string{"-8"}},
		{"pipelining off", []string{"-p"}},
		{"ESMTP off", []string{"-e"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			url, dir := smtpSink(t, tt.args...)
			f := newForwarder(t, quick(url))
			var body strings.Builder
			for i := range 20_000 {
				fmt.Fprintf(&body, ".%d: line with dots ...\r\n.\r\n", i)
			}
			in := "Subject: sink\r\n\r\n" + body.String()
			for range 2 { // the second on a kept connection
				check(t, deliver(t, f, envelope(t, "a@example.com", "b@example.com"), text(in)), "sent 250 2.0.0…", "sent 250 2.0.0…")
			}
			files, err := filepath.Glob(filepath.Join(dir, "*"))
			if err != nil || len(files) != 2 {
				t.Fatalf("%d files, %v", len(files), err)
			}
			for _, name := range files {
				data, err := os.ReadFile(name)
				if err != nil {
					t.Fatal(err)
				}
				// The sink puts fields of its own before, and writes LF.
				got := strings.ReplaceAll(string(data), "\n", "\r\n")
				if !strings.Contains(got, in) {
					t.Errorf("%s holds %d bytes, and not the message of %d: %.600q", name, len(data), len(in), data)
				}
			}
		})
	}
}

var _ mail.Content = text("")
