package users

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// logins are what every source on another host must get right; alice has the
// password "wonder land".
var logins = []struct {
	name           string
	user, password string
	ok             bool
}{
	{"right", "alice", "wonder land", true},
	{"right again", "alice", "wonder land", true},
	{"a password with signs", "bob", `b*u(i)l\der,"é`, true},
	{"wrong", "alice", "wonderland", false},
	{"empty password", "alice", "", false},
	{"unknown", "mallory", "wonder land", false},
	{"no user", "", "wonder land", false},
	{"a filter for everybody", "*", "wonder land", false},
	{"the end of a filter", "alice)(uid=*", "wonder land", false},
	{"a DN", "alice,ou=people", "wonder land", false},
	{"another DN", "bob+uid=alice", "wonder land", false},
	{"a blank behind it", "alice ", "wonder land", false},
	{"NUL", "alice\x00", "wonder land", false},
	{"NUL in the password", "alice", "wonder land\x00x", false},
	{"line ends", "alice\nAUTH", "wonder land", false},
	{"a tab", "alice\tx=y", "wonder land", false},
	{"long", strings.Repeat("a", 256), "wonder land", false},
	{"a long password", "alice", strings.Repeat("a", 1025), false},
}

func checkLogins(t *testing.T, s Source) {
	t.Helper()
	var all sync.WaitGroup
	for _, l := range logins {
		all.Go(func() {
			name, ok, err := s.Verify(t.Context(), Login{User: l.user, Password: l.password, Client: "192.0.2.1"})
			if ok != l.ok || err != nil || ok && name != l.user {
				t.Errorf("%s: %q, %v, %v; want %v", l.name, name, ok, err, l.ok)
			}
		})
	}
	all.Wait()
}

func slapd(t *testing.T) *testkit.Slapd {
	t.Helper()
	dir := testkit.Dir(t)
	cert, err := testkit.NewCertificate(dir, "localhost")
	if err != nil {
		t.Fatal(err)
	}
	s := testkit.NewSlapd(dir)
	s.Certificate = cert
	s.Add(s.Person("alice", "wonder land", "alice@example.com", "a.liddell@example.com"))
	s.Add(s.Person("bob", `b*u(i)l\der,"é`, "bob@example.com"))
	s.Add(s.Person("nopass", "", "nopass@example.com"))
	return testkit.Up(t, s)
}

func secret(t *testing.T, text string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(p, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestLDAP(t *testing.T) {
	s := slapd(t)
	base := DefaultLDAPConfig()
	base.CAFile = s.Certificate.Cert
	search := base
	search.Base, search.BindDN, search.BindPasswordFile = "ou=people,"+s.Base, s.BindDN, secret(t, s.Password)
	search.Senders = []string{"mail", "proxyAddresses"}
	template := base
	template.DN = "uid=%u,ou=people," + s.Base
	open := func(cfg LDAPConfig, servers ...string) *LDAP {
		cfg.Servers = servers
		l, err := NewLDAP(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	nobody := "ldap://127.0.0.1:1"
	for name, l := range map[string]*LDAP{
		"search over StartTLS":   open(search, "ldap://"+s.Addr),
		"search over TLS":        open(search, "ldaps://"+s.TLSAddr),
		"template over StartTLS": open(template, "ldap://"+s.Addr),
		"the second server":      open(template, nobody, "ldaps://"+s.TLSAddr),
	} {
		t.Run(name, func(t *testing.T) {
			checkLogins(t, l)
			if _, ok, err := l.Verify(t.Context(), Login{User: "nopass", Password: "x"}); ok || err != nil {
				t.Errorf("a user without a password: %v %v", ok, err)
			}
		})
	}

	l := open(search, "ldap://"+s.Addr)
	got, err := l.Senders(t.Context(), "alice")
	if want := []string{"alice@example.com", "alice@example.com", "a.liddell@example.com"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("senders %q, %v", got, err)
	}
	if got, err := l.Senders(t.Context(), "mallory"); err != nil || len(got) != 0 {
		t.Errorf("senders of nobody: %q, %v", got, err)
	}

	stranger, err := testkit.NewCertificate(testkit.Dir(t), "localhost")
	if err != nil {
		t.Fatal(err)
	}
	wrong := search
	wrong.CAFile = stranger.Cert
	reader := search
	reader.BindPasswordFile = secret(t, "not it")
	many := search
	many.Filter = "(|(uid=%u)(objectClass=inetOrgPerson))"
	clear := template
	clear.StartTLS = false
	if _, ok, err := open(clear, "ldap://"+s.Addr).Verify(t.Context(), Login{User: "alice", Password: "wonder land"}); !ok || err != nil {
		t.Errorf("in clear, as the admin wants it: %v, %v", ok, err)
	}
	for name, tt := range map[string]struct {
		l    *LDAP
		want string
	}{
		"a certificate of somebody": {open(wrong, "ldap://"+s.Addr), "certificate"},
		"the same over ldaps":       {open(wrong, "ldaps://"+s.TLSAddr), "certificate"},
		"nobody there":              {open(search, nobody), "refused"},
		"the reader's password":     {open(reader, "ldaps://"+s.TLSAddr), "Invalid Credentials"},
		"two entries":               {open(many, "ldaps://"+s.TLSAddr), "more than one entry"},
	} {
		t.Run(name, func(t *testing.T) {
			_, ok, err := tt.l.Verify(t.Context(), Login{User: "alice", Password: "wonder land"})
			if ok || err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, %v; want %q", ok, err, tt.want)
			}
		})
	}
}

func TestDovecot(t *testing.T) {
	d := testkit.Up(t, testkit.NewDovecotAuth(testkit.Dir(t), map[string]string{"alice": "wonder land", "bob": `b*u(i)l\der,"é`}))
	cfg := DefaultDovecotConfig()
	cfg.Socket = d.Socket
	source, err := NewDovecot(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("logins", func(t *testing.T) { checkLogins(t, source) })
	t.Run("restart", func(t *testing.T) {
		if err := d.Stop(); err != nil {
			t.Fatal(err)
		}
		if _, ok, err := source.Verify(t.Context(), Login{User: "alice", Password: "wonder land"}); ok || err == nil {
			t.Errorf("while it is away: %v, %v", ok, err)
		}
		if err := d.Start(); err != nil {
			t.Fatal(err)
		}
		if _, ok, err := source.Verify(t.Context(), Login{User: "alice", Password: "wonder land"}); !ok || err != nil {
			t.Errorf("when it is back: %v, %v", ok, err)
		}
	})
	t.Run("the client is gone", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, ok, err := source.Verify(ctx, Login{User: "alice", Password: "wrong"}); ok || err == nil { // it makes us wait
			t.Errorf("%v, %v", ok, err)
		}
	})
}
