package testkit

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Debian has room for one MTA: sendmail and Postfix both "provide" the mail
// transport agent. So sendmail is never installed, only unpacked, once for all
// runs on this machine.

// unpackedSendmail is the root of an unpacked sendmail.
func unpackedSendmail() (string, error) {
	return unpacked("sendmail", "usr/libexec/sendmail/sendmail", unpackSendmail)
}

// unpacked is the root of Debian packages that were unpacked into the user's
// cache, under name, by unpack. That file shows that they are.
func unpacked(name, file string, unpack func(dir string) error) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	root := filepath.Join(cache, "gatepost", name)
	if _, err := os.Stat(filepath.Join(root, file)); err == nil {
		return root, nil
	}
	if err := os.MkdirAll(filepath.Dir(root), 0o755); err != nil {
		return "", err
	}
	// Under another name first: two test binaries may do the same at once, and
	// what is cut off must not look complete.
	dir, err := os.MkdirTemp(filepath.Dir(root), "unpack-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	if err := unpack(dir); err != nil {
		return "", err
	}
	if err := os.Rename(filepath.Join(dir, "root"), root); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	return root, nil
}

func unpackSendmail(dir string) error {
	if err := unpackPackages(dir, "sendmail-bin", []string{"sendmail-base", "sendmail-cf"}, []string{"libwrap0"}); err != nil {
		return err
	}
	// Set-group-ID it would not look at LD_LIBRARY_PATH.
	return os.Chmod(filepath.Join(dir, "root/usr/libexec/sendmail/sendmail"), 0o755)
}

// unpackPackages downloads a package, others, and the libraries that the first
// depends on, or else these, and unpacks them into dir/root.
func unpackPackages(dir, first string, others, orElse []string) error {
	for _, tool := range []string{"apt-get", "apt-cache", "dpkg"} {
		if _, err := find(tool, "apt dpkg"); err != nil {
			return err
		}
	}
	packages := append([]string{first}, others...)
	if out, err := output(dir, "apt-cache", "depends", "--important", first); err == nil {
		packages = append(packages, libraries(out)...)
	} else {
		packages = append(packages, orElse...)
	}
	download := append([]string{"download"}, packages...)
	if _, err := output(dir, "apt-get", download...); err != nil {
		if _, err := output(dir, "apt-get", "update"); err != nil {
			return err
		}
		if _, err := output(dir, "apt-get", download...); err != nil {
			return err
		}
	}
	debs, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil {
		return err
	}
	for _, deb := range debs {
		if _, err := output(dir, "dpkg", "-x", deb, filepath.Join(dir, "root")); err != nil {
			return err
		}
	}
	return nil
}

// libraries are those that a package depends on, without the C library, which
// is there and must be the one there is.
func libraries(depends string) []string {
	var all []string
	for line := range strings.Lines(depends) {
		name, ok := strings.CutPrefix(strings.TrimSpace(line), "Depends: ")
		if ok && strings.HasPrefix(name, "lib") && !strings.HasPrefix(name, "libjs-") && name != "libc6" && !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return all
}

// output runs a program in dir; its error has what the program said.
func output(dir, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, tail(string(out), 20))
	}
	return string(out), nil
}
