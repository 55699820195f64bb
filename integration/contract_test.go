package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"gatepost/internal/testkit"
)

// The checks of the contract that lie beside the project, where they are there.
func TestContract(t *testing.T) {
	root, err := testkit.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"main_job", "milter"} {
		t.Run(name, func(t *testing.T) {
			check := filepath.Join(root, "..", "shared", "contract", name)
			if _, err := os.Stat(check); err != nil {
				t.Skipf("no contract check beside the project: %v", err)
			}
			cmd := exec.Command(check)
			cmd.Dir = root
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			t.Logf("%s", out)
		})
	}
}
