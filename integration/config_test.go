package integration

import (
	"os"
	"strings"
	"testing"
)

// A wrong configuration: exit 78, every error at its place, and nothing starts.
func TestWrongConfiguration(t *testing.T) {
	g := newGateway(t, binaries.plain, "127.0.0.1:1")
	good := g.Config.Text()
	replace := func(old, with string) string { return strings.Replace(good, old, with, 1) }
	tests := []struct {
		name string
		text string
		says []string
	}{
		{"unknown key", replace("[relay]", "[relay]\ndomians = []"), []string{"domians", "did you mean", "domains"}},
		{"no hostname", replace("hostname", "# hostname"), []string{"hostname"}},
		{"no TOML", good + "\nx = ", []string{"gatepost.toml:"}},
		{"duration without unit", replace(`first_retry = "200ms"`, `first_retry = "200"`), []string{"first_retry"}},
		{"feature of a later version", replace(`history = "sqlite:`, `history = "postgres:`), []string{"history", "not built yet"}},
		{"two errors, both named", replace("[relay]", "[relay]\ndomians = []\nnetwroks = []"), []string{"domians", "netwroks"}},
		{"route that is no address", replace("smtp://127.0.0.1:1", "ftp://x"), []string{"ftp://x"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := os.WriteFile(g.File, []byte(tt.text), 0o644); err != nil {
				t.Fatal(err)
			}
			for _, cmd := range []string{"check", "serve"} {
				res := command(t, g, 78, cmd)
				for _, s := range tt.says {
					if !strings.Contains(res.Stderr+res.Stdout, s) {
						t.Errorf("%s does not say %q:\n%s%s", cmd, s, res.Stdout, res.Stderr)
					}
				}
				if !strings.Contains(res.Stderr+res.Stdout, g.File) {
					t.Errorf("%s does not name the file:\n%s%s", cmd, res.Stdout, res.Stderr)
				}
			}
		})
	}
}

func TestCheckAcceptsTheContract(t *testing.T) {
	g := newGateway(t, binaries.plain, "127.0.0.1:1")
	g.UseClamd("unix:/run/clamav/clamd.ctl", "tempfail")
	g.UseSpamd("tcp:127.0.0.1:783", "continue")
	g.Config.Set("policy", "tag", "5.0")
	g.Config.Set("policy", "quarantine", "10.0")
	g.Config.Set("policy", "reject", "15.0")
	g.Config.Set("policy", "virus", `"reject"`)
	g.Config.Set(`policy.for."vip@example.com"`, "quarantine", "7.0")
	if err := g.WriteConfig(); err != nil {
		t.Fatal(err)
	}
	command(t, g, 0, "check")
}

func TestVersionAndHelp(t *testing.T) {
	g := newGateway(t, binaries.plain, "127.0.0.1:1")
	for _, args := range [][]string{{"version"}, {"--help"}, {"serve", "--help"}, {"queue", "--help"}} {
		res, err := g.RunInput(nil, args...)
		if err != nil || res.Code != 0 || res.Stdout == "" {
			t.Errorf("%v: %+v %v", args, res, err)
		}
	}
	res, err := g.RunInput(nil, "no-such-command")
	if err != nil || res.Code != 64 {
		t.Errorf("unknown command: exit %d, want 64: %v %s", res.Code, err, res.Stderr)
	}
}
