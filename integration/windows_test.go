package integration

import (
	"bufio"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// Who reads mail with Dovecot may send it from there: its login runs the script
// of the examples, which tells the gateway with curl.
func TestDovecotOpensWindows(t *testing.T) {
	needRoot(t)
	testkit.Program(t, "curl", "curl")
	d := openDoors(t)
	root, err := testkit.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	// The example leaves loopback alone, where all clients of a test are.
	script := copied(t, filepath.Join(root, "examples", "dovecot-post-login.sh"), map[string]string{`"" | 127.* | ::1)`: `"")`, "/run/gatepost/drac.sock": d.socket})
	imap := testkit.NewDovecotIMAP(testkit.Dir(t), script, map[string]string{"alice": "wonder"})
	testkit.Up(t, imap)

	may := func(local string) int { return d.visit(t, "mx", local, "", false).offer("<u@out.test>", "") }
	if got := may("127.0.0.58"); got != 550 {
		t.Fatalf("before the login: %d", got)
	}
	if said := login(t, imap.Addr, "127.0.0.59", "alice", "guessed"); !strings.Contains(said, " NO ") {
		t.Fatalf("a wrong password: %s", said)
	}
	if said := login(t, imap.Addr, "127.0.0.58", "alice", "wonder"); !strings.Contains(said, " OK ") {
		t.Fatalf("login: %s", said)
	}
	for local, want := range map[string]int{"127.0.0.58": 250, "127.0.0.59": 550} {
		if got := may(local); got != want {
			t.Errorf("%s: %d, want %d", local, got, want)
		}
	}
	// Nobody is kept from his mail by a gateway that is away.
	if err := d.Stop(); err != nil {
		t.Fatal(err)
	}
	if said := login(t, imap.Addr, "127.0.0.59", "alice", "wonder"); !strings.Contains(said, " OK ") {
		t.Errorf("login without the gateway: %s", said)
	}
}

// login logs in and out by IMAP and returns the answer to the former.
func login(t *testing.T, addr, local, user, password string) string {
	t.Helper()
	dial := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(local)}, Timeout: 10 * time.Second}
	c, err := dial.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := c.Write([]byte("a LOGIN " + user + " " + password + "\r\n")); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(c); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "a ") {
			_, _ = c.Write([]byte("b LOGOUT\r\n"))
			return lines.Text()
		}
	}
	t.Fatal("no answer to the login")
	return ""
}

// copied is a copy of a script with some places changed, which must be there.
func copied(t *testing.T, path string, changes map[string]string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for old, fresh := range changes {
		if strings.Count(text, old) != 1 {
			t.Fatalf("%s: no %q", path, old)
		}
		text = strings.Replace(text, old, fresh, 1)
	}
	script := filepath.Join(testkit.Dir(t), filepath.Base(path))
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return script
}

// What a real client says as a balancer or a peer.
func TestSwaksForOthers(t *testing.T) {
	d := openDoors(t)
	from := func(local string, more ...string) []string {
		return append([]string{"--local-interface", local, "-f", "s@sender.test"}, more...)
	}
	sent := 0
	for _, tt := range []struct {
		name string
		args []string
		code int
	}{
		{"v1, a stranger", from(balancer, "--proxy-version", "1", "--proxy-family", "TCP4", "--proxy-source", "192.0.2.7", "--proxy-source-port", "4711", "--proxy-dest", "127.0.0.1", "--proxy-dest-port", "25"), swaksRcpt},
		{"v1, one of ours", from(balancer, "--proxy-version", "1", "--proxy-family", "TCP4", "--proxy-source", ours, "--proxy-source-port", "4711", "--proxy-dest", "127.0.0.1", "--proxy-dest-port", "25"), swaksOK},
		{"v2, a stranger", from(balancer, "--proxy-version", "2", "--proxy-family", "AF_INET", "--proxy-protocol", "STREAM", "--proxy-command", "PROXY", "--proxy-source", "192.0.2.7", "--proxy-source-port", "4711", "--proxy-dest", "127.0.0.1", "--proxy-dest-port", "25"), swaksRcpt},
		{"v2, one of ours", from(balancer, "--proxy-version", "2", "--proxy-family", "AF_INET", "--proxy-protocol", "STREAM", "--proxy-command", "PROXY", "--proxy-source", ours, "--proxy-source-port", "4711", "--proxy-dest", "127.0.0.1", "--proxy-dest-port", "25"), swaksOK},
		{"XCLIENT, a stranger", from(forwarder, "--xclient-addr", "192.0.2.7", "--xclient-name", "[UNAVAILABLE]"), swaksRcpt},
		{"XCLIENT, one of ours", from(forwarder, "--xclient-addr", ours, "--xclient-name", "[UNAVAILABLE]"), swaksOK},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, said := swaks(t, d.Addr, tt.args...)
			if code != tt.code {
				t.Errorf("exit %d, want %d:\n%s", code, tt.code, said)
			}
			if tt.code == swaksOK {
				sent++
			}
		})
	}
	waitMails(t, d.abroad, sent)
}
