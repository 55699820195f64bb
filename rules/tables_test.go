package rules

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A bad line anywhere refuses the load, and nothing of it comes out.
func TestLoadRefuses(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	badAccess := write("access", "From:a.example REJECT\nFrom:b.example\n")
	badList := write("domains", "# ours\nexample.com # main\n\n.sub.example\n10.0.0.0/8\nbad..example\n")
	tests := []struct {
		name  string
		relay Relay
		err   []string
	}{
		{"access map", Relay{Access: badAccess}, []string{badAccess + ":2: From:b.example has no value"}},
		{"list", Relay{Domains: []string{"file:" + badList}}, []string{
			badList + `:5: "10.0.0.0/8" is an address; write clients into relay.networks`,
			badList + `:6: "bad..example": address: empty label`,
		}},
		{"both", Relay{Access: badAccess, Domains: []string{"file:" + badList}}, []string{badAccess + ":2:", badList + ":5:"}},
		{"no such map", Relay{Access: dir + "/none"}, []string{"relay.access: open " + dir + "/none"}},
		{"no such list", Relay{Domains: []string{"file:" + dir + "/none"}}, []string{"relay.domains: open " + dir + "/none"}},
		{"a folder", Relay{Access: dir}, []string{dir + ":1: read " + dir}},
		{"entry", Relay{Domains: []string{"example.com", "a b"}}, []string{`relay.domains[1]: "a b" is more than one entry`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := DefaultConfig()
			cfg.Relay = tt.relay
			s, err := Load(cfg)
			if s != nil || err == nil {
				t.Fatalf("loaded %v, error %v", s, err)
			}
			for _, want := range tt.err {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error = %v\nwant a line with %q", err, want)
				}
			}
		})
	}
}

func TestDomainLists(t *testing.T) {
	list := filepath.Join(t.TempDir(), "relay-domains")
	if err := os.WriteFile(list, []byte("# ours\r\nExample.COM. # main\r\n\r\n  .sub.example\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := Relay{Domains: []string{"file:" + list, "bücher.example", "[192.0.2.1]"}}.local(true)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(d.Names()), "[.sub.example [192.0.2.1] example.com xn--bcher-kva.example]"; got != want {
		t.Errorf("relay domains %s, want %s", got, want)
	}
	for domain, want := range map[string]bool{
		"example.com": true, "h.example.com": false, "notexample.com": false, "com": false,
		"sub.example": false, "a.sub.example": true, "a.b.sub.example": true, "asub.example": false,
		"xn--bcher-kva.example": true, "[192.0.2.1]": true, "[192.0.2.2]": false, "": false,
	} {
		if _, got := d.Has(domain); got != want {
			t.Errorf("contains(%q) = %v, want %v", domain, got, want)
		}
	}
}

func BenchmarkMessage(b *testing.B) {
	s := oracle(b)
	tx := judged(b, []string{"u@local.example"}, append(spam(2.3, "ALL_TRUSTED", "HTML_MESSAGE"), clean())...)
	b.ReportAllocs()
	for b.Loop() {
		s.Decide(tx, nil)
	}
}
