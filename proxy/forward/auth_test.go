package forward

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// mechanisms is a server for PLAIN, LOGIN and SCRAM-SHA-256 with one user.
type mechanisms struct {
	user, password string
	lies           bool // SCRAM: does not know the password

	mu    sync.Mutex
	state map[string][]string // by session
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func unb64(s string) string {
	b, _ := base64.StdEncoding.DecodeString(s)
	return string(b)
}

const (
	loggedIn = "235 2.7.0 welcome"
	loggedNo = "535 5.7.8 authentication failed"
)

func (m *mechanisms) verdict(ok bool) string {
	if ok {
		return loggedIn
	}
	return loggedNo
}

func (m *mechanisms) answer(id, line string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if line == "*" {
		return "501 5.7.0 as you wish"
	}
	if rest, ok := strings.CutPrefix(line, "AUTH "); ok {
		m.state[id] = strings.Fields(rest)
	} else {
		m.state[id] = append(m.state[id], line)
	}
	s := m.state[id]
	switch {
	case s[0] == "PLAIN":
		return m.verdict(len(s) == 2 && unb64(s[1]) == "\x00"+m.user+"\x00"+m.password)
	case s[0] == "LOGIN" && len(s) == 1:
		return "334 " + b64("User Name:")
	case s[0] == "LOGIN" && len(s) == 2:
		return "334 " + b64("pass?")
	case s[0] == "LOGIN":
		return m.verdict(unb64(s[1]) == m.user && unb64(s[2]) == m.password)
	case s[0] == scramSHA256 && len(s) <= 4:
		return m.scram(s)
	}
	return "504 5.5.4 what?"
}

// scram is the server's part of RFC 5802, written from the RFC.
func (m *mechanisms) scram(s []string) string {
	const salt, count = "salt-salt", 4096
	bare, _ := strings.CutPrefix(unb64(s[1]), "n,,")
	_, nonce, _ := strings.Cut(bare, ",r=")
	first := "r=" + nonce + "server,s=" + b64(salt) + ",i=4096"
	if len(s) == 2 {
		return "334 " + b64(first)
	}
	salted, _ := pbkdf2.Key(sha256.New, m.password, []byte(salt), count, 32)
	sign := func(key []byte, text string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	final, proof64, _ := strings.Cut(unb64(s[2]), ",p=")
	message := bare + "," + first + "," + final
	client := sign(salted, "Client Key")
	stored := sha256.Sum256(client)
	want := make([]byte, 32)
	subtle.XORBytes(want, client, sign(stored[:], message))
	good := proof64 == b64(string(want)) && final == "c=biws,r="+nonce+"server" && strings.HasPrefix(bare, "n="+m.user+",")
	switch {
	case m.lies && len(s) == 3:
		return "334 " + b64("v="+b64("anything"))
	case !good:
		return loggedNo
	case len(s) == 3:
		return "334 " + b64("v="+b64(string(sign(sign(salted, "Server Key"), message))))
	}
	return m.verdict(len(s) == 4 && s[3] == "")
}

// TestLogin: each mechanism, and what a login may not be.
func TestLogin(t *testing.T) {
	root := newIssuer(t, "root")
	const refused = "deferred 451 4.7.8 login: "
	tests := []struct {
		name     string
		offer    string
		auth     Auth
		password string
		smtps    bool
		lies     bool
		script   script
		want     string
		mech     string
	}{
		{"PLAIN", "AUTH PLAIN", "", "secret", false, false, nil, sent, "PLAIN"},
		{"LOGIN", "AUTH LOGIN", "", "secret", false, false, nil, sent, "LOGIN"},
		{"SCRAM", "AUTH SCRAM-SHA-256", "", "secret", false, false, nil, sent, "SCRAM-SHA-256"},
		{"the best", "AUTH LOGIN PLAIN scram-sha-256 DIGEST-MD5", "", "secret", false, false, nil, sent, "SCRAM-SHA-256"},
		{"the chosen", "AUTH LOGIN PLAIN SCRAM-SHA-256", AuthLogin, "secret", false, false, nil, sent, "LOGIN"},
		{"smtps", "AUTH PLAIN", "", "secret", true, false, nil, sent, "PLAIN"},
		{"wrong password", "AUTH PLAIN", "", "wrong", false, false, nil, refused + "the next hop refuses PLAIN as user: 535 5.7.8 authentication failed; check username and password_file of the route", "PLAIN"},
		{"wrong password, LOGIN", "AUTH LOGIN", "", "wrong", false, false, nil, refused + "…", "LOGIN"},
		{"wrong password, SCRAM", "AUTH SCRAM-SHA-256", "", "wrong", false, false, nil, refused + "…", "SCRAM-SHA-256"},
		{"an impostor", "AUTH SCRAM-SHA-256", "", "secret", false, true, nil, refused + "SCRAM-SHA-256 as user: the server does not know…", "SCRAM-SHA-256"},
		{"nothing in common", "AUTH CRAM-MD5", "", "secret", false, false, nil, refused + "the next hop offers no way to log in that we may use, only \"CRAM-MD5\"…", ""},
		{"chosen is not offered", "AUTH PLAIN", AuthSCRAM, "secret", false, false, nil, refused + "…", ""},
		{"not offered", "XYZ", "", "secret", false, false, nil, refused + "…", ""},
		{"421", "AUTH PLAIN", "", "secret", false, false, script{"AUTH": "421 4.3.2 later"}, "deferred 421 4.3.2 later", "PLAIN"},
		{"235 at once", "AUTH SCRAM-SHA-256", "", "secret", false, false, script{"AUTH": "235 welcome"}, refused + "SCRAM-SHA-256 as user: the next hop did not prove…", "SCRAM-SHA-256"},
		{"334 for ever", "AUTH PLAIN", "", "secret", false, false, script{"AUTH": "334 eA=="}, refused + "…", "PLAIN"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := &mechanisms{user: "user", password: "secret", lies: tt.lies, state: make(map[string][]string)}
			p := &peer{offers: append([]string{tt.offer}, allOffers...), cert: root.server(valid(), "127.0.0.1"), smtps: tt.smtps}
			p.auth = func(id, line string) string {
				if reply, ok := tt.script["AUTH"]; ok && line != "*" {
					return reply
				}
				return m.answer(id, line)
			}
			startPeer(t, p)
			url := p.url()
			if tt.smtps {
				url = strings.Replace(url, "smtp:", "smtps:", 1)
			}
			r := quick(url)
			r.TLS = TLSVerify
			secret := filepath.Join(t.TempDir(), "secret")
			writeFile(t, secret, tt.password+"\n", 0o600)
			r.Identity = Identity{Username: "user", PasswordFile: secret, Auth: tt.auth}
			var log strings.Builder
			f, err := New(Config{Hostname: "mx.example.net", Routes: map[string]Route{".": r}, RootCAs: root.pool()}, slog.New(slog.NewTextHandler(&log, nil)))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			check(t, deliver(t, f, envelope(t, "a@example.com"), hello), tt.want)
			all := strings.Join(p.commands()[0], "\n")
			if tt.mech != "" && !strings.Contains(all, "AUTH "+tt.mech) || tt.mech == "" && strings.Contains(all, "AUTH") {
				t.Errorf("want %q:\n%s", tt.mech, all)
			}
			if tt.want != sent && strings.Contains(all, "MAIL") {
				t.Errorf("mail was begun:\n%s", all)
			}
			if strings.HasPrefix(tt.want, refused) && !strings.Contains(log.String(), "level=ERROR") {
				t.Errorf("nobody was called:\n%s", log.String())
			}
			if strings.Contains(log.String(), "secret") {
				t.Errorf("the log has the password:\n%s", log.String())
			}
		})
	}
}

// TestNoPasswordInClear: whatever the configuration says.
func TestNoPasswordInClear(t *testing.T) {
	p := startPeer(t, &peer{offers: append([]string{"AUTH PLAIN"}, allOffers...)})
	f := newForwarder(t, quick(p.url()))
	for _, r := range f.current.Load().byKey {
		r.settings.account = account{user: "user", password: "secret"}
	}
	check(t, deliver(t, f, envelope(t, "a@example.com"), hello), "deferred 451 4.7.8 login: no password is given over a connection in clear")
}

// TestClientCertificate is shown when it is asked for, and a reload shows the
// new one.
func TestClientCertificate(t *testing.T) {
	root := newIssuer(t, "root")
	p := &peer{offers: allOffers, cert: root.server(valid(), "127.0.0.1")}
	p.tls.ClientAuth, p.tls.ClientCAs = tls.RequireAndVerifyClientCert, root.pool()
	var mu sync.Mutex
	var seen []string
	p.tls.VerifyConnection = func(s tls.ConnectionState) error {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, s.PeerCertificates[0].DNSNames[0])
		return nil
	}
	startPeer(t, p)
	r := quick(p.url())
	r.TLS = TLSRequired
	r.ClientCert, r.ClientKey = pemFiles(t, root.server(valid(), "one.example"))
	cfg := Config{Hostname: "mx.example.net", Routes: map[string]Route{".": r}}
	f, err := New(cfg, quietLog(t))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	check(t, deliver(t, f, envelope(t, "a@example.com"), hello), sent)
	cert, key := pemFiles(t, root.server(valid(), "two.example"))
	r.ClientCert, r.ClientKey = cert, key
	cfg.Routes["."] = r
	if err := f.Update(cfg); err != nil {
		t.Fatal(err)
	}
	check(t, deliver(t, f, envelope(t, "a@example.com"), hello), sent)
	mu.Lock()
	defer mu.Unlock()
	if got := strings.Join(seen, " "); got != "one.example two.example" {
		t.Errorf("seen %q", got)
	}
}

// TestCAFile: with it no other issuer counts.
func TestCAFile(t *testing.T) {
	ours, public := newIssuer(t, "ours"), newIssuer(t, "public")
	caFile, _ := pemFiles(t, &tls.Certificate{Certificate: [][]byte{ours.cert.Raw}, PrivateKey: ours.key})
	for _, tt := range []struct {
		name string
		by   *issuer
		want string
	}{{"ours", ours, sent}, {"another", public, "deferred 451 4.7.5 TLS handshake: x509: certificate signed by unknown authority (the route's tls = \"verify\"…"}} {
		p := startPeer(t, &peer{offers: allOffers, cert: tt.by.server(valid(), "127.0.0.1")})
		r := quick(p.url())
		r.TLS, r.CAFile = TLSVerify, caFile
		f, err := New(Config{Hostname: "mx.example.net", Routes: map[string]Route{".": r}, RootCAs: public.pool()}, quietLog(t))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		check(t, deliver(t, f, envelope(t, "a@example.com"), hello), tt.want)
	}
}

// TestSMTPS: TLS from the first byte on, never in clear.
func TestSMTPS(t *testing.T) {
	root := newIssuer(t, "root")
	for _, tt := range []struct {
		name   string
		policy TLS
		smtps  bool
		want   string
	}{
		{"verify", TLSVerify, true, sent},
		{"opportunistic", TLSOpportunistic, true, sent},
		{"a server in clear", TLSOpportunistic, false, "deferred 451 4.7.5 TLS handshake: …"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := &peer{offers: allOffers, cert: root.server(valid(), "127.0.0.1"), smtps: tt.smtps}
			if !tt.smtps {
				p.scripts = []script{{"banner": "220 hello!hang"}}
			}
			startPeer(t, p)
			r := quick(strings.Replace(p.url(), "smtp:", "smtps:", 1))
			r.TLS = tt.policy
			f, err := New(Config{Hostname: "mx.example.net", Routes: map[string]Route{".": r}, RootCAs: root.pool()}, quietLog(t))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			check(t, deliver(t, f, envelope(t, "a@example.com"), hello), tt.want)
			if tt.want == sent && !p.got()[0].tls {
				t.Error("in clear")
			}
		})
	}
}

// TestIdentityErrors: what does not go together is refused.
func TestIdentityErrors(t *testing.T) {
	dir := t.TempDir()
	root := newIssuer(t, "root")
	cert, key := pemFiles(t, root.server(valid(), "a.example"))
	_, other := pemFiles(t, root.server(valid(), "b.example"))
	file := func(name, text string, mode uint32) string {
		path := filepath.Join(dir, name)
		writeFile(t, path, text, 0o600)
		chmod(t, path, mode)
		return path
	}
	good := file("good", "secret\n", 0o600)
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	tests := []struct {
		name string
		tls  TLS
		i    Identity
		to   string
		want string // "": is taken
	}{
		{"nothing", TLSOpportunistic, Identity{}, "", ""},
		{"all", TLSVerify, Identity{CAFile: cert, ClientCert: cert, ClientKey: key, Username: "u", PasswordFile: good, Auth: AuthPlain, XClient: XClientForward}, "", ""},
		{"credential", TLSVerify, Identity{Username: "u", PasswordFile: "good"}, "", ""},
		{"xclient", TLSNone, Identity{XClient: XClientFull}, "", ""},
		{"no such xclient", TLSNone, Identity{XClient: "yes"}, "", `xclient "yes": want none, xforward or xclient`},
		{"no such auth", TLSVerify, Identity{Username: "u", PasswordFile: good, Auth: "cram-md5"}, "", `auth "cram-md5": want`},
		{"ca_file without verify", TLSRequired, Identity{CAFile: cert}, "", `ca_file: no certificate is compared with it; set tls = "verify"`},
		{"ca_file is not there", TLSVerify, Identity{CAFile: "/does/not/exist"}, "", "ca_file: open /does/not/exist: no such file"},
		{"ca_file has none", TLSVerify, Identity{CAFile: good}, "", "holds no certificate in PEM"},
		{"cert without key", TLSRequired, Identity{ClientCert: cert}, "", "client_cert: is there without client_key"},
		{"key without cert", TLSRequired, Identity{ClientKey: key}, "", "client_key: is there without client_cert"},
		{"another's key", TLSRequired, Identity{ClientCert: cert, ClientKey: other}, "", "client_cert: tls: private key does not match public key"},
		{"cert without TLS", TLSNone, Identity{ClientCert: cert, ClientKey: key}, "", "client_cert: can't be shown without TLS"},
		{"password without name", TLSVerify, Identity{PasswordFile: good}, "", "password_file: is there without username"},
		{"name without password", TLSVerify, Identity{Username: "u"}, "", "username: is there without password_file"},
		{"auth without name", TLSVerify, Identity{Auth: AuthPlain}, "", "auth: is there without username"},
		{"password in clear", TLSOpportunistic, Identity{Username: "u", PasswordFile: good}, "", "username: a password is given only to a host whose certificate fits"},
		{"password to anybody", TLSRequired, Identity{Username: "u", PasswordFile: good}, "", "username: a password is given only to a host whose certificate fits"},
		{"two identities", TLSVerify, Identity{Username: "u", PasswordFile: good, XClient: XClientFull}, "", "xclient: who logs in can't be somebody else, too"},
		{"password for everybody", TLSVerify, Identity{Username: "u", PasswordFile: file("open", "x", 0o604)}, "", "everybody may read"},
		{"empty password", TLSVerify, Identity{Username: "u", PasswordFile: file("empty", "\n", 0o600)}, "", "must hold the password in one line"},
		{"two lines", TLSVerify, Identity{Username: "u", PasswordFile: file("two", "a\nb\n", 0o600)}, "", "must hold the password in one line"},
		{"long", TLSVerify, Identity{Username: "u", PasswordFile: file("long", strings.Repeat("a", 2000), 0o600)}, "", "longer than"},
		{"out of the credentials", TLSVerify, Identity{Username: "u", PasswordFile: "../good"}, "", "no file in $CREDENTIALS_DIRECTORY"},
		{"smtps in clear", TLSNone, Identity{}, "smtps://mail.test", `tls: "none" can't be with smtps`},
		{"mta-sts of a host", TLSSTS, Identity{}, "", `tls: "mta-sts" asks the policy of a domain`},
		{"auto of a host", TLSAuto, Identity{}, "", `tls: "auto" asks the policy of a domain`},
		{"dane of a host", TLSDANE, Identity{}, "", ""},
		{"dane of an address", TLSDANE, Identity{}, "smtp://192.0.2.1", `tls: "dane" needs the host's name`},
		{"mta-sts of a domain", TLSSTS, Identity{}, "mx", ""},
		{"socket", TLSVerify, Identity{}, "lmtp+unix:///run/x", `tls: "verify" can't be with a unix socket`},
	}
	for _, tt := range tests {
		to := tt.to
		if to == "" {
			to = "smtp://mail.test"
		}
		cfg := Config{Hostname: "mx.example.net", Routes: map[string]Route{".": {To: []string{to}, TLS: tt.tls, Identity: tt.i}}}
		err := cfg.Validate()
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}

// TestSharedHosts: routes with the same files meet in the same hosts.
func TestSharedHosts(t *testing.T) {
	cert, _ := pemFiles(t, newIssuer(t, "root").server(valid(), "a.example"))
	r := Route{To: []string{"smtp://mail.test"}, TLS: TLSVerify, Identity: Identity{CAFile: cert}}
	f, err := New(Config{Hostname: "mx.example.net", Routes: map[string]Route{"a.test": r, "b.test": r}, RootCAs: x509.NewCertPool()}, quietLog(t))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	env := envelope(t, "x@a.test", "x@b.test")
	one, _ := f.Route(env.Recipients[0].Address)
	two, _ := f.Route(env.Recipients[1].Address)
	if one != two {
		t.Errorf("%q and %q", one, two)
	}
}
