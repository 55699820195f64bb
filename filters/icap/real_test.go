package icap

import (
	"testing"
	"time"

	"gatepost/filters/filtertest"
	"gatepost/internal/mail"
	"gatepost/internal/mime"
	"gatepost/internal/testkit"
)

// What a real c-icap says, with its echo service and with its virus scanner
// over a real clamd.
func TestRealCICAP(t *testing.T) {
	if testing.Short() {
		t.Skip("starts c-icap and clamd")
	}
	clamd := testkit.Up(t, testkit.NewClamd(testkit.Dir(t)))
	server := testkit.Up(t, testkit.NewCICAP(testkit.Dir(t), clamd.Socket))
	eicar := []byte(testkit.EICAR())
	texts := map[string]string{
		"clean":      string(testkit.Message("1", "hello", "hello")),
		"large":      string(testkit.Message("1", "hello", testkit.Filler(3_000_000))),
		"in text":    string(testkit.Message("1", "hello", testkit.EICAR())),
		"in a part":  string(testkit.WithAttachment("1", "hello", "eicar.com", eicar)),
		"in a zip":   string(testkit.WithAttachment("1", "hello", "eicar.zip", testkit.Zip("eicar.com", eicar))),
		"some parts": string(testkit.WithAttachment("1", "hello", "a.bin", []byte(testkit.Filler(200_000)))),
	}
	infected := map[string]bool{"in text": true, "in a part": true, "in a zip": true}
	for name, cfg := range map[string]Config{
		"scanner":               {Service: "virus_scan"},
		"scanner, upload":       {Service: "virus_scan", Method: ReqMod},
		"echo":                  {Service: "echo"},
		"echo, with a preview":  {Service: "echo", Preview: 1000},
		"echo, upload":          {Service: "echo", Method: ReqMod},
		"scanner, with preview": {Service: "virus_scan", Preview: 1024},
	} {
		t.Run(name, func(t *testing.T) {
			cfg.Timeout = time.Minute
			f := scanner(t, cfg, "tcp:"+server.Addr)
			running(t, f)
			if err := f.Ping(t.Context()); err != nil {
				t.Errorf("ping: %v", err)
			}
			for what, text := range texts {
				for range 2 { // on kept connections, beyond their number of requests
					tx := filtertest.Transaction(t, text)
					tx.Inside = mime.Inspect(t.Context(), tx.Message, mime.DefaultConfig())
					r, err := f.Check(t.Context(), tx)
					got := verdictOf(r, err)
					switch {
					case cfg.Service == "virus_scan" && infected[what]:
						if got != "virus Eicar-Local.UNOFFICIAL" {
							t.Errorf("%s: %s, %v", what, got, err)
						}
					case cfg.Preview > 0 && got == "not-scanned preview only":
					case got != mail.FindingClean:
						t.Errorf("%s: %s, %v", what, got, err)
					}
				}
			}
			if f.Version() == "" {
				t.Error("no ISTag")
			}
			t.Logf("ISTag %s", f.Version())
		})
	}
	if got := check(t, scanner(t, Config{Service: "nothing"}, "tcp:"+server.Addr), filtertest.Plain); got != "error" {
		t.Errorf("a service that is not there: %s", got)
	}
	if err := clamd.Stop(); err != nil {
		t.Fatal(err)
	}
	if got := check(t, scanner(t, Config{Service: "virus_scan"}, "tcp:"+server.Addr), texts["clean"]); got == mail.FindingClean {
		t.Errorf("with its clamd away: %s", got)
	}
}
