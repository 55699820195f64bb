package testkit

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
)

// Miltertest plays the Lua script file as an MTA, with the global variables given
// ("name=value"). What the script says is wrong is the error.
func Miltertest(script string, globals ...string) error {
	path, err := find("miltertest", "miltertest")
	if err != nil {
		return err
	}
	args := []string{"-s", script}
	for _, g := range globals {
		args = append(args, "-D", g)
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return fmt.Errorf("testkit: miltertest %s: %w\n%s", filepath.Base(script), err, out)
	}
	return err
}
