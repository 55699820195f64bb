package integration

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gatepost/internal/testkit"
)

// `gatepost scan` judges files as if they came in now.
func TestScanCommand(t *testing.T) {
	dir := testkit.Dir(t)
	clamd := testkit.Up(t, testkit.NewClamd(dir))
	spamd := testkit.Up(t, testkit.NewSpamd(dir))
	g := newGateway(t, binaries.race, "127.0.0.1:1")
	g.UseClamd("unix:"+clamd.Socket, "tempfail")
	g.UseSpamd("unix:"+spamd.Socket, "tempfail")
	if err := g.WriteConfig(); err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{
		"clean.eml": testkit.Message("1", "clean", "An ordinary note."),
		"eicar.eml": testkit.Message("2", "eicar", testkit.EICAR()),
		"gtube.eml": testkit.Message("3", "gtube", testkit.GTUBE()),
		"unix.eml":  []byte(strings.ReplaceAll(string(testkit.Message("4", "unix", "Line ends of a file.")), "\r\n", "\n")),
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	path := func(name string) string { return filepath.Join(dir, name) }
	command(t, g, 0, "scan", path("clean.eml"))
	command(t, g, 0, "scan", path("unix.eml"))
	for name, says := range map[string]string{"eicar.eml": "Eicar-Local", "gtube.eml": "GTUBE"} {
		if res := command(t, g, 1, "scan", path(name)); !strings.Contains(res.Stdout, says) {
			t.Errorf("%s: the table does not say %s:\n%s", name, says, res.Stdout)
		}
	}
	res := command(t, g, 1, "scan", "--json", path("clean.eml"), path("eicar.eml"))
	decoder := json.NewDecoder(strings.NewReader(res.Stdout))
	for decoder.More() {
		var v any
		if err := decoder.Decode(&v); err != nil {
			t.Fatalf("--json: %v\n%s", err, res.Stdout)
		}
	}
	command(t, g, 66, "scan", path("absent.eml"))
}
