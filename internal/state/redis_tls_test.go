package state

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// TLS, and a user that may do only what is needed, with a password that changes.
func TestRedisTLSAndUser(t *testing.T) {
	dir := testkit.Dir(t)
	cert, err := testkit.NewCertificate(dir, "redis.test", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	secure, err := testkit.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	password := filepath.Join(dir, "password")
	write := func(text string) {
		if err := os.WriteFile(password, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first")
	server := testkit.Up(t, testkit.NewRedis(dir,
		"tls-port "+testkit.Port(secure), "tls-cert-file "+cert.Cert, "tls-key-file "+cert.Key, "tls-ca-cert-file "+cert.Cert, "tls-auth-clients no",
		"user gate on >first ~gp:* +@read +@write +@scripting +@connection +time"))
	options := "?prefix=gp:&password_file=" + password
	open := func(address string) bench {
		return bench{Store: openRedis(t, address, Options{Timeout: 5 * time.Second})}
	}
	tls := open("rediss://gate@" + secure + "/0" + options + "&server_name=redis.test&ca_file=" + cert.Cert)
	plain := open("redis://gate@" + server.Addr + "/0" + options)
	tls.put(t, Windows, "k", "v", time.Hour)
	plain.wants(t, Windows, "k=v", "k")
	must[int](t)(plain.Count(t.Context(), "k", 1, time.Hour))
	must[time.Duration](t)(plain.Take(t.Context(), "k", Rate{1, time.Hour}, 1))
	tr := policy
	tr.Auto = 2
	must[Grey](t)(plain.Grey(t.Context(), tr))
	if _, ok, err := plain.Enter(t.Context(), "k", "i", 1, time.Hour); !ok || err != nil {
		t.Errorf("enter: %v", err)
	}
	must[[]Entry](t)(plain.List(t.Context(), Windows, "", 10))
	if err := errors.Join(plain.Leave(t.Context(), "k", "i"), plain.Store.(*Redis).probe(t.Context())); err != nil {
		t.Error(err)
	}

	for address, want := range map[string]string{
		"rediss://gate@" + secure + options + "&server_name=other.test&ca_file=" + cert.Cert: "certificate",
		"rediss://gate@" + secure + options:                                                  "certificate",
		"redis://gate:wrong@" + server.Addr + "?prefix=gp:":                                  "WRONGPASS",
		"redis://gate@" + server.Addr + strings.Replace(options, "gp:", "other:", 1):         "NOPERM",
		"redis://gate@" + secure + options:                                                   "reach",
	} {
		r := openRedis(t, address, Options{Timeout: time.Second})
		if err := r.Put(t.Context(), Windows, "k", "v", time.Hour); !errors.Is(err, ErrAway) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "first") {
			t.Errorf("%s: %v, want %q", address, err, want)
		}
	}

	admin := openRedis(t, "redis://"+server.Addr, Options{})
	if err := admin.client.Do(t.Context(), "ACL", "SETUSER", "gate", "resetpass", ">second").Err(); err != nil {
		t.Fatal(err)
	}
	write("second")
	open("redis://gate@"+server.Addr+options).wants(t, Windows, "k=v", "k")
}
