package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"gatepost/internal/testkit"
	"gatepost/internal/users"
)

// withUsers is a configuration with users of every kind, and its directory.
func withUsers(t *testing.T, more string) (dir, text string) {
	t.Helper()
	dir = t.TempDir()
	cert, err := testkit.NewCertificate(dir, "mx1.example.com")
	if err != nil {
		t.Fatal(err)
	}
	if err := users.Set(filepath.Join(dir, "users"), "alice", "wonder land", users.Account{}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	text = strings.NewReplacer("DIR", dir, "CERT", cert.Cert, "KEY", cert.Key).Replace(`
hostname = "mx1.example.com"
[relay]
domains = ["example.com"]
[route."example.com"]
to = ["smtp://exchange.example.com"]
[route."."]
to = ["mx"]
[listener.submission]
address      = "0.0.0.0:587"
role         = "submission"
tls_cert     = "CERT"
tls_key      = "KEY"
auth         = ["local", "ldap", "dovecot", "nexthop"]
sender_login = "reject"
limits       = { max_login_failures = 5, login_delay = "1s" }
[listener.smtps]
address           = "0.0.0.0:465"
role              = "submissions"
tls_cert          = "CERT"
tls_key           = "KEY"
auth              = "local"
client_ca         = "CERT"
client_cert_relay = ["CN=relay.example.com", "sha256:`+strings.Repeat("0a:", 31)+`0a"]
[auth.local]
kind = "file"
file = "DIR/users"
[auth.ldap]
servers            = ["ldap://ldap.example.com", "ldaps://ldap2.example.com:6360", "ldapi://%2Frun%2Fldapi"]
bind_dn            = "cn=gatepost,dc=example,dc=com"
bind_password_file = "DIR/secret"
base               = "dc=example,dc=com"
filter             = "(mail=%u)"
senders            = ["mail", "proxyAddresses"]
[auth.dovecot]
socket = "/run/dovecot/auth-client"
[auth.nexthop]
server  = "smtps://mail.example.com"
ca_file = "CERT"
[login]
user_failures = 5
`) + more
	return dir, text
}

func TestUsers(t *testing.T) {
	_, text := withUsers(t, "")
	c, err := read("x", text, true)
	if err != nil {
		t.Fatal(err)
	}
	l, smtps := c.Listeners[0], c.Listeners[1]
	var kinds []string
	for _, s := range l.Sources {
		kinds = append(kinds, reflect.TypeOf(s).String())
	}
	if got := strings.Join(kinds, " "); got != "*users.File *users.LDAP *users.Dovecot *users.NextHop" {
		t.Errorf("sources %s", got)
	}
	if len(smtps.Sources) != 1 || smtps.Sources[0] != l.Sources[0] || l.SenderLogin != "reject" || l.Limits.MaxLoginFailures != 5 {
		t.Errorf("listeners %+v, %+v", l, smtps)
	}
	want := users.DefaultThrottleConfig()
	want.UserFailures = 5
	if c.Login != want || len(c.Warnings) != 0 {
		t.Errorf("login %+v, warnings %v", c.Login, c.Warnings)
	}
}

func TestUnusedUsers(t *testing.T) {
	_, text := withUsers(t, "[auth.other]\nkind = \"dovecot\"\nsocket = \"/run/other\"\n")
	c, err := read("x", text, true)
	if err != nil || len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0].Error(), "auth.other: no listener uses it") {
		t.Errorf("%v, %v", c, err)
	}
}

// A file with a wrong line is named with the line.
func TestUsersFileWithMistakes(t *testing.T) {
	dir, text := withUsers(t, "")
	path := filepath.Join(dir, "users")
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("bob plain-text\n"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = read("x", text, true)
	if err == nil || !strings.Contains(err.Error(), path+":3: bob: want $argon2id$") {
		t.Errorf("%v", err)
	}
}

// The command that makes the file can't wait for a configuration without
// mistakes: that the file is missing is one.
func TestUserFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "gatepost.toml")
	for text, want := range map[string]string{
		"[auth.local]\nkind = \"file\"\nfile = \"/a\"\n[auth.ldap]\nbase = 1":    "/a",
		"[auth.file]\nfile = \"/b\"\n[x]\ny = 1":                                 "/b",
		"[auth.a]\nkind = \"ldap\"\nfile = \"/c\"":                               "",
		"[auth.a]\nkind = \"file\"\nfile = \"/d\"\n[auth.file]\nfile = \"/d\"\n": "/d",
		"no toml": "",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(UserFiles(file, false), " "); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
