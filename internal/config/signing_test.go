package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gatepost/internal/dkim"
	"gatepost/internal/sign"
)

// Keys lie in files that are closed to others, which a repository can't keep.
func TestSigning(t *testing.T) {
	dir := t.TempDir()
	for name, kind := range map[string]dkim.KeyType{"rsa.pem": dkim.RSA, "ed.pem": dkim.Ed25519} {
		private, err := dkim.Generate(kind, 1024)
		if err != nil {
			t.Fatal(err)
		}
		text, err := dkim.EncodeKey(private)
		if err != nil {
			t.Fatal(err)
		}
		for suffix, mode := range map[string]os.FileMode{"": 0o600, ".open": 0o644} {
			if err := os.WriteFile(filepath.Join(dir, name+suffix), text, mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	section := func(name, file, more string) string {
		return fmt.Sprintf("[dkim.key.%s]\ndomain = \"example.com\"\nselector = %q\nfile = %q\n%s\n", name, name, filepath.Join(dir, file), more)
	}
	for _, tt := range []struct{ name, text, want string }{
		{"both kinds", section("a", "rsa.pem", "") + section("b", "ed.pem", "subdomains = true"), ""},
		{"in turn", section("a", "rsa.pem", "until = 2026-08-01") + section("b", "rsa.pem", "from = 2026-07-01"), ""},
		{"a chain", section("a", "rsa.pem", "") + "[arc]\nwhen = \"changed\"\nkey = \"a\"\n", ""},
		{"open to all", section("a", "rsa.pem.open", ""), "dkim.key.a.file: key " + dir},
		{"two that sign", section("a", "rsa.pem", "") + section("b", "rsa.pem", ""), "would both sign"},
		{"a chain of Ed25519", section("b", "ed.pem", "") + "[arc]\nwhen = \"always\"\nkey = \"b\"\n", "arc.key: b is an Ed25519 key"},
		{"a chain without key", "[arc]\nwhen = \"always\"\n", "arc.key: missing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			head := "hostname = \"mx1.example.com\"\nrelay.domains = [\"example.com\"]\nlistener.mx.address = \"0.0.0.0:25\"\nroute.\"example.com\".to = \"smtp://x.example.com\"\n"
			c, err := read("gw.toml", head+tt.text, true)
			switch {
			case tt.want == "" && err != nil, tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Fatalf("error = %v, want %q", err, tt.want)
			case tt.want == "" && c.Sign.DKIM.Key == nil:
				t.Error("no keys")
			}
		})
	}
	c, err := read("gw.toml", "hostname = \"mx1.example.com\"\nrelay.domains = [\"example.com\"]\nlistener.mx.address = \"0.0.0.0:25\"\nroute.\"example.com\".to = \"smtp://x.example.com\"\n"+section("a", "rsa.pem", "from = 2026-07-01\nuse = \"publish\""), true)
	if err != nil {
		t.Fatal(err)
	}
	if k := c.Sign.DKIM.Key["a"]; k.From.String() != "2026-07-01" || k.Use != sign.UsePublish || c.Sign.Hostname != "mx1.example.com" {
		t.Errorf("key = %+v", k)
	}
}
