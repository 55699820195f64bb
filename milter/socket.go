package milter

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"strconv"
	"strings"

	"gatepost/internal/unixsocket"
)

// ParseSocket reads a socket in any spelling that sendmail and Postfix use:
// unix:/path, local:/path, /path, inet:port@host, inet6:port@host, and
// Postfix's inet:host:port. It returns what net.Listen and net.Dial want.
func ParseSocket(s string) (network, address string, err error) {
	kind, rest, ok := strings.Cut(s, ":")
	if strings.HasPrefix(s, "/") {
		kind, rest, ok = "unix", s, true
	}
	if !ok || rest == "" {
		return "", "", fmt.Errorf("socket: %q is none; write unix:/path, inet:port@host or inet6:port@host", s)
	}
	switch kind {
	case "unix", "local":
		if !strings.HasPrefix(rest, "/") {
			return "", "", fmt.Errorf("socket: %q has a relative path; write it from the root", s)
		}
		if len(rest) > 107 { // sun_path of unix(7)
			return "", "", fmt.Errorf("socket: the path of %q is longer than 107 octets", s)
		}
		return "unix", rest, nil
	case "inet", "inet6":
		network = map[string]string{"inet": "tcp4", "inet6": "tcp6"}[kind]
		port, host, ok := strings.Cut(rest, "@")
		if !ok { // Postfix: host:port
			i := strings.LastIndexByte(rest, ':')
			if i < 0 {
				return "", "", fmt.Errorf("socket: %q has no port; write %s:port@host", s, kind)
			}
			host, port = rest[:i], rest[i+1:]
		}
		if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
			return "", "", fmt.Errorf("socket: %q is no port", port)
		}
		return network, net.JoinHostPort(strings.Trim(host, "[]"), port), nil
	}
	return "", "", fmt.Errorf("socket: %q has an unknown kind; write unix, local, inet or inet6 before the colon", s)
}

// Listen opens a socket as a Server does, with the default mode.
func Listen(socket string) (net.Listener, error) { return Config{Socket: socket}.listen() }

// listen opens the configured socket. A unix socket that nobody listens on is
// replaced; anything else in its place is left alone and an error.
func (c Config) listen() (net.Listener, error) {
	network, address, err := ParseSocket(c.Socket)
	if err != nil {
		return nil, err
	}
	if network != "unix" {
		return net.Listen(network, address)
	}
	return unixsocket.Listen(address, c.own)
}

// own sets owner, group and mode of the socket.
func (c Config) own(path string) error {
	mode, err := c.mode()
	if err != nil {
		return err
	}
	uid, gid := -1, -1
	if c.Owner != "" {
		u, err := user.Lookup(c.Owner)
		if err != nil {
			return err
		}
		uid, _ = strconv.Atoi(u.Uid)
	}
	if c.Group != "" {
		g, err := user.LookupGroup(c.Group)
		if err != nil {
			return err
		}
		gid, _ = strconv.Atoi(g.Gid)
	}
	if err := os.Chmod(path, mode); err != nil {
		return err
	}
	return os.Lchown(path, uid, gid)
}

func (c Config) mode() (fs.FileMode, error) {
	if c.Mode == "" {
		return 0o660, nil
	}
	n, err := strconv.ParseUint(c.Mode, 8, 32)
	if err != nil || n > 0o777 {
		return 0, fmt.Errorf("mode: %q is none; write an octal number such as \"0660\"", c.Mode)
	}
	return fs.FileMode(n), nil
}
