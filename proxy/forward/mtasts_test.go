package forward

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const enforced = "version: STSv1\r\nmode: enforce\r\nmx: mx.example.com\r\nmx: *.mail.example.com\r\nmax_age: 604800\r\n"

func TestParseSTSPolicy(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"RFC 8461 3.2", enforced, "enforce [mx.example.com *.mail.example.com] 168h0m0s"},
		{"LF, blanks, no final end", "version:STSv1\nmode:  testing \nmx:MX.Example.COM\nmax_age :1", "testing [mx.example.com] 1s"},
		{"unknown fields", "version: STSv1\nfuture: x\nmode: none\nmax_age: 86400\n\n", "none [] 24h0m0s"},
		{"twice: the first counts", "version: STSv1\nmode: enforce\nmode: none\nmx: a.example\nmax_age: 5\nmax_age: 6", "enforce [a.example] 5s"},
		{"a year at most", "version: STSv1\nmode: none\nmax_age: 9999999999", "none [] 8766h0m0s"},
		{"internationalised", "version: STSv1\nmode: enforce\nmx: *.bücher.example\nmax_age: 5", "enforce [*.xn--bcher-kva.example] 5s"},
		{"other version", "version: STSv2\nmode: none\nmax_age: 5", "error"},
		{"no version", "mode: none\nmax_age: 5", "error"},
		{"no mode", "version: STSv1\nmx: a.example\nmax_age: 5", "error"},
		{"no max_age", "version: STSv1\nmode: none", "error"},
		{"no mx", "version: STSv1\nmode: enforce\nmax_age: 5", "error"},
		{"unknown mode", "version: STSv1\nmode: Enforce\nmx: a.example\nmax_age: 5", "error"},
		{"negative", "version: STSv1\nmode: none\nmax_age: -5", "error"},
		{"eleven digits", "version: STSv1\nmode: none\nmax_age: 00000000001", "error"},
		{"wildcard inside", "version: STSv1\nmode: enforce\nmx: a.*.example\nmax_age: 5", "error"},
		{"wildcard alone", "version: STSv1\nmode: enforce\nmx: *\nmax_age: 5", "error"},
		{"half a label", "version: STSv1\nmode: enforce\nmx: *mx.example\nmax_age: 5", "error"},
		{"address", "version: STSv1\nmode: enforce\nmx: [192.0.2.1]\nmax_age: 5", "error"},
		{"HTML", "<!doctype html>\n<title>404</title>", "error"},
		{"empty", "", "error"},
	}
	for _, tt := range tests {
		p, err := parseSTSPolicy(tt.text)
		got := string(p.mode) + " [" + strings.Join(p.mx, " ") + "] " + p.maxAge.String()
		if err != nil {
			got = "error"
		}
		if got != tt.want {
			t.Errorf("%s: got %s (%v), want %s", tt.name, got, err, tt.want)
		}
	}
}

func FuzzParseSTSPolicy(f *testing.F) {
	f.Add(enforced)
	f.Add("version: STSv1\nmode: none\nmax_age: 1")
	f.Add("mx: *.\nmx:\n:\n")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parseSTSPolicy(text)
		if err != nil {
			return
		}
		if p.maxAge < 0 || p.maxAge > maxSTSAge || len(p.mx) > maxSTSHosts || p.mode == "" {
			t.Errorf("%+v", p)
		}
		for _, host := range []string{"", ".", "example.com", "[192.0.2.1]"} {
			if p.allows(host) && !slices.Contains(p.mx, host) {
				t.Errorf("%q is allowed by %q", host, p.mx)
			}
		}
	})
}

func TestSTSAllows(t *testing.T) {
	p := stsPolicy{mx: []string{"mx.example.com", "*.mail.example.com"}}
	for host, want := range map[string]bool{
		"mx.example.com": true, "MX.Example.com": true, "mx.example.com.": true,
		"a.mail.example.com": true, "mail.example.com": false, "a.b.mail.example.com": false,
		"evilmail.example.com": false, "mx.example.com.evil.example": false, "x.mx.example.com": false, "": false,
	} {
		if got := p.allows(host); got != want {
			t.Errorf("%q: %v", host, got)
		}
	}
}

func TestSTSID(t *testing.T) {
	tests := []struct {
		name    string
		records []string
		want    string
	}{
		{"RFC 8461 3.1", []string{"v=STSv1; id=20160831085700Z;"}, "20160831085700Z"},
		{"no final semicolon, blanks", []string{"v=STSv1 ;\tid = abc"}, "abc"},
		{"other fields, other records", []string{"v=spf1 -all", "v=STSv1; x=y; id=1;"}, "1"},
		{"two", []string{"v=STSv1; id=1;", "v=STSv1; id=2;"}, ""},
		{"no id", []string{"v=STSv1; x=1;"}, ""},
		{"other version", []string{"v=STSv10; id=1;"}, ""},
		{"lower case", []string{"v=stsv1; id=1;"}, ""},
		{"odd id", []string{"v=STSv1; id=a-b;"}, ""},
		{"long id", []string{"v=STSv1; id=" + strings.Repeat("a", 33)}, ""},
		{"none", nil, ""},
	}
	for _, tt := range tests {
		if got, ok := stsID(tt.records); got != tt.want && ok || ok != (tt.want != "") {
			t.Errorf("%s: %q, %v", tt.name, got, ok)
		}
	}
}

// stsServer is what a domain publishes.
type stsServer struct {
	id      string // "": no record
	text    string
	err     error
	fetched int
}

func (s *stsServer) record(context.Context, string) (string, bool) { return s.id, s.id != "" }

func (s *stsServer) fetch(context.Context, string) (string, error) {
	s.fetched++
	return s.text, s.err
}

// TestSTSCache: when a policy is fetched, and what outlives what.
func TestSTSCache(t *testing.T) {
	const testing1 = "version: STSv1\nmode: testing\nmx: mx.example.com\nmax_age: 604800\n"
	type step struct {
		after   time.Duration
		change  func(s *stsServer)
		restart bool
		want    stsMode
		fetched int // in total
	}
	gone := errors.New("gone")
	tests := []struct {
		name  string
		steps []step
	}{
		{"nothing published", []step{{want: stsNone}, {after: time.Hour, want: stsNone}}},
		{"kept", []step{
			{change: func(s *stsServer) { s.id, s.text = "1", enforced }, want: stsEnforce, fetched: 1},
			{after: time.Minute, want: stsEnforce, fetched: 1},
		}},
		{"another id", []step{
			{change: func(s *stsServer) { s.id, s.text = "1", enforced }, want: stsEnforce, fetched: 1},
			{after: time.Minute, change: func(s *stsServer) { s.id, s.text = "2", testing1 }, want: stsTesting, fetched: 2},
		}},
		{"the record is hidden", []step{
			{change: func(s *stsServer) { s.id, s.text = "1", enforced }, want: stsEnforce, fetched: 1},
			{after: time.Minute, change: func(s *stsServer) { s.id, s.err = "", gone }, want: stsEnforce, fetched: 1},
			{after: 6 * 24 * time.Hour, want: stsEnforce, fetched: 2}, // tried for its age
			{after: 25 * time.Hour, want: stsNone, fetched: 2},        // it has ended
		}},
		{"the server is away", []step{
			{change: func(s *stsServer) { s.id, s.err = "1", gone }, want: stsNone, fetched: 1},
			{after: 4 * time.Minute, want: stsNone, fetched: 1},
			{after: 2 * time.Minute, change: func(s *stsServer) { s.text, s.err = enforced, nil }, want: stsEnforce, fetched: 2},
			{after: time.Minute, change: func(s *stsServer) { s.id, s.err = "2", gone }, want: stsEnforce, fetched: 3},
			{after: time.Minute, want: stsEnforce, fetched: 3},
		}},
		{"a policy that can't be read", []step{
			{change: func(s *stsServer) { s.id, s.text = "1", enforced }, want: stsEnforce, fetched: 1},
			{after: time.Minute, change: func(s *stsServer) { s.id, s.text = "2", "<html>" }, want: stsEnforce, fetched: 2},
		}},
		{"renewed once a day", []step{
			{change: func(s *stsServer) { s.id, s.text = "1", enforced }, want: stsEnforce, fetched: 1},
			{after: 25 * time.Hour, want: stsEnforce, fetched: 2},
			{after: 23 * time.Hour, want: stsEnforce, fetched: 2},
		}},
		{"taken back", []step{
			{change: func(s *stsServer) { s.id, s.text = "1", enforced }, want: stsEnforce, fetched: 1},
			{after: time.Minute, change: func(s *stsServer) { s.id, s.text = "2", "version: STSv1\nmode: none\nmax_age: 60" }, want: stsNone, fetched: 2},
		}},
		{"survives a restart", []step{
			{change: func(s *stsServer) { s.id, s.text = "1", enforced }, want: stsEnforce, fetched: 1},
			{restart: true, change: func(s *stsServer) { s.id, s.err = "", gone }, want: stsEnforce, fetched: 1},
			{restart: true, after: 8 * 24 * time.Hour, want: stsNone, fetched: 1},
		}},
		{"the clock goes back", []step{
			{change: func(s *stsServer) { s.id, s.text = "1", enforced }, want: stsEnforce, fetched: 1},
			{after: -24 * time.Hour, want: stsEnforce, fetched: 2},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "mta-sts")
			now := time.Date(2026, 1, 5, 8, 0, 0, 0, time.UTC)
			server := &stsServer{}
			open := func() *stsCache {
				c := newSTSCache(dir, quietLog(t))
				c.now = func() time.Time { return now }
				return c
			}
			c := open()
			for i, s := range tt.steps {
				now = now.Add(s.after)
				if s.change != nil {
					s.change(server)
				}
				if s.restart {
					c = open()
				}
				p, err := c.policy(t.Context(), server, "example.com")
				if err != nil || p.mode != s.want || server.fetched != s.fetched {
					t.Errorf("step %d: mode %s, %d fetched, %v; want %s, %d", i, p.mode, server.fetched, err, s.want, s.fetched)
				}
			}
		})
	}
}

// TestSTSFiles: damaged files are none, and old ones are cleared away.
func TestSTSFiles(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	good := "id: 1\nfetched: " + now.UTC().Format(time.RFC3339) + "\n\n" + enforced
	for name, text := range map[string]string{
		"good.example": good, "cut.example": good[:60], "empty.example": "", "noise.example": "\x00\xff",
		"date.example": strings.Replace(good, "fetched: 2", "fetched: x", 1),
		"old.example":  "id: 1\nfetched: 2020-01-01T00:00:00Z\n\n" + enforced,
		".new-123":     good,
	} {
		writeFile(t, filepath.Join(dir, name), text, 0o600)
	}
	files := stsFiles(dir)
	files.sweep(now)
	for name, want := range map[string]bool{"good.example": true, "cut.example": false, "empty.example": false, "noise.example": false, "date.example": false} {
		if got := files.read(name) != nil; got != want {
			t.Errorf("%s: readable = %v", name, got)
		}
	}
	for _, name := range []string{"old.example", ".new-123"} {
		if _, err := os.Stat(filepath.Join(dir, name)); !os.IsNotExist(err) {
			t.Errorf("%s is still there", name)
		}
	}
}

// TestSTSCacheBounded: however many domains there are.
func TestSTSCacheBounded(t *testing.T) {
	c := newSTSCache("", quietLog(t))
	for i := range maxDomains + 100 {
		c.domain("d" + time.Duration(i).String())
	}
	if len(c.domains) > maxDomains {
		t.Errorf("%d domains in memory", len(c.domains))
	}
}

// TestSTSCacheGivesUp: who waits for another's fetch can be called off.
func TestSTSCacheGivesUp(t *testing.T) {
	c := newSTSCache("", quietLog(t))
	c.domain("example.com").busy <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.policy(ctx, &stsServer{}, "example.com"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
