package state

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct{ address, want string }{
		{"sqlite:/var/lib/x.db", "sqlite:/var/lib/x.db"},
		{"sqlite:/a b?c#d", "sqlite:/a b?c#d"},
		{"redis://10.0.0.9", "redis://10.0.0.9:6379/0"},
		{"redis://10.0.0.9:7000/3", "redis://10.0.0.9:7000/3"},
		{"redis://[2001:db8::1]:7000/3", "redis://[2001:db8::1]:7000/3"},
		{"redis://[2001:db8::1]", "redis://[2001:db8::1]:6379/0"},
		{"rediss://u:p%40ss@r.example/1", "rediss://r.example:6379/1 u p@ss"},
		{"redis://:secret@r.example", "redis://r.example:6379/0  secret"},
		{"redis://u:p@ss/w@r.example", "!%2F"},
		{"redis://u:p?w@r.example", "!%3F"},
		{"redis://u:p@x@r.example", "redis://r.example:6379/0 u p@x"},
		{"redis-sentinel://h1,h2:5000/main", "redis-sentinel://h1:26379,h2:5000/main/0"},
		{"rediss-sentinel://h1/main/4?sentinel_password_file=/s&sentinel_user=u", "rediss-sentinel://h1:26379/main/4"},
		{"redis-cluster://h1,h2,h3:7003", "redis-cluster://h1:6379,h2:6379,h3:7003"},
		{"redis://h?password_file=/p&prefix=gw1.", "redis://h:6379/0"},

		{"", "!no kind of store"},
		{"redis", "!no kind of store"},
		{"redis:h", "!no kind of store"},
		{"sqlite3:/x", `!"sqlite3" is no kind`},
		{"sqlite:x.db", "!not absolute"},
		{"sqlite://x.db", "!not absolute"},
		{"sqlite:/x/", "!a directory"},
		{"sqlite:/x\x00y", "!NUL"},
		{"redis://", "!no host"},
		{"redis://:6379", "!is no host"},
		{"redis://h1,h2", "!more than one host"},
		{"redis://h:0", "!no port"},
		{"redis://h:70000", "!no port"},
		{"redis://h:x", "!no port"},
		{"redis://a b", "!is no host"},
		{"redis://1::2::3", "!is no host"},
		{"redis://h/-1", "!no number of a database"},
		{"redis://h/x", "!no number of a database"},
		{"redis://h/0/1", "!no number of a database"},
		{"redis://u@h", "!a user without a password"},
		{"redis://u:%zz@h", "!%25"},
		{"redis://u:p@h?password_file=/p", "!both a password"},
		{"redis://h?password_file=p", "!no absolute path"},
		{"redis://h?prefix=", "!want one value"},
		{"redis://h?prefix=a&prefix=b", "!want one value"},
		{"redis://h?prefix={a}", "!prefix: want up to"},
		{"redis://h?timeout=5s&db=1", "!no option \"db\"\nno option \"timeout\""},
		{"redis://h?%zz", "!can't be read"},
		{"redis://h?ca_file=/ca", "!write rediss"},
		{"rediss://h?cert_file=/c", "!belong together"},
		{"redis://h?sentinel_user=u", "!are for redis-sentinel"},
		{"redis-sentinel://h", "!no name of a master"},
		{"redis-sentinel://h/main/1/2", "!no name of a master"},
		{"redis-cluster://h/1", "!no numbered databases"},
	} {
		c, err := Parse(tt.address)
		if want, bad := strings.CutPrefix(tt.want, "!"); bad {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %+v, %v; want error %q", tt.address, c, err, want)
			}
			continue
		}
		got := c.String()
		if c.Password != "" {
			got += fmt.Sprintf(" %s %s", c.User, c.Password)
		}
		if err != nil || got != tt.want {
			t.Errorf("%q: %q, %v; want %q", tt.address, got, err, tt.want)
		}
	}
}

// No error shows a password.
func TestParseKeepsSecrets(t *testing.T) {
	for _, address := range []string{
		"secret@h", "redis://u:secret%zz@h", "redis://u:secret@h:x", "redis://u:secret@h?no=x", "redis://u:secret@", "redis://u:secret@h/x", "mysql://u:secret@h", "secret", "u:secret@h", "redis://u:/secret@h", "redis://u:?secret@h", "redis://u:x@/secret@h",
	} {
		if _, err := Parse(address); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", address, err)
		}
	}
}

func TestCheckFiles(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"empty": "\n", "pem": "no certificate", "large": strings.Repeat("x", maxPassword+1), "good": "pass word\r\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct{ query, want string }{
		{"password_file=" + dir + "/good", ""},
		{"password_file=" + dir + "/none", "no such file"},
		{"password_file=" + dir + "/empty", "is empty"},
		{"password_file=" + dir + "/large", "is larger"},
		{"ca_file=" + dir + "/none", "ca_file: open"},
		{"ca_file=" + dir + "/pem", "has no certificate"},
		{"cert_file=" + dir + "/pem&key_file=" + dir + "/pem", "cert_file: "},
	} {
		c, err := Parse("rediss://h?" + tt.query)
		if err != nil {
			t.Fatal(err)
		}
		if err = c.CheckFiles(); tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", tt.query, err, tt.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"sqlite:/x", "redis://u:p@h:1/0?prefix=x", "redis-sentinel://a,b/m/0", "redis-cluster://[::1]:1,h", "rediss://h?ca_file=/x", "redis://@/?"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := Parse(s)
		if err == nil && c.Kind != KindSQLite {
			again, err := Parse(c.String())
			if err != nil || again.String() != c.String() {
				t.Errorf("%q: %q, then %q, %v", s, c, again, err)
			}
		}
	})
}
