package integration

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"gatepost/internal/testkit"
)

// Mail from outside that we change is sealed: its chain so far holds or there is
// none. python3-dkim made what came, and reads what goes out.
func TestSealing(t *testing.T) {
	s := newSigning(t, "sender.test. 60 IN TXT \"v=spf1 ip4:127.0.0.1 -all\"")
	s.Config.Set("arc", "when", `"changed"`)
	s.Config.Set("arc", "key", `"s1"`)
	s.Config.Set("filter.auth", "check_ours", "true") // the client is this host
	s.Config.Set("filter.auth", "timeout", `"60s"`)
	s.Config.Set(`policy`, "dmarc", `"ignore"`)
	s.Config.Set("text.banner", "text", `"From outside."`)
	s.Config.Set("text.banner", "trusted", `["unchanged.test"]`)
	testkit.Up(t, s.Gateway)
	py := testkit.NewDKIMPy(t)
	key, err := os.ReadFile(s.files["next"])
	if err != nil {
		t.Fatal(err)
	}
	s.records["hop._domainkey.example.com"] = s.records["next._domainkey.example.com"]
	hop := func(message []byte, more string) []byte { // the one before us
		t.Helper()
		sealed, err := py.Seal(append([]byte("Authentication-Results: hop.test; spf=pass smtp.mailfrom=first.test"+more+"\r\n"), message...), "example.com", "next", string(key), "hop.test")
		if err != nil {
			t.Fatal(err)
		}
		return sealed
	}
	once := hop(testkit.Message("2", "two", "hello"), "")
	twice := hop(once, "; arc=pass")
	calm := func(m []byte) []byte { // no banner: no text to put it into
		return bytes.Replace(m, []byte("text/plain;"), []byte("text/x-plain;"), 1)
	}
	for i, tt := range []struct {
		name    string
		message []byte
		sets    int    // that arrive
		want    string // what python3-dkim says of them
	}{
		{"no chain", testkit.Message("1", "one", "hello"), 1, "pass"},
		{"one before us", once, 2, "pass"},
		{"two before us", twice, 3, "pass"},
		{"a broken one", append(bytes.Clone(once), "more\r\n"...), 1, "fail"},
		{"unchanged", calm(testkit.Message("5", "five", "hello")), 0, "none"},
		{"unchanged, with a chain", hop(calm(testkit.Message("6", "six", "hello")), ""), 1, "pass"},
	} {
		sendWant(t, s.Addr, letter(tt.message), testkit.Dot, 250)
		got := waitMails(t, s.sink, i+1)[i].Data
		if n := strings.Count("\r\n"+string(got), "\r\nARC-Seal:"); n != tt.sets {
			t.Errorf("%s: %d sets, want %d\n%.3000s", tt.name, n, tt.sets, got)
		}
		if cv, err := py.VerifyARC(got, s.records); err != nil || cv != tt.want {
			t.Errorf("%s: python3-dkim says %q, %v; want %q\n%.3000s", tt.name, cv, err, tt.want, got)
		}
		if tt.want == "pass" && tt.sets > strings.Count("\r\n"+string(tt.message), "\r\nARC-Seal:") {
			want := fmt.Sprintf("i=%d; mx1.example.com; ", tt.sets)
			if results := field(string(got), "ARC-Authentication-Results"); !strings.HasPrefix(results, want) || !strings.Contains(results, "spf=pass") {
				t.Errorf("%s: results %q", tt.name, results)
			}
			if !bytes.Contains(got, []byte("From outside.")) {
				t.Errorf("%s: no banner", tt.name)
			}
		}
	}
}
