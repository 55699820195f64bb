package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"gatepost/internal/testkit"
)

// The check of the contract that lies beside the project, where it is there.
func TestContract(t *testing.T) {
	root, err := testkit.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	check := filepath.Join(root, "..", "shared", "contract", "main_job")
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
}
