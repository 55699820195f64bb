package proxy

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/users"
)

// book is a source of users in memory.
type book struct {
	passwords map[string]string
	senders   map[string][]string
	err       error
	scram     bool

	mu    sync.Mutex
	asked int
}

func (b *book) Verify(_ context.Context, l users.Login) (string, bool, error) {
	b.mu.Lock()
	b.asked++
	b.mu.Unlock()
	return l.User, l.Password != "" && b.passwords[l.User] == l.Password, b.err
}

func (b *book) HasScram() bool { return b.scram }

func (b *book) Scram(_ context.Context, user string) (string, users.Credentials, bool, error) {
	salt := []byte("salt of 16 bytes")
	password, known := b.passwords[user]
	salted, err := pbkdf2.Key(sha256.New, password, salt, 4096, sha256.Size)
	if err != nil {
		panic(err)
	}
	stored := sha256.Sum256(sum(salted, "Client Key"))
	return user, users.Credentials{Iterations: 4096, Salt: salt, StoredKey: stored[:], ServerKey: sum(salted, "Server Key")}, known, b.err
}

func (b *book) Senders(_ context.Context, user string) ([]string, error) {
	return b.senders[user], b.err
}

func sum(key []byte, text string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func plainLogin(user, password string) string { return b64("\x00" + user + "\x00" + password) }

// scram is the other end of SCRAM-SHA-256.
func (c *client) scram(header, user, password string) (last string) {
	c.t.Helper()
	bare := "n=" + user + ",r=clientnonce"
	challenge := c.do("AUTH SCRAM-SHA-256 "+b64(header+bare), "334 ")
	text, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(challenge, "334 "))
	if err != nil {
		c.t.Fatal(err)
	}
	first := string(text)
	f := strings.Split(first, ",")
	salt, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(f[1], "s="))
	n := 0
	if _, err := fmt.Sscanf(f[2], "i=%d", &n); err != nil || n < 4096 {
		c.t.Fatalf("challenge %q", first)
	}
	salted, err := pbkdf2.Key(sha256.New, password, salt, n, sha256.Size)
	if err != nil {
		c.t.Fatal(err)
	}
	final := "c=" + b64(header) + "," + f[0]
	message := bare + "," + first + "," + final
	proof := sum(salted, "Client Key")
	stored := sha256.Sum256(proof)
	for i, b := range sum(stored[:], message) {
		proof[i] ^= b
	}
	answer := c.do(b64(final+",p="+base64.StdEncoding.EncodeToString(proof)), "")
	if !strings.HasPrefix(answer, "334 ") {
		return answer
	}
	want := "334 " + b64("v="+base64.StdEncoding.EncodeToString(sum(sum(salted, "Server Key"), message)))
	if answer != want {
		c.t.Errorf("the server's signature is %q, want %q", answer, want)
	}
	return c.do("", "")
}

// authGate has users over STARTTLS.
func authGate(t *testing.T, change func(*Config, *gate)) (*gate, *book) {
	b := &book{passwords: map[string]string{"alice@b.example": "wonder land", "bob": "builder"}, scram: true}
	g := start(t, func(c *Config, g *gate) {
		c.Certificate, c.Key = certificate(t)
		c.Auth, c.Sources = []string{"book"}, []users.Source{b}
		c.Limits.LoginDelay = time.Millisecond
		if change != nil {
			change(c, g)
		}
	})
	return g, b
}

// secured has said EHLO inside TLS.
func (g *gate) secured() *client {
	g.t.Helper()
	c := g.hello()
	c.secure(0)
	c.do("EHLO client.example", "250")
	return c
}

func TestAuth(t *testing.T) {
	alice := plainLogin("alice@b.example", "wonder land")
	for _, tt := range []struct {
		name  string
		steps []step
		user  string // "" when nobody is logged in after it
	}{
		{"PLAIN at once", []step{{"AUTH PLAIN " + alice, "235 2.7.0"}}, "alice@b.example"},
		{"small letters", []step{{"auth plain " + alice, "235 2.7.0"}}, "alice@b.example"},
		{"PLAIN asked for", []step{{"AUTH PLAIN", "334 "}, {alice, "235 2.7.0"}}, "alice@b.example"},
		{"PLAIN for oneself", []step{{"AUTH PLAIN " + b64("bob\x00bob\x00builder"), "235"}}, "bob"},
		{"LOGIN", []step{{"AUTH LOGIN", "334 VXNlcm5hbWU6"}, {b64("bob"), "334 UGFzc3dvcmQ6"}, {b64("builder"), "235"}}, "bob"},
		{"LOGIN with the name", []step{{"AUTH LOGIN " + b64("bob"), "334 UGFzc3dvcmQ6"}, {b64("builder"), "235"}}, "bob"},
		{"again after a mistake", []step{{"AUTH PLAIN " + plainLogin("bob", "x"), "535 5.7.8"}, {"AUTH PLAIN " + plainLogin("bob", "builder"), "235"}}, "bob"},
		{"it stays behind EHLO and RSET", []step{{"AUTH PLAIN " + alice, "235"}, {"EHLO again.example", "250"}, {"RSET", "250"}}, "alice@b.example"},

		{"wrong password", []step{{"AUTH PLAIN " + plainLogin("bob", "x"), "535 5.7.8"}}, ""},
		{"unknown user", []step{{"AUTH PLAIN " + plainLogin("mallory", "builder"), "535 5.7.8"}}, ""},
		{"empty password", []step{{"AUTH PLAIN " + plainLogin("bob", ""), "535 5.7.8"}}, ""},
		{"LOGIN, wrong", []step{{"AUTH LOGIN", "334"}, {b64("bob"), "334"}, {b64("x"), "535 5.7.8"}}, ""},
		{"LOGIN, empty password", []step{{"AUTH LOGIN", "334"}, {b64("bob"), "334"}, {"", "535 5.7.8"}}, ""},
		{"LOGIN, no name", []step{{"AUTH LOGIN", "334"}, {"", "501 5.5.2"}}, ""},
		{"for somebody else (CVE-2023-27582)", []step{{"AUTH PLAIN " + b64("alice@b.example\x00bob\x00builder"), "535 5.7.8"}}, ""},
		{"empty", []step{{"AUTH PLAIN =", "501 5.5.2"}}, ""},
		{"one NUL", []step{{"AUTH PLAIN " + b64("bob\x00builder"), "501 5.5.2"}}, ""},
		{"three NULs", []step{{"AUTH PLAIN " + b64("\x00bob\x00builder\x00"), "501 5.5.2"}}, ""},
		{"no user", []step{{"AUTH PLAIN " + b64("\x00\x00builder"), "501 5.5.2"}}, ""},
		{"no UTF-8", []step{{"AUTH PLAIN " + b64("\x00b\xff\x00builder"), "501 5.5.2"}}, ""},
		{"no base64", []step{{"AUTH PLAIN !!!!", "501 5.5.2"}}, ""},
		{"loose base64", []step{{"AUTH PLAIN AGJvYgBidWlsZGVy1=", "501 5.5.2"}}, ""},
		{"two responses", []step{{"AUTH PLAIN " + alice + " " + alice, "501 5.5.2"}}, ""},
		{"no base64 later", []step{{"AUTH PLAIN", "334"}, {"AUTH LOGIN", "501 5.5.2"}}, ""},
		{"cancelled", []step{{"AUTH PLAIN", "334"}, {"*", "501 5.7.0"}, {"NOOP", "250"}}, ""},
		{"cancelled later", []step{{"AUTH LOGIN", "334"}, {b64("bob"), "334"}, {"*", "501 5.7.0"}}, ""},
		{"unknown mechanism", []step{{"AUTH CRAM-MD5", "504 5.5.4"}}, ""},
		{"channel binding is not offered", []step{{"AUTH SCRAM-SHA-256-PLUS " + b64("p=tls-exporter,,n=bob,r=x"), "504 5.5.4"}}, ""},
		{"none named", []step{{"AUTH", "504 5.5.4"}}, ""},
		{"twice", []step{{"AUTH PLAIN " + alice, "235"}, {"AUTH PLAIN " + alice, "503 5.5.1"}}, "alice@b.example"},
		{"in a transaction", []step{{"MAIL FROM:<s@a.example>", "250"}, {"AUTH PLAIN " + alice, "503 5.5.1"}}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g, _ := authGate(t, nil)
			c := g.secured()
			c.run(tt.steps)
			c.do("RSET", "250")
			var user, mech string
			g.mu.Lock()
			g.handler.mailFrom = func(tx *mail.Transaction) mail.Verdict {
				user, mech = tx.Session.User, tx.Session.AuthMech
				return mail.Verdict{}
			}
			g.mu.Unlock()
			c.do("MAIL FROM:<s@a.example>", "250")
			if user != tt.user || (user == "") != (mech == "") {
				t.Errorf("user %q by %q, want %q", user, mech, tt.user)
			}
		})
	}
}

func TestScram(t *testing.T) {
	g, b := authGate(t, nil)
	c := g.secured()
	if got := c.scram("n,,", "alice@b.example", "wonder land"); !strings.HasPrefix(got, "235 2.7.0") {
		t.Fatalf("got %q", got)
	}
	for _, tt := range []struct{ name, header, user, password, want string }{
		{"the client knows channel binding", "y,,", "bob", "builder", "235"},
		{"for oneself", "n,a=bob,", "bob", "builder", "235"},
		{"a name with signs", "n,,", "=3Db=2Cx", "s", "235"},
		{"wrong password", "n,,", "bob", "x", "535 5.7.8"},
		{"unknown user", "n,,", "mallory", "x", "535 5.7.8"},
		{"unknown user, no password", "n,,", "mallory", "", "535 5.7.8"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b.passwords["=b,x"] = "s"
			c := g.secured()
			if got := c.scram(tt.header, tt.user, tt.password); !strings.HasPrefix(got, tt.want) {
				t.Errorf("got %q, want %s", got, tt.want)
			}
		})
	}
	for name, tt := range map[string][]step{
		"asked for":                 {{"AUTH SCRAM-SHA-256", "334 "}, {b64("n,,n=bob,r=x"), "334 "}, {"*", "501 5.7.0"}},
		"channel binding":           {{"AUTH SCRAM-SHA-256 " + b64("p=tls-exporter,,n=bob,r=x"), "501"}},
		"somebody else":             {{"AUTH SCRAM-SHA-256 " + b64("n,a=alice@b.example,n=bob,r=x"), "535"}},
		"a mandatory extension":     {{"AUTH SCRAM-SHA-256 " + b64("n,,m=1,n=bob,r=x"), "501"}},
		"no nonce":                  {{"AUTH SCRAM-SHA-256 " + b64("n,,n=bob,r="), "501"}},
		"a nonce too long":          {{"AUTH SCRAM-SHA-256 " + b64("n,,n=bob,r="+strings.Repeat("x", 129)), "501"}},
		"a name that is none":       {{"AUTH SCRAM-SHA-256 " + b64("n,,n=b=ob,r=x"), "501"}},
		"no header":                 {{"AUTH SCRAM-SHA-256 " + b64("n=bob,r=x"), "501"}},
		"no proof":                  {{"AUTH SCRAM-SHA-256 " + b64("n,,n=bob,r=x"), "334"}, {b64("c=biws,r=x"), "501"}},
		"another nonce":             {{"AUTH SCRAM-SHA-256 " + b64("n,,n=bob,r=x"), "334"}, {b64("c=biws,r=x,p=AAAA"), "535"}},
		"a header that was changed": {{"AUTH SCRAM-SHA-256 " + b64("n,,n=bob,r=x"), "334"}, {b64("c=eSws,r=x,p=AAAA"), "535"}},
	} {
		t.Run(name, func(t *testing.T) { g.secured().run(tt) })
	}
}

// A user who does not exist has a salt, and the same one again.
func TestScramGivesNothingAway(t *testing.T) {
	g, _ := authGate(t, nil)
	challenge := func(user string) (salt, count string) {
		c := g.secured()
		text, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(c.do("AUTH SCRAM-SHA-256 "+b64("n,,n="+user+",r=x"), "334 "), "334 "))
		f := strings.Split(string(text), ",")
		return f[1], f[2]
	}
	_, known := challenge("bob")
	salt, unknown := challenge("mallory")
	again, _ := challenge("mallory")
	if known != unknown || salt != again {
		t.Errorf("iterations %s and %s, salts %s and %s", known, unknown, salt, again)
	}
}

func TestAuthIsOfferedOverTLSOnly(t *testing.T) {
	g, b := authGate(t, nil)
	c := g.greeted()
	c.do("AUTH PLAIN "+plainLogin("bob", "builder"), "503 5.5.1")
	if strings.Contains(c.do("EHLO client.example", "250"), "AUTH") {
		t.Error("offered in clear")
	}
	for _, mech := range []string{"PLAIN " + plainLogin("bob", "builder"), "LOGIN", "SCRAM-SHA-256"} {
		c.do("AUTH "+mech, "538 5.7.11")
	}
	if b.asked != 0 {
		t.Error("a password in clear was looked at")
	}
	c.secure(0)
	c.do("AUTH PLAIN "+plainLogin("bob", "builder"), "503 5.5.1") // EHLO first
	c.do("HELO client.example", "250")
	c.do("AUTH PLAIN "+plainLogin("bob", "builder"), "503 5.5.1") // EHLO, not HELO
	if !strings.Contains(c.do("EHLO client.example", "250"), "AUTH SCRAM-SHA-256 PLAIN LOGIN") {
		t.Error("not offered over TLS")
	}
	c.do("AUTH PLAIN "+plainLogin("bob", "builder"), "235")
	if strings.Contains(c.do("EHLO client.example", "250"), "AUTH") {
		t.Error("offered to one who is logged in")
	}

	b.scram = false
	if reply := g.secured().do("EHLO client.example", "250"); !strings.Contains(reply, "AUTH PLAIN LOGIN") || strings.Contains(reply, "SCRAM") {
		t.Errorf("users without SCRAM: %q", reply)
	}
	none := startTLS(t)
	c = none.secured()
	c.do("AUTH PLAIN "+plainLogin("bob", "builder"), "502 5.5.1")
}

// What was sent in clear behind STARTTLS logs nobody in (CVE-2011-0411).
func TestAuthInjection(t *testing.T) {
	g, b := authGate(t, nil)
	c := g.hello()
	c.send("STARTTLS\r\nEHLO x.example\r\nAUTH PLAIN " + plainLogin("bob", "builder") + "\r\n")
	c.expect("554 5.5.0")
	c.expectClosed()
	if b.asked != 0 {
		t.Error("it was looked at")
	}
}

// Responses may come together; behind a refusal they are neither commands nor
// anything for a log.
func TestAuthPipelined(t *testing.T) {
	g, _ := authGate(t, nil)
	c := g.secured()
	c.send("AUTH LOGIN\r\n" + b64("bob") + "\r\n" + b64("builder") + "\r\nMAIL FROM:<s@a.example>\r\n")
	for _, want := range []string{"334", "334", "235", "250"} {
		c.expect(want)
	}
	for name, first := range map[string]string{"no such mechanism": "AUTH CRAM-MD5", "malformed": "AUTH PLAIN ====", "cancelled": "AUTH LOGIN\r\n*"} {
		t.Run(name, func(t *testing.T) {
			c := g.secured()
			c.send(first + "\r\n" + b64("hunter2") + "\r\nQUIT\r\n")
			for {
				r, err := c.reply()
				if err != nil {
					break
				}
				if strings.HasPrefix(r, "500") || strings.HasPrefix(r, "221") {
					t.Errorf("a response was taken for a command: %q", r)
				}
			}
		})
	}
	if strings.Contains(g.log.String(), b64("hunter2")) || g.handler.count("helo: "+b64("hunter2")) > 0 {
		t.Error("the password is in the log")
	}
}

func TestAuthLines(t *testing.T) {
	g, _ := authGate(t, nil)
	long := b64("\x00bob\x00" + strings.Repeat("x", 8000)) // RFC 4954 4: 12288 must do
	c := g.secured()
	c.run([]step{{"AUTH PLAIN", "334"}, {long, "535"}, {"AUTH PLAIN " + plainLogin("bob", "builder"), "235"}, {"NOOP", "250"}})
	c = g.secured()
	c.do("AUTH PLAIN", "334")
	c.send(strings.Repeat("A", 100_000) + "\r\n")
	c.expect("500 5.5.2")
	c = g.secured()
	c.do("AUTH PLAIN", "334")
	c.send(plainLogin("bob", "builder") + "\n")
	c.expect("500 5.5.2")
	c.expectClosed()
	c = g.secured()
	c.do("AUTH LOGIN", "334")
	_ = c.conn.Close() // in the midst
}

func TestAuthLimit(t *testing.T) {
	g, b := authGate(t, func(c *Config, _ *gate) { c.Limits.LoginDelay = 50 * time.Millisecond })
	c := g.secured()
	began := time.Now()
	c.do("AUTH PLAIN "+plainLogin("bob", "1"), "535 5.7.8")
	c.do("AUTH PLAIN "+plainLogin("mallory", "2"), "535 5.7.8")
	c.do("AUTH PLAIN "+plainLogin("bob", "3"), "421 4.7.0")
	c.expectClosed()
	if took := time.Since(began); took < 150*time.Millisecond {
		t.Errorf("three failures took %v", took)
	}
	if b.asked != 3 || g.stats.get("login PLAIN failed") != 3 {
		t.Errorf("asked %d times, counted %d", b.asked, g.stats.get("login PLAIN failed"))
	}
	if log := g.log.String(); !strings.Contains(log, "user=mallory mech=PLAIN result=failed") || strings.Contains(log, "builder") {
		t.Errorf("log: %s", log)
	}
}

// A source that can't tell is no yes, and no failure of the user.
func TestAuthUnavailable(t *testing.T) {
	g, b := authGate(t, nil)
	b.err = errors.New("directory is down")
	c := g.secured()
	for range 5 {
		c.do("AUTH PLAIN "+plainLogin("bob", "builder"), "454 4.7.0")
	}
	c.do("AUTH SCRAM-SHA-256 "+b64("n,,n=bob,r=x"), "454 4.7.0")
	if !strings.Contains(g.log.String(), "directory is down") || g.stats.get("login PLAIN unavailable") != 5 {
		t.Error("nobody was told")
	}
}

// Two sources: the one that knows decides; one that is down only matters to
// those whom the other does not know.
func TestAuthSources(t *testing.T) {
	second := &book{passwords: map[string]string{"carol": "c"}}
	g, first := authGate(t, func(c *Config, _ *gate) { c.Auth, c.Sources = append(c.Auth, "second"), append(c.Sources, second) })
	g.secured().do("AUTH PLAIN "+plainLogin("carol", "c"), "235")
	g.secured().do("AUTH PLAIN "+plainLogin("bob", "builder"), "235")
	g.secured().do("AUTH PLAIN "+plainLogin("bob", "c"), "535")
	first.err = errors.New("down")
	g.secured().do("AUTH PLAIN "+plainLogin("carol", "c"), "235")
	g.secured().do("AUTH PLAIN "+plainLogin("dave", "d"), "454")
}

// bouncer is a Throttle.
type bouncer struct {
	mu    sync.Mutex
	tried []string
}

func (b *bouncer) Refuses(_ context.Context, client netip.Addr, user string) string {
	if user == "mallory" {
		return "listed"
	}
	return ""
}

func (b *bouncer) Tried(_ context.Context, client netip.Addr, user string, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tried = append(b.tried, fmt.Sprint(client, " ", user, " ", ok))
}

func TestAuthThrottled(t *testing.T) {
	b := &bouncer{}
	g, src := authGate(t, nil)
	g.srv.deps.Throttle = b
	src.passwords["mallory"] = "m"
	c := g.secured()
	c.do("AUTH PLAIN "+plainLogin("mallory", "m"), "454 4.7.0")
	c.do("AUTH SCRAM-SHA-256 "+b64("n,,n=mallory,r=x"), "454 4.7.0")
	if src.asked != 0 {
		t.Error("a password was looked at")
	}
	c.do("AUTH PLAIN "+plainLogin("mallory", "m"), "421 4.7.0")
	c = g.secured()
	c.do("AUTH PLAIN "+plainLogin("bob", "x"), "535")
	c.do("AUTH PLAIN "+plainLogin("bob", "builder"), "235")
	if got := strings.Join(b.tried, "; "); got != "127.0.0.1 bob false; 127.0.0.1 bob true" {
		t.Errorf("tried: %s", got)
	}
}

func TestSubmission(t *testing.T) {
	g, _ := authGate(t, func(c *Config, _ *gate) { c.Role, c.Trusted = Submission, prefixes("127.0.0.0/8") })
	c := g.hello()
	c.do("MAIL FROM:<s@a.example>", "530 5.7.0 send STARTTLS")
	c.secure(0)
	c.do("EHLO client.example", "250")
	c.do("MAIL FROM:<s@a.example>", "530 5.7.0 log in")
	c.do("RCPT TO:<u@b.example>", "503")
	c.do("AUTH PLAIN "+plainLogin("bob", "builder"), "235")
	c.do("MAIL FROM:<s@a.example> AUTH=<>", "250")
	c.do("RCPT TO:<u@b.example>", "250")
	c.do("DATA", "354")
	c.do(simple+".", "250")
	if h := string(g.store.messages()[0].Header); !strings.Contains(h, "with ESMTPSA id ") {
		t.Errorf("header %q", h)
	}
}

// TLS from the first byte on, and not a word before it.
func TestSubmissions(t *testing.T) {
	g, _ := authGate(t, func(c *Config, g *gate) {
		c.Role = Submissions
		c.GreetPause = time.Millisecond
		c.Limits.TLSTimeout = time.Second
	})
	raw := g.dial()
	conn := tls.Client(raw.conn, &tls.Config{InsecureSkipVerify: true})
	c := newClient(t, conn)
	c.r = bufio.NewReader(conn)
	c.expect("220")
	if ext := c.do("EHLO client.example", "250"); strings.Contains(ext, "STARTTLS") || !strings.Contains(ext, "AUTH") {
		t.Errorf("extensions %q", ext)
	}
	c.do("AUTH PLAIN "+plainLogin("bob", "builder"), "235")

	clear := g.dial()
	clear.send("EHLO client.example\r\n")
	if r, err := clear.reply(); err == nil && strings.HasPrefix(r, "2") {
		t.Errorf("somebody in clear was greeted: %q", r)
	}
}

func TestAuthParameter(t *testing.T) {
	g, _ := authGate(t, nil)
	for value, want := range map[string]string{
		"<>": "250", "bob@b.example": "250", "e+3Dmc2@b.example": "250",
		"": "501", "e+3dmc2@b.example": "501", "bob+@b.example": "501", "bob@": "501", "+00@b.example": "501", "<bob@b.example>": "501",
	} {
		c := g.hello()
		c.do("MAIL FROM:<s@a.example> AUTH="+value, want)
	}
}
