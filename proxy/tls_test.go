package proxy

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatepost/internal/mail"
)

// certificate writes a fresh self-signed certificate.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writeCertificate(t, cert, key)
	return cert, key
}

func writeCertificate(t *testing.T, cert, key string) {
	t.Helper()
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: "mx1.b.example"},
		DNSNames:     []string{"mx1.b.example"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &priv.PublicKey, priv)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		cert: {Type: "CERTIFICATE", Bytes: der},
		key:  {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func startTLS(t *testing.T) *gate {
	return start(t, func(c *Config, _ *gate) { c.Certificate, c.Key = certificate(t) })
}

// secure does the handshake behind STARTTLS.
func (c *client) secure(version uint16) tls.ConnectionState {
	c.t.Helper()
	c.do("STARTTLS", "220 2.0.0")
	conn := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true, MaxVersion: version, MinVersion: tls.VersionTLS10})
	if err := conn.Handshake(); err != nil {
		c.t.Fatalf("handshake: %v", err)
	}
	c.conn, c.r = conn, bufio.NewReader(conn)
	return conn.ConnectionState()
}

func TestStartTLS(t *testing.T) {
	g := startTLS(t)
	c := g.envelope()
	c.secure(0)
	c.do("MAIL FROM:<s@a.example>", "503 5.5.1") // all is forgotten
	if strings.Contains(c.do("EHLO client.example", "250"), "STARTTLS") {
		t.Error("STARTTLS is offered inside TLS")
	}
	c.do("STARTTLS", "503 5.5.1")
	c.do("MAIL FROM:<s@a.example>", "250")
	c.do("RCPT TO:<u@b.example>", "250")
	c.do("DATA", "354")
	c.do(simple+".", "250")
	header := string(g.store.messages()[0].Header)
	if !strings.Contains(header, "with ESMTPS id ") || !strings.Contains(header, "TLSv1.3") {
		t.Errorf("Received does not tell of TLS: %q", header)
	}
	if !strings.Contains(g.log.String(), "tls=TLSv1.3") {
		t.Error("the log does not tell of TLS")
	}
	if g.handler.count("abort") != 1 {
		t.Error("the handler was not told that the transaction ended")
	}
}

// TestRequireTLSOffered: only over TLS (RFC 8689 2), and it travels on.
func TestRequireTLSOffered(t *testing.T) {
	g := startTLS(t)
	c := g.greeted()
	if strings.Contains(c.do("EHLO client.example", "250"), "REQUIRETLS") {
		t.Error("offered in clear")
	}
	c.secure(0)
	if !strings.Contains(c.do("EHLO client.example", "250"), "REQUIRETLS") {
		t.Error("not offered over TLS")
	}
	c.do("MAIL FROM:<s@a.example> REQUIRETLS", "250")
	c.do("RCPT TO:<u@b.example>", "250")
	c.do("DATA", "354")
	c.do(simple+".", "250")
	if _, ok := g.store.messages()[0].Entry.Envelope.Sender.Arg("REQUIRETLS"); !ok {
		t.Error("it was forgotten")
	}
}

func TestOldTLSRefused(t *testing.T) {
	g := startTLS(t)
	c := g.hello()
	c.do("STARTTLS", "220")
	conn := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10})
	if err := conn.Handshake(); err == nil {
		t.Fatal("TLS 1.1 was accepted")
	}
}

func TestStartTLSNotOffered(t *testing.T) {
	g := start(t, nil)
	c := g.hello()
	c.do("STARTTLS", "502 5.5.1")
	c.do("NOOP", "250")
}

// C1: commands sent in clear behind STARTTLS are never run.
func TestStartTLSInjection(t *testing.T) {
	for _, behind := range []string{"MAIL FROM:<i@x.example>\r\n", "\r\n", "x"} {
		g := startTLS(t)
		c := g.hello()
		c.send("STARTTLS\r\n" + behind)
		c.expect("554")
		c.expectClosed()
		if g.handler.count("mail") != 0 {
			t.Errorf("%q was run", behind)
		}
	}
}

// C3, S-7: after a handshake that fails nothing more is said or heard in clear.
func TestFailedHandshake(t *testing.T) {
	for _, garbage := range []string{"garbage\r\nEHLO x\r\nMAIL FROM:<i@x.example>\r\n", "EHLO x.example\r\n"} {
		g := startTLS(t)
		c := g.hello()
		c.do("STARTTLS", "220")
		c.send(garbage)
		_ = c.conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		b := make([]byte, 1000)
		n, _ := c.r.Read(b)
		if strings.Contains(string(b[:n]), "250") || strings.Contains(string(b[:n]), "500") {
			t.Errorf("answered %q in clear", b[:n])
		}
		g.waitIdle()
		if g.handler.count("helo") != 1 || g.handler.count("mail") != 0 {
			t.Errorf("commands were run in clear")
		}
	}
}

func TestSlowHandshake(t *testing.T) {
	cert, key := certificate(t)
	g := start(t, func(c *Config, _ *gate) {
		c.Certificate, c.Key = cert, key
		c.Limits.TLSTimeout = 50 * time.Millisecond
	})
	c := g.hello()
	c.do("STARTTLS", "220")
	c.send("\x16\x03")
	g.waitIdle()
}

// B1 over TLS: a close_notify inside a chunk, then clear text.
func TestBdatCutOffByCloseNotify(t *testing.T) {
	g := startTLS(t)
	c := g.hello()
	raw := c.conn
	c.secure(0)
	c.do("EHLO client.example", "250")
	c.do("MAIL FROM:<s@a.example>", "250")
	c.do("RCPT TO:<u@b.example>", "250")
	c.send("BDAT 100 LAST\r\nhalf")
	if err := c.conn.(*tls.Conn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	_, _ = raw.Write([]byte("x"))
	g.waitIdle()
	if n := len(g.store.messages()); n != 0 {
		t.Errorf("%d messages kept", n)
	}
}

// A new certificate is for new connections; a bad one changes nothing.
func TestUpdateCertificate(t *testing.T) {
	g := startTLS(t)
	serial := func() string {
		c := g.hello()
		return c.secure(0).PeerCertificates[0].SerialNumber.String()
	}
	first := serial()
	cfg := g.srv.settings.Load().Config
	writeCertificate(t, cfg.Certificate, cfg.Key)
	if err := g.srv.Update(cfg); err != nil {
		t.Fatal(err)
	}
	second := serial()
	if second == first {
		t.Error("the old certificate is still in use")
	}
	if err := os.WriteFile(cfg.Key, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := g.srv.Update(cfg); err == nil {
		t.Error("a broken key was taken")
	}
	if serial() != second {
		t.Error("a broken key changed something")
	}
}

func TestHandlerSeesTLS(t *testing.T) {
	g := startTLS(t)
	seen := make(chan mail.TLS, 2)
	g.handler.mailFrom = func(tx *mail.Transaction) mail.Verdict {
		seen <- *tx.Session.TLS
		return mail.Verdict{}
	}
	c := g.hello()
	c.secure(tls.VersionTLS12)
	c.do("EHLO client.example", "250")
	c.do("MAIL FROM:<s@a.example>", "250")
	if got := <-seen; got.Version != "TLSv1.2" || got.Cipher == "" {
		t.Errorf("TLS %+v", got)
	}
}
