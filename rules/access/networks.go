package access

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"gatepost/internal/mail"
)

// ReadNetworks reads a list of networks as Postfix's mynetworks has it, a plain
// list or a cidr table: a network or an address, perhaps a result behind it, one
// a line, with # comments in front. In Postfix's mynetworks every line counts,
// even one that says REJECT; here a result that is not OK, and what would
// exclude, is an error.
func ReadNetworks(path string) ([]netip.Prefix, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var list []netip.Prefix
	var errs Problems
	errs.Add(eachLine(path, f, func(number int, line string) {
		if text := strings.TrimSpace(line); text == "" || text[0] == '#' {
			return
		}
		n, err := parseNetwork(line)
		if err != nil {
			errs.noteLine(path, number, err)
			return
		}
		list = append(list, n)
	}))
	if err := errs.Join(); err != nil {
		return nil, err
	}
	return list, nil
}

func parseNetwork(line string) (netip.Prefix, error) {
	if line[0] == ' ' || line[0] == '\t' {
		return netip.Prefix{}, errors.New("begins with a blank; the network starts the line")
	}
	words := strings.Fields(line)
	name := words[0]
	switch {
	case name[0] == '!':
		return netip.Prefix{}, fmt.Errorf("%q excludes; write only networks that may send to anybody", mail.CleanText(name))
	case len(words) > 2, len(words) == 2 && !strings.EqualFold(words[1], "OK") && !strings.EqualFold(words[1], "permit"):
		return netip.Prefix{}, fmt.Errorf("%q does not say OK; write only networks that may send to anybody", mail.CleanText(strings.Join(words[1:], " ")))
	}
	name = strings.NewReplacer("[", "", "]", "").Replace(name)
	if !strings.Contains(name, "/") {
		ip, err := netip.ParseAddr(name)
		if err != nil || ip.Zone() != "" {
			return netip.Prefix{}, noNetwork(name)
		}
		ip = ip.Unmap()
		return netip.PrefixFrom(ip, ip.BitLen()), nil
	}
	n, err := netip.ParsePrefix(name)
	switch {
	case err != nil, n.Addr().Is4In6():
		return netip.Prefix{}, noNetwork(name)
	case n.Bits() == 0:
		return netip.Prefix{}, fmt.Errorf("%q is everybody: this would be an open relay; name your own networks", name)
	case n != n.Masked():
		return netip.Prefix{}, fmt.Errorf("%q names a host, not a network; write %q for the network or %q for the host", name, n.Masked(), n.Addr())
	}
	return n, nil
}

func noNetwork(s string) error {
	return fmt.Errorf("%q is no network; write one like 10.0.0.0/8 or 2001:db8::/32", mail.CleanText(s))
}
