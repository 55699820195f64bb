package integration

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// postfixTLS is a Postfix with a certificate for 127.0.0.1 and more lines of
// main.cf.
func postfixTLS(t *testing.T, c *testkit.Certificate, config ...string) *testkit.Postfix {
	t.Helper()
	return testkit.Up(t, newPostfixTLS(t, c, config...))
}

func newPostfixTLS(t *testing.T, c *testkit.Certificate, config ...string) *testkit.Postfix {
	t.Helper()
	needRoot(t)
	config = append([]string{
		"smtpd_tls_security_level = may", "smtpd_tls_cert_file = " + c.Cert, "smtpd_tls_key_file = " + c.Key, "smtpd_tls_loglevel = 1",
	}, config...)
	return testkit.NewPostfix(testkit.Dir(t), config...)
}

// delivered waits until Postfix has n messages.
func delivered(t *testing.T, p *testkit.Postfix, n int) [][]byte {
	t.Helper()
	var all [][]byte
	testkit.Eventually(t, 60*time.Second, "the messages in Postfix's Maildir", func() bool {
		all, _ = p.Delivered()
		return len(all) >= n
	})
	return all
}

// tells waits for a line in a log that holds all of the words.
func tells(t *testing.T, log func() string, words ...string) {
	t.Helper()
	testkit.Eventually(t, 60*time.Second, "a line with "+strings.Join(words, " and "), func() bool {
		for line := range strings.Lines(log()) {
			if !strings.Contains(line, words[0]) {
				continue
			}
			all := true
			for _, w := range words {
				all = all && strings.Contains(line, w)
			}
			if all {
				return true
			}
		}
		return false
	})
}

// sendFrom sends a message from one of the addresses of this machine.
func sendFrom(t *testing.T, local, addr, id string) {
	t.Helper()
	c, err := testkit.DialFrom(local, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Read(); err != nil {
		t.Fatal(err)
	}
	if r, err := c.Cmd("EHLO client-" + id + ".example"); err != nil || r.Code != 250 {
		t.Fatal(r, err)
	}
	if res := c.Deliver(letter(testkit.Message(id, "client", "x"))); !res.Accepted() {
		t.Fatal(res)
	}
}

// Postfix is told who the client was: it logs him, and judges him.
func TestXClientToPostfix(t *testing.T) {
	cert := certificate(t, "next.test")
	p := postfixTLS(t, cert, "smtpd_authorized_xclient_hosts = 127.0.0.1", "smtpd_authorized_xforward_hosts = 127.0.0.1",
		"smtpd_client_restrictions = check_client_access inline:{127.0.0.8=REJECT}")
	for _, how := range []string{"xforward", "xclient"} {
		g := newGateway(t, binaries.race, p.Addr)
		g.Config.Set(`route."example.com"`, "xclient", `"`+how+`"`)
		g.Config.Set(`route."example.com"`, "tls", `"required"`)
		testkit.Up(t, g)
		sendFrom(t, "127.0.0.7", g.Addr, how+"1")
		sendFrom(t, "127.0.0.6", g.Addr, how+"2")
		if how == "xforward" {
			delivered(t, p, 2)
			tells(t, p.Log, "client=unknown[127.0.0.1]", "orig_client=", "[127.0.0.7]")
			tells(t, p.Log, "client=unknown[127.0.0.1]", "orig_client=", "[127.0.0.6]")
			continue
		}
		tells(t, p.Log, ": client=", "[127.0.0.7]")
		tells(t, p.Log, ": client=", "[127.0.0.6]")
		var received string
		for _, m := range delivered(t, p, 4) {
			received += string(m)
		}
		if !strings.Contains(received, "Received: from client-xclient1.example (") {
			t.Errorf("Postfix did not take the client's own EHLO:\n%s", received)
		}
		// What the next hop's own rules say of the client, they say of him.
		sendFrom(t, "127.0.0.8", g.Addr, "xclient3")
		tells(t, p.Log, "NOQUEUE: reject", "[127.0.0.8]", "Access denied")
	}
}

// A smarthost that wants a login, a certificate of ours, and shows one that
// must fit.
func TestSmarthost(t *testing.T) {
	cert, client := certificate(t, "next.test"), certificate(t, "mx1.example.com")
	mechanisms := []string{"SCRAM-SHA-256", "PLAIN", "LOGIN"}
	p := newPostfixTLS(t, cert, "smtpd_tls_ask_ccert = yes", "smtpd_tls_CAfile = "+client.Cert)
	testkit.Need(t, p.UseSASL("gateway", "open sesame", mechanisms...))
	testkit.Up(t, p)
	for i, mechanism := range mechanisms {
		t.Run(mechanism, func(t *testing.T) {
			g := newGateway(t, binaries.race, p.Addr)
			secret := filepath.Join(g.Dir, "password")
			if err := os.WriteFile(secret, []byte("closed sesame\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			for key, value := range map[string]string{
				"tls": "verify", "ca_file": cert.Cert, "username": "gateway@next.test", "password_file": secret,
				"auth": strings.ToLower(mechanism), "client_cert": client.Cert, "client_key": client.Key,
			} {
				g.Config.Set(`route."example.com"`, key, `"`+value+`"`)
			}
			testkit.Up(t, g)
			sendWant(t, g.Addr, letter(testkit.Message("1", "smarthost", "x")), testkit.Dot, 250)
			tells(t, g.Log, "login: the next hop refuses "+mechanism+" as gateway@next.test: 535", "check username and password_file of the route")
			if got, _ := p.Delivered(); len(got) > i {
				t.Fatal("it was delivered without a login")
			}
			// The password is set right, and read with a reload.
			if err := os.WriteFile(secret, []byte("open sesame\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := g.Signal(syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
			delivered(t, p, i+1)
			tells(t, p.Log, "sasl_method="+mechanism, "sasl_username=gateway@next.test")
			tells(t, p.Log, "Trusted TLS connection established from")
			if strings.Contains(g.Log(), "sesame") {
				t.Error("the log has a password")
			}
		})
	}
	t.Run("another issuer", func(t *testing.T) { wrongIssuer(t, p, len(mechanisms)) })
}

// wrongIssuer: a certificate that is not from ca_file is not good enough, and
// the log says whose wish that is.
func wrongIssuer(t *testing.T, p *testkit.Postfix, before int) {
	g := newGateway(t, binaries.race, p.Addr)
	g.Config.Set(`route."example.com"`, "tls", `"verify"`)
	g.Config.Set(`route."example.com"`, "ca_file", `"`+certificate(t, "other.test").Cert+`"`)
	testkit.Up(t, g)
	sendWant(t, g.Addr, letter(testkit.Message("1", "verify", "x")), testkit.Dot, 250)
	tells(t, g.Log, "dsn=4.7.5", "status=deferred", "signed by unknown authority", "see ca_file")
	if got, _ := p.Delivered(); len(got) > before {
		t.Error("it was delivered")
	}
}
