package integration

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"gatepost/internal/testkit"
)

// `make run` shows a newcomer what it should.
func TestTryout(t *testing.T) {
	for _, s := range []testkit.Server{testkit.NewClamd(testkit.Dir(t)), testkit.NewSpamd(testkit.Dir(t))} {
		testkit.Up(t, s) // skips where they are not installed
	}
	gatepost, err := binaries.plain()
	if err != nil {
		t.Fatal(err)
	}
	root, err := testkit.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	tryout := filepath.Join(testkit.Dir(t), "tryout")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", tryout, "./examples/tryout")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.Command(tryout, "-once", "-binary", gatepost)
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, row := range []string{
		`a clean note +delivered +nothing found`,
		`GTUBE.* refused +spam score .*\n +> 550 5\.7\.1 `,
		`EICAR.* refused +virus Eicar.*\n +> 55\d 5\.7\.1 `,
		`an \.exe in a zip +delivered`,
		`a forged sender.* delivered`,
		`not ours +refused .*\n +> 55\d 5\.7\.1 `,
	} {
		if !regexp.MustCompile(row).Match(out) {
			t.Errorf("no row %s in\n%s", row, out)
		}
	}
}
