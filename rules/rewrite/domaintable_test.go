package rewrite

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gatepost/internal/mail"
)

func domaintableFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "domaintable")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDomaintable(t *testing.T) {
	r, err := Load(Config{Domaintable: domaintableFile(t, "# old names\nOLD.example\tnew.example\nnew.example newest.example\nbücher.example books.example\n")})
	if err != nil {
		t.Fatal(err)
	}
	for from, want := range map[string]string{
		"u@old.example":           "u@new.example", // and no further
		"U+d@Old.Example":         "U+d@new.example",
		"u@new.example":           "u@newest.example",
		"u@a.old.example":         "u@a.old.example",
		"u@xn--bcher-kva.example": "u@books.example",
		"u@other.example":         "u@other.example",
		"postmaster":              "postmaster",
		"u@[192.0.2.1]":           "u@[192.0.2.1]",
	} {
		a, err := mail.ParseAddress(from, true)
		if err != nil {
			t.Fatal(err)
		}
		to, err := r.Incoming(a)
		if err != nil || len(to.To) != 1 || to.To[0].String() != want {
			t.Errorf("%s: %v %v, want %s", from, to, err, want)
		}
	}
}

// The new domain's users are those of virtusertable and aliases.
func TestDomaintableComesFirst(t *testing.T) {
	r, err := Load(Config{
		Domaintable:   domaintableFile(t, "old.example new.example\n"),
		Virtusertable: domaintableFile(t, "info@new.example joe@inner.example\n"), VirtualDomains: []string{"new.example"},
	})
	if err != nil {
		t.Fatal(err)
	}
	to, err := r.Incoming(mail.Address{Local: "info", Domain: "old.example"})
	if err != nil || len(to.To) != 1 || to.To[0].String() != "joe@inner.example" {
		t.Errorf("%v %v", to, err)
	}
}

func TestDomaintableErrors(t *testing.T) {
	if _, err := Load(Config{Domaintable: domaintableFile(t, "a.example b.example\nold.example\n")}); err == nil || !strings.Contains(err.Error(), ":2: old.example has no value") {
		t.Errorf("a line without a value: %v", err)
	}
	path := domaintableFile(t, "bad..example new.example\nx.example a b\ny.example y.example\nz.example [192.0.2.1]\nw.example u@new.example\n")
	_, err := Load(Config{Domaintable: path})
	if err == nil || strings.Count(err.Error(), path+":") != 5 {
		t.Errorf("want five errors, got\n%v", err)
	}
	if _, err := Load(Config{Domaintable: "/nonexistent/domaintable"}); err == nil || !strings.HasPrefix(err.Error(), "domaintable: ") {
		t.Errorf("a file that is not there: %v", err)
	}
}
