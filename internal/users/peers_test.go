package users

import (
	"bufio"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// The example of RFC 7677 3.
func TestScramVector(t *testing.T) {
	salt, _ := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	salted, err := pbkdf2.Key(sha256.New, "pencil", salt, 4096, sha256.Size)
	if err != nil {
		t.Fatal(err)
	}
	stored := sha256.Sum256(mac(salted, "Client Key"))
	c := Credentials{4096, salt, stored[:], mac(salted, "Server Key")}
	nonce := "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	message := "n=user,r=rOprNGfwEbeRWgbNEkqO,r=" + nonce + ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=" + nonce
	proof, _ := base64.StdEncoding.DecodeString("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
	signature, ok := c.Check(message, proof)
	if got := base64.StdEncoding.EncodeToString(signature); !ok || got != "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=" {
		t.Errorf("%v, signature %s", ok, got)
	}
	proof[0] ^= 1
	if _, ok := c.Check(message, proof); ok {
		t.Error("another proof is taken")
	}
	for _, short := range [][]byte{nil, {}, proof[:31], append(proof, 0)} {
		if _, ok := c.Check(message, short); ok {
			t.Errorf("a proof of %d bytes is taken", len(short))
		}
	}
}

// What is made up for a user who does not exist is the same after a restart, or
// a client would know by it.
func TestMadeUpCredentialsStay(t *testing.T) {
	p := path(t)
	if err := Set(p, "alice", "wonderland", Account{}); err != nil {
		t.Fatal(err)
	}
	_, before, _, _ := open(t, p).Scram(t.Context(), "nobody")
	if err := Set(p, "bob", "builder", Account{}); err != nil {
		t.Fatal(err)
	}
	_, after, known, _ := open(t, p).Scram(t.Context(), "nobody")
	if string(before.Salt) != string(after.Salt) || known {
		t.Errorf("salt %x, then %x", before.Salt, after.Salt)
	}
	text, err := os.ReadFile(p)
	if err != nil || strings.Count(string(text), keyLine) != 1 {
		t.Errorf("%v\n%s", err, text)
	}
}

// A Dovecot that answers as the test says.
func fakeDovecot(t *testing.T, hello, answer string) *Dovecot {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.WriteString(c, hello)
				r := bufio.NewReader(c)
				for {
					line, err := r.ReadString('\n')
					if err != nil {
						return
					}
					if strings.HasPrefix(line, "AUTH\t") {
						_, _ = io.WriteString(c, answer)
					}
				}
			}()
		}
	}()
	cfg := DefaultDovecotConfig()
	cfg.Socket, cfg.Timeout = socket, 500*time.Millisecond
	d, err := NewDovecot(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDovecotAnswers(t *testing.T) {
	const hello = "VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t1\nDONE\n"
	for _, tt := range []struct {
		name, hello, answer string
		user                string // "" is no
		err                 string
	}{
		{"yes", hello, "OK\t1\tuser=alice\n", "alice", ""},
		{"under another name", hello, "OK\t1\tx=y\tuser=a\x01tb\n", "a\tb", ""},
		{"no", hello, "FAIL\t1\tuser=alice\n", "", ""},
		{"no, with a reason", hello, "FAIL\t1\tuser=alice\treason=temporary trouble\n", "", ""},
		{"disabled", hello, "FAIL\t1\tuser=alice\tcode=user_disabled\n", "", ""},
		{"not now", hello, "FAIL\t1\tuser=alice\ttemp\n", "", "can't tell now"},
		{"not now, by code", hello, "FAIL\t1\tcode=temp_fail\treason=db\n", "", `"db"`},
		{"for somebody else first", hello, "OK\t2\tuser=mallory\nFAIL\t1\n", "", ""},
		{"without a user", hello, "OK\t1\n", "", ""},
		{"it asks", hello, "CONT\t1\tAAAA\n", "", "more than a password"},
		{"another version", "VERSION\t2\t0\nDONE\n", "OK\t1\tuser=alice\n", "", "version"},
		{"no PLAIN", "VERSION\t1\t1\nMECH\tCRAM-MD5\nDONE\n", "OK\t1\tuser=alice\n", "", "auth_mechanisms"},
		{"silent", "", "OK\t1\tuser=alice\n", "", "timeout"},
		{"silent later", hello, "", "", "timeout"},
		{"without an end", strings.Repeat("x", 100_000), "", "", "too long"},
		{"it hangs up", hello, "OK\t1\tuser=al", "", "timeout"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			user, ok, err := fakeDovecot(t, tt.hello, tt.answer).Verify(t.Context(), Login{User: "alice", Password: "x", Client: "192.0.2.1"})
			if user != tt.user || ok != (tt.user != "") || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%q, %v, %v; want %q, %q", user, ok, err, tt.user, tt.err)
			}
		})
	}
}

// fakeHop is a mail server over TLS that answers AUTH with one line.
func fakeHop(t *testing.T, cert *testkit.Certificate, hello, answer string) *NextHop {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert.Pair}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.WriteString(c, "220 x ESMTP\r\n")
				r := bufio.NewReader(c)
				for {
					line, err := r.ReadString('\n')
					if err != nil {
						return
					}
					reply := "250 OK\r\n"
					switch {
					case strings.HasPrefix(line, "EHLO"):
						reply = hello
					case strings.HasPrefix(line, "AUTH"):
						reply = answer
					}
					if _, err := io.WriteString(c, reply); err != nil {
						return
					}
				}
			}()
		}
	}()
	cfg := DefaultNextHopConfig()
	cfg.Server, cfg.CAFile, cfg.Timeout, cfg.Hostname = "smtps://"+l.Addr().String(), cert.Cert, time.Second, "mx1.example.com"
	n, err := NewNextHop(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestNextHopAnswers(t *testing.T) {
	dir := t.TempDir()
	cert, err := testkit.NewCertificate(dir, "localhost")
	if err != nil {
		t.Fatal(err)
	}
	const hello = "250-x\r\n250 AUTH PLAIN LOGIN\r\n"
	for _, tt := range []struct {
		name, hello, answer string
		ok                  bool
		err                 string
	}{
		{"yes", hello, "235 2.7.0 yes\r\n", true, ""},
		{"no", hello, "535 5.7.8 no\r\n", false, ""},
		{"not now", hello, "454 4.7.0 directory\r\n", false, "directory"},
		{"it wants another mechanism", hello, "534 5.7.9 too weak\r\n", false, "too weak"},
		{"it does not know AUTH", hello, "502 what?\r\n", false, "what?"},
		{"a yes of another kind", hello, "250 OK\r\n", false, "OK"},
		{"no AUTH at all", "250 x\r\n", "235 yes\r\n", false, "does not offer"},
		{"only LOGIN", "250-x\r\n250 AUTH LOGIN\r\n", "235 yes\r\n", false, "does not offer"},
		{"silent", hello, "", false, "timeout"},
		{"without an end", hello, strings.Repeat("235-yes\r\n", 100_000), false, "too long"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, ok, err := fakeHop(t, cert, tt.hello, tt.answer).Verify(t.Context(), Login{User: "alice", Password: "x"})
			if ok != tt.ok || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%v, %v; want %v, %q", ok, err, tt.ok, tt.err)
			}
		})
	}
	t.Run("somebody else's certificate", func(t *testing.T) {
		other, err := testkit.NewCertificate(t.TempDir(), "localhost")
		if err != nil {
			t.Fatal(err)
		}
		n := fakeHop(t, other, hello, "235 yes\r\n")
		n.tls.RootCAs = cert.Pool
		if _, ok, err := n.Verify(t.Context(), Login{User: "alice", Password: "x"}); ok || err == nil || !strings.Contains(fmt.Sprint(err), "certificate") {
			t.Errorf("%v, %v", ok, err)
		}
	})
}
