package users

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func path(t testing.TB) string { return filepath.Join(t.TempDir(), "users") }

func open(t testing.TB, path string) *File {
	t.Helper()
	f, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFile(t *testing.T) {
	p := path(t)
	for _, u := range [][2]string{{"Alice", "first"}, {"bob@example.com", "pässword with blanks"}, {"alice", "wonderland"}} {
		if err := Set(p, u[0], u[1], Account{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := Set(p, "carol", "x", Account{Senders: []string{"carol@example.com", "@sales.example.com"}, Role: "helpdesk", Domains: []string{"example.com"}}); err != nil {
		t.Fatal(err)
	}
	f := open(t, p)
	if a := f.Account("Carol"); a.Role != "helpdesk" || !slices.Equal(a.Domains, []string{"example.com"}) || len(a.Senders) != 2 {
		t.Errorf("carol is %+v", a)
	}
	if a := f.Account("alice"); a.Role != "" || len(a.Senders)+len(a.Domains) > 0 {
		t.Errorf("alice is %+v", a)
	}
	for _, bad := range []Account{{Role: "a b"}, {Role: "x:y"}, {Role: "viewer", Domains: []string{"no domain"}}} {
		if err := Set(p, "dave", "x", bad); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
	for _, tt := range []struct {
		name, user, password, as string
		ok                       bool
	}{
		{"good", "alice", "wonderland", "alice", true},
		{"in capitals", "ALICE", "wonderland", "alice", true},
		{"an old password", "alice", "first", "", false},
		{"another case", "alice", "Wonderland", "", false},
		{"none", "alice", "", "", false},
		{"beyond ASCII", "bob@example.com", "pässword with blanks", "bob@example.com", true},
		{"nobody", "dave", "wonderland", "", false},
		{"no name", "", "wonderland", "", false},
		{"a NUL", "alice", "wonderland\x00", "", false},
		{"too long", "alice", strings.Repeat("x", 2000), "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			as, ok, err := f.Verify(t.Context(), Login{User: tt.user, Password: tt.password})
			if ok != tt.ok || ok && as != tt.as || err != nil {
				t.Errorf("%q %v %v", as, ok, err)
			}
		})
	}
	if s, _ := f.Senders(t.Context(), "Carol"); len(s) != 2 {
		t.Errorf("senders %v", s)
	}
	if s, _ := f.Senders(t.Context(), "alice"); s != nil {
		t.Errorf("senders %v", s)
	}
	if err := Remove(p, "ALICE"); err != nil {
		t.Fatal(err)
	}
	if names, err := Names(p); err != nil || strings.Join(names, " ") != "bob@example.com carol" {
		t.Errorf("%v %v", names, err)
	}
	if err := Remove(p, "alice"); !errors.Is(err, ErrUnknown) {
		t.Errorf("%v", err)
	}
	if info, err := os.Stat(p); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v %v", info.Mode(), err)
	}
}

// derive is the key that a client makes of its password.
func derive(password string, c Credentials) ([]byte, error) {
	salted, err := pbkdf2.Key(sha256.New, password, c.Salt, c.Iterations, sha256.Size)
	return mac(salted, "Client Key"), err
}

// prove is the client's side of SCRAM for a password.
func prove(c Credentials, password, message string) bool {
	d, err := derive(password, c)
	if err != nil {
		return false
	}
	signature := mac(c.StoredKey, message)
	proof := make([]byte, len(signature))
	for i := range proof {
		proof[i] = signature[i] ^ d[i]
	}
	key := make([]byte, len(proof))
	for i := range key {
		key[i] = proof[i] ^ signature[i]
	}
	sum := sha256.Sum256(key)
	return hmac.Equal(sum[:], c.StoredKey)
}

func TestScram(t *testing.T) {
	p := path(t)
	if err := Set(p, "alice", "wonderland", Account{}); err != nil {
		t.Fatal(err)
	}
	f := open(t, p)
	_, c, known, err := f.Scram(t.Context(), "alice")
	if err != nil || !known || !prove(c, "wonderland", "n=alice") || prove(c, "other", "n=alice") {
		t.Errorf("known %v, %v", known, err)
	}
	_, a, known, _ := f.Scram(t.Context(), "nobody")
	_, b, _, _ := f.Scram(t.Context(), "NOBODY")
	_, other, _, _ := f.Scram(t.Context(), "somebody")
	if known || string(a.Salt) != string(b.Salt) || string(a.Salt) == string(other.Salt) || a.Iterations != c.Iterations {
		t.Errorf("made up: %+v %+v", a, b)
	}
	if !f.HasScram() {
		t.Error("not all can")
	}
}

func TestBadFile(t *testing.T) {
	good := newHash("x").String()
	for _, tt := range []struct{ name, text, want string }{
		{"a plain password", "alice secret", ":1: alice: want $argon2id"},
		{"a name alone", "alice", ":1: 1 columns"},
		{"twice", "alice " + good + "\n# comment\n\nALICE " + good, ":4: alice is already in line 1"},
		{"no SCRAM", "alice " + good + " SCRAM-SHA-256$1:x$y:z", `"1" iterations`},
		{"no sender", "alice " + good + " - alice", `"alice" is no sender`},
		{"a bomb", "alice $argon2id$v=19$m=99999999,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "too large"},
		{"a bomb of time", "alice $argon2id$v=19$m=19456,t=4000000000,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "too large"},
		{"no salt", "alice $argon2id$v=19$m=19456,t=2,p=1$$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "a salt or hash"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := path(t)
			if err := os.WriteFile(p, []byte(tt.text+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := OpenFile(p); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
	p := path(t)
	if err := os.WriteFile(p, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenFile(p); err == nil || !strings.Contains(err.Error(), "everybody") {
		t.Errorf("%v", err)
	}
	for _, name := range []string{"", "a b", "a:b", "#a", "a\x1b[0m"} {
		if err := Set(path(t), name, "x", Account{}); err == nil {
			t.Errorf("%q was taken", name)
		}
	}
}

// A client that hangs up does not wait for its turn.
func TestBusy(t *testing.T) {
	p := path(t)
	if err := Set(p, "alice", "wonderland", Account{}); err != nil {
		t.Fatal(err)
	}
	f := open(t, p)
	for range hashesAtOnce {
		f.slots <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, ok, err := f.Verify(ctx, Login{User: "alice", Password: "wonderland"}); ok || !errors.Is(err, context.Canceled) {
		t.Errorf("%v %v", ok, err)
	}
}
