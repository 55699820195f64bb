package testkit

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// A server that is not installed may still insist on users of its own and on
// places below /var. It gets them in a mount namespace that only it sees.

// unpackedAt is where they find what was unpacked: the user's cache is closed to
// other users.
const unpackedAt = "/mnt"

// inNamespace is the arguments of unshare that run a command where root is
// unpackedAt, where these users exist, and where these directories are empty
// and in memory. Its files go to dir.
func inNamespace(dir, root string, users, empty []string, command ...string) ([]string, error) {
	script := []string{"set -e", "mount --bind '" + root + "' " + unpackedAt}
	for _, name := range []string{"passwd", "group"} {
		b, err := os.ReadFile("/etc/" + name)
		if err != nil {
			return nil, err
		}
		text := strings.TrimSuffix(string(b), "\n") + "\n"
		for i, user := range users {
			if strings.Contains("\n"+text, "\n"+user+":") {
				continue
			}
			text += map[string]string{
				"passwd": fmt.Sprintf("%s:x:%d:%d::/nonexistent:/usr/sbin/nologin\n", user, namespaceID(i), namespaceID(i)),
				"group":  fmt.Sprintf("%s:x:%d:\n", user, namespaceID(i)),
			}[name]
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return nil, err
		}
		script = append(script, "mount --bind '"+path+"' /etc/"+name)
	}
	for _, d := range empty {
		script = append(script, "mount -t tmpfs tmpfs "+d)
	}
	script = append(script, `exec "$0" "$@"`)
	return append([]string{"--mount", "sh", "-c", strings.Join(script, "; ")}, command...), nil
}

// unpackedEnv lets the programs there find their libraries.
func unpackedEnv() []string {
	return []string{"LD_LIBRARY_PATH=" + unpackedAt + "/usr/lib/x86_64-linux-gnu"}
}

// namespaceID is the number of the i-th user that exists only in a namespace.
func namespaceID(i int) int { return 64100 + i }
