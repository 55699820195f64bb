package testkit

import (
	"bytes"
	"net/smtp"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestClamdStartsAgainAtTheSamePlace(t *testing.T) {
	c := Up(t, NewClamd(Dir(t)))
	addr := c.Addr
	c.Kill()
	if err := ask("tcp", c.Addr, "zPING\x00", "PONG\x00"); err == nil {
		t.Fatal("clamd answers after it was killed")
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if c.Addr != addr {
		t.Errorf("address = %s, before it was %s", c.Addr, addr)
	}
}

func TestSpamdKnowsGTUBE(t *testing.T) {
	s := Up(t, NewSpamd(Dir(t)))
	spamc := exec.Command("spamc", "-d", "127.0.0.1", "-p", Port(s.Addr), "-c")
	spamc.Stdin = bytes.NewReader(Message("1", "gtube", GTUBE()))
	out, err := spamc.Output()
	if err == nil || !strings.HasPrefix(string(out), "1000.0/") && !strings.HasPrefix(string(out), "999.") {
		t.Errorf("spamc -c: %q, %v; want 1000 points and exit 1", out, err)
	}
	s.Kill()
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
}

func TestPostfixDelivers(t *testing.T) {
	p := Up(t, NewPostfix(Dir(t)))
	msg := Message("1", "hello", ".dot\r\nlast")
	if err := smtp.SendMail(p.Addr, nil, "s@sender.test", []string{"u@example.com"}, msg); err != nil {
		t.Fatal(err)
	}
	Eventually(t, 20*time.Second, "a message in the Maildir", func() bool {
		all, err := p.Delivered()
		return err == nil && len(all) == 1 && bytes.HasSuffix(all[0], bytes.ReplaceAll(msg, []byte("\r\n"), []byte("\n")))
	})
}
