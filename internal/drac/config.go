package drac

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"
)

// Config is [drac].
type Config struct {
	// Address is the UDP port of the service, like "10.0.0.1:900"; "" is none.
	Address string `toml:"address"`
	// Allow says which mail servers may open windows.
	Allow []netip.Prefix `toml:"allow"`
	// AllowFile is a dracd.allow: lines of netmask and network.
	AllowFile string `toml:"allow_file"`
	// Portmapper is a UDP port where clients ask for Address, "0.0.0.0:111" as a
	// rule; "" where rpcbind runs or nobody asks.
	Portmapper string `toml:"portmapper"`
	// Socket is a unix socket that takes windows by HTTP: POST with the form
	// field addr. Whoever may write to it may open them.
	Socket string `toml:"socket"`
	// SocketMode is who may: an octal mode. Default "0660".
	SocketMode string `toml:"socket_mode"`
	// Window is how long an address may relay after each login. Default 30m.
	Window time.Duration `toml:"window"`
}

// DefaultConfig has no service.
func DefaultConfig() Config { return Config{SocketMode: "0660", Window: 30 * time.Minute} }

const longestWindow = 7 * 24 * time.Hour

// Validate reports all that is wrong with c.
func (c Config) Validate() error {
	var errs []error
	for key, address := range map[string]string{"address": c.Address, "portmapper": c.Portmapper} {
		if address == "" {
			continue
		}
		if _, err := netip.ParseAddrPort(address); err != nil {
			errs = append(errs, fmt.Errorf(`%s: %q: want an address and a port, like "10.0.0.1:900"`, key, address))
		}
	}
	switch {
	case c.Address != "" && len(c.Allow) == 0 && c.AllowFile == "":
		errs = append(errs, errors.New("allow: missing: anybody could open a window; write the addresses of your mail servers"))
	case c.Portmapper != "" && c.Address == "":
		errs = append(errs, errors.New("portmapper: there is no address to answer with"))
	}
	for i, p := range c.Allow {
		if p.Bits() == 0 {
			errs = append(errs, fmt.Errorf("allow[%d]: %q is everybody; name the mail servers", i, p.String()))
		}
	}
	if c.Window < time.Second || c.Window > longestWindow {
		errs = append(errs, fmt.Errorf("window: %v is not between 1s and %v", c.Window, longestWindow))
	}
	if _, err := c.mode(); err != nil {
		errs = append(errs, err)
	}
	if c.AllowFile != "" {
		_, err := readAllowFile(c.AllowFile)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (c Config) mode() (os.FileMode, error) {
	n, err := strconv.ParseUint(c.SocketMode, 8, 32)
	if err != nil || n > 0o777 || n&0o007 != 0 {
		return 0, fmt.Errorf("socket_mode: %q: want an octal mode without others, like 0660", c.SocketMode)
	}
	return os.FileMode(n), nil
}

// allowed is all that Config allows.
func (c Config) allowed() ([]netip.Prefix, error) {
	list := append([]netip.Prefix(nil), c.Allow...)
	if c.AllowFile == "" {
		return list, nil
	}
	more, err := readAllowFile(c.AllowFile)
	return append(list, more...), err
}

func readAllowFile(path string) ([]netip.Prefix, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("allow_file: %w", err)
	}
	defer f.Close()
	return parseAllow(path, f)
}

// parseAllow reads lines of netmask and network, as dracd.allow has them.
func parseAllow(path string, r io.Reader) ([]netip.Prefix, error) {
	var list []netip.Prefix
	var errs []error
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		f := strings.Fields(text)
		if len(f) == 0 {
			continue
		}
		p, err := maskedNetwork(f)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s:%d: %w", path, n, err))
			continue
		}
		list = append(list, p)
	}
	return list, errors.Join(append(errs, lines.Err())...)
}

func maskedNetwork(f []string) (netip.Prefix, error) {
	if len(f) != 2 {
		return netip.Prefix{}, errors.New("want a netmask and a network, like 255.255.255.0 10.0.0.0")
	}
	mask, err := netip.ParseAddr(f[0])
	if err != nil || !mask.Is4() {
		return netip.Prefix{}, fmt.Errorf("%q is no netmask", f[0])
	}
	network, err := netip.ParseAddr(f[1])
	if err != nil || !network.Is4() {
		return netip.Prefix{}, fmt.Errorf("%q is no network", f[1])
	}
	bits, ended := 0, false
	for _, b := range mask.As4() {
		for i := 7; i >= 0; i-- {
			one := b>>i&1 == 1
			if one && ended {
				return netip.Prefix{}, fmt.Errorf("%q has holes", f[0])
			}
			if ended = !one; one {
				bits++
			}
		}
	}
	p := netip.PrefixFrom(network, bits)
	switch {
	case bits == 0:
		return netip.Prefix{}, errors.New("this is everybody")
	case p != p.Masked():
		return netip.Prefix{}, fmt.Errorf("no address fits: %s has bits beyond the netmask", f[1])
	}
	return p, nil
}
