package config

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatepost/filters"
)

var update = flag.Bool("update", false, "rewrite the expected messages")

// files returns the configurations of a folder of testdata.
func files(t *testing.T, folder string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join("testdata", folder, "*.toml"))
	if err != nil || len(all) == 0 {
		t.Fatalf("no files in %s: %v", folder, err)
	}
	return all
}

// compare holds what was said of a file to the text beside it.
func compare(t *testing.T, file, got string) {
	t.Helper()
	golden := strings.TrimSuffix(file, ".toml") + ".txt"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s:\n got:\n%s\nwant:\n%s", file, got, want)
	}
}

func TestBad(t *testing.T) {
	all := files(t, "bad")
	if len(all) < 20 {
		t.Errorf("%d bad files, want 20 or more", len(all))
	}
	for _, file := range all {
		t.Run(filepath.Base(file), func(t *testing.T) {
			c, err := Load(file)
			if err == nil || c != nil {
				t.Fatalf("Load = %v, %v; want an error", c, err)
			}
			if _, ok := err.(Problems); !ok {
				t.Fatalf("error is %T, want Problems", err)
			}
			compare(t, file, err.Error()+"\n")
		})
	}
}

func TestGood(t *testing.T) {
	for _, file := range files(t, "good") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			c, err := Load(file)
			if err != nil {
				t.Fatal(err)
			}
			warnings := ""
			for _, w := range c.Warnings {
				warnings += w.Error() + "\n"
			}
			compare(t, file, warnings)
		})
	}
}

func TestDefaults(t *testing.T) {
	c, err := Load("testdata/good/shortest.toml")
	if err != nil {
		t.Fatal(err)
	}
	if c.Spool != "/var/spool/gatepost" || c.Control != "/run/gatepost/control.sock" || c.Console.Address != "" {
		t.Errorf("spool %q, control %q, console %q", c.Spool, c.Control, c.Console.Address)
	}
	l := c.Listeners[0]
	if len(c.Listeners) != 1 || l.Name != "mx" || l.Hostname != "mx1.example.com" || l.Postmaster.String() != "postmaster@example.com" {
		t.Errorf("listeners = %+v", c.Listeners)
	}
	if len(c.Filters) != 0 || *c.Rules.Policy.Reject != 15 {
		t.Errorf("filters %+v, policy %+v", c.Filters, c.Rules.Policy)
	}
}

func TestPostmasterOfAList(t *testing.T) {
	c, err := Load("testdata/good/list-only.toml")
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Listeners[0].Postmaster.String(); got != "postmaster@example.net" {
		t.Errorf("postmaster = %s, want that of the list's domain", got)
	}
}

// TestEverything holds every kind of value to what the file says.
func TestEverything(t *testing.T) {
	c, err := Load("testdata/good/everything.toml")
	if err != nil {
		t.Fatal(err)
	}
	in, out := c.Listeners[0], c.Listeners[1]
	if in.Name != "mx" || out.Name != "inside" {
		t.Fatalf("listeners in the order %s, %s; want that of the file", in.Name, out.Name)
	}
	if in.Limits.MaxSize != 25_000_000 || out.Limits.MaxSize != 100<<20 || out.Limits.MaxRecipients != 5000 || in.Limits.MaxRecipients != 200 {
		t.Errorf("limits of mx %+v, of inside %+v", in.Limits, out.Limits)
	}
	if len(in.Trusted) != 2 || in.Trusted[1].String() != "192.0.2.7/32" {
		t.Errorf("trusted = %v", in.Trusted)
	}
	if c.Filtering.OnErrorByListener["inside"] != filters.Continue || len(c.Filtering.OnErrorByListener) != 1 {
		t.Errorf("on_error by listener = %v", c.Filtering.OnErrorByListener)
	}
	if c.Queue.MaxAge != 5*24*time.Hour || c.Queue.FirstRetry != 90*time.Second {
		t.Errorf("queue = %+v", c.Queue)
	}
	if len(c.Filters) != 3 || c.Filters[0].Name != "spamassassin" || c.Filters[1].Name != "av2" || c.Filters[1].ClamAV == nil || c.Filters[2].ClamAV.Timeout != time.Minute {
		t.Errorf("filters = %+v", c.Filters)
	}
	vip := c.Rules.Policy.For["vip@example.com"]
	if vip.Quarantine == nil || *vip.Quarantine != 7 || vip.Reject != nil {
		t.Errorf("policy of vip = %+v", vip)
	}
	if r := c.Forward.Routes["example.com"]; len(r.To) != 2 || r.ConnectTimeout != 10*time.Second || r.MaxMessages != 100 {
		t.Errorf("route = %+v", r)
	}
}

func TestLoadForScan(t *testing.T) {
	if _, err := LoadForScan("testdata/bad/no-listener.toml"); err != nil {
		t.Errorf("LoadForScan without a listener: %v", err)
	}
	if _, err := LoadForScan("testdata/bad/words.toml"); err == nil {
		t.Error("LoadForScan of a bad file: no error")
	}
}

func TestLoadMissing(t *testing.T) {
	if _, err := Load("testdata/none.toml"); !os.IsNotExist(unwrap(err)) {
		t.Errorf("Load of a file that is not there = %v", err)
	}
}

func unwrap(err error) error {
	if u, ok := err.(interface{ Unwrap() error }); ok {
		return u.Unwrap()
	}
	return err
}

// FuzzRead feeds it what people and editors leave behind: it must answer, with
// the place of each problem.
func FuzzRead(f *testing.F) {
	for _, folder := range []string{"bad", "good"} {
		all, _ := filepath.Glob(filepath.Join("testdata", folder, "*.toml"))
		for _, file := range all {
			text, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(string(text))
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "file:") || strings.Contains(text, "access") || strings.Contains(text, "tls") ||
			strings.Contains(text, "mailertable") || strings.Contains(text, "transport") || strings.Contains(text, "check_rules") || strings.Contains(text, "aliases") || strings.Contains(text, "_file") || strings.Contains(text, "table") || strings.Contains(text, "allow_file") || strings.Contains(text, "rules") {
			return // no files of strangers
		}
		_, err := read("x.toml", text, true)
		problems, ok := err.(Problems)
		if err != nil && (!ok || len(problems) == 0) {
			t.Fatalf("error is %T: %v", err, err)
		}
		for _, p := range problems {
			if p.Line < 1 || p.Column < 1 || p.What == "" {
				t.Errorf("problem without a place or a word: %+v", p)
			}
		}
	})
}
