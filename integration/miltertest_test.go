package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gatepost/internal/testkit"
)

// The scripts of testdata/miltertest, played by OpenDKIM's test MTA: somebody
// else's reading of the protocol.
func TestMiltertest(t *testing.T) {
	scripts, err := filepath.Glob("testdata/miltertest/*.lua")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	clamd := testkit.Up(t, testkit.NewClamd(testkit.Dir(t)))
	for _, kind := range []string{"unix", "inet"} {
		g := newGateway(t, binaries.race, "127.0.0.1:9")
		g.UseClamd("unix:"+clamd.Socket, "tempfail")
		g.Config.Set(`policy.for."hold@example.com"`, "virus", `"quarantine"`)
		access := filepath.Join(g.Dir, "access")
		if err := os.WriteFile(access, []byte(milterAccess), 0o644); err != nil {
			t.Fatal(err)
		}
		g.Config.Set("relay", "access", fmt.Sprintf("%q", access))
		socket := kind + ":" + milterSocket(t, g, kind)
		testkit.Up(t, g)
		for _, script := range scripts {
			t.Run(strings.TrimSuffix(filepath.Base(script), ".lua")+" over "+kind, func(t *testing.T) {
				testkit.Need(t, testkit.Miltertest(script, "socket="+socket, "eicar="+testkit.EICAR()))
			})
		}
	}
}
