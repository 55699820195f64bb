package main

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"gatepost/internal/config"
	"gatepost/internal/dns/dnstest"
	"gatepost/internal/mail"
)

type memory []byte

func (m memory) ReadAt(p []byte, off int64) (int, error) { return bytes.NewReader(m).ReadAt(p, off) }
func (m memory) WriteTo(w io.Writer) (int64, error)      { n, err := w.Write(m); return int64(n), err }
func (m memory) Size() int64                             { return int64(len(m)) }

// TestNextHopsOfAFile: the routes, the resolver and the mailertable of one
// configuration lead a message to a host that only DNS knows.
func TestNextHopsOfAFile(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	port := ln.Addr().(*net.TCPAddr).Port
	server := dnstest.Start(t, "far.test. 300 IN MX 10 mx.far.test.", "mx.far.test. 300 IN A 127.0.0.1", "inner.test. 300 IN A 127.0.0.1")
	dir := t.TempDir()
	table := filepath.Join(dir, "mailertable")
	if err := os.WriteFile(table, []byte(".old.test smtp:inner.test\ngone.test error:5.1.2:550 no such host\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "gatepost.toml")
	text := `hostname = "mx1.example.com"
spool = "` + dir + `/spool"
state = "sqlite:` + dir + `/state.db"
[relay]
domains = ["gone.test", "far.test"]
[listener.mx]
address = "127.0.0.1:0"
[route."."]
to = ["mx"]
[routing]
mailertable = "` + table + `"
mx_port = ` + strconv.Itoa(port) + `
mx_loopback = true
[dns]
servers = ["` + server.Addr() + `"]
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	next, err := newHops(cfg, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	go func() { // turns everybody away, so that who was asked can be told
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "421 4.3.2 not now\r\n")
			c.Close()
		}
	}()
	for rcpt, want := range map[string]string{
		"a@far.test":   "451 4.3.2 the next hop does not talk to us: 421 4.3.2 not now",
		"a@x.old.test": "451 4.3.2 the next hop does not talk to us: 421 4.3.2 not now",
		"a@gone.test":  "550 5.1.2 no such host",
		"a@none.test":  "550 5.1.2 the domain none.test does not exist",
	} {
		a, err := mail.ParseAddress(rcpt, false)
		if err != nil {
			t.Fatal(err)
		}
		dest, ok := next.Route(a)
		if !ok {
			t.Fatalf("no route to %s", rcpt)
		}
		env := mail.Envelope{Sender: mail.Path{Address: a}, Recipients: []mail.Path{{Address: a}}}
		out := next.Deliver(t.Context(), dest, mail.Facts{ID: "TEST"}, env, memory("Subject: x\r\n\r\n"))
		if got := out[0].Reply.String(); got != want {
			t.Errorf("%s: %q, want %q", rcpt, got, want)
		}
		if strings.HasPrefix(want, "451") && !strings.Contains(out[0].Remote, "[127.0.0.1]:"+strconv.Itoa(port)) {
			t.Errorf("%s: remote %q", rcpt, out[0].Remote)
		}
	}
	if g := next.Group(". far.test"); g != "remote" {
		t.Errorf("group %q", g)
	}
}
