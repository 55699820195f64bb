package forward

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"gatepost/internal/mail"
)

// stsPolicy is what a domain says of its MX hosts (RFC 8461 3.2).
type stsPolicy struct {
	mode   stsMode
	mx     []string // lower case; "*." stands for one label
	maxAge time.Duration
}

type stsMode string

const (
	stsEnforce stsMode = "enforce"
	stsTesting stsMode = "testing"
	stsNone    stsMode = "none"
)

// Limits on a policy. RFC 8461 3.2 has a year for max_age.
const (
	maxSTSPolicy = 64 << 10
	maxSTSHosts  = 500
	maxSTSAge    = 31557600 * time.Second
)

// parseSTSPolicy reads a policy. Unknown fields are passed over; of a field that
// is there twice the first counts.
func parseSTSPolicy(text string) (stsPolicy, error) {
	var p stsPolicy
	seen := make(map[string]bool)
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.Trim(strings.TrimSuffix(line, "\r"), " \t")
		if line == "" {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return stsPolicy{}, fmt.Errorf("%.60q is no field", line)
		}
		name, value = strings.TrimRight(name, " \t"), strings.Trim(value, " \t")
		if seen[name] && name != "mx" {
			continue
		}
		seen[name] = true
		if err := p.set(name, value); err != nil {
			return stsPolicy{}, err
		}
	}
	for _, name := range []string{"version", "mode", "max_age"} {
		if !seen[name] {
			return stsPolicy{}, fmt.Errorf("no field %s", name)
		}
	}
	if len(p.mx) == 0 && p.mode != stsNone {
		return stsPolicy{}, errors.New("no field mx")
	}
	return p, nil
}

func (p *stsPolicy) set(name, value string) error {
	switch name {
	case "version":
		if value != "STSv1" {
			return fmt.Errorf("version %.60q", value)
		}
	case "mode":
		switch p.mode = stsMode(value); p.mode {
		case stsEnforce, stsTesting, stsNone:
		default:
			return fmt.Errorf("mode %.60q", value)
		}
	case "max_age":
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil || len(value) > 10 {
			return fmt.Errorf("max_age %.60q", value)
		}
		p.maxAge = time.Duration(min(n, uint64(maxSTSAge/time.Second))) * time.Second
	case "mx":
		host, wild := strings.CutPrefix(value, "*.")
		domain, err := mail.ParseDomain(host)
		if err != nil || strings.HasPrefix(domain, "[") || len(p.mx) == maxSTSHosts {
			return fmt.Errorf("mx %.60q", value)
		}
		if host = mail.ASCIIDomain(domain); wild {
			host = "*." + host
		}
		p.mx = append(p.mx, host)
	}
	return nil
}

// allows reports whether an MX host is one of the policy's (RFC 8461 4.1).
func (p stsPolicy) allows(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	for _, pattern := range p.mx {
		if pattern == host {
			return true
		}
		rest, wild := strings.CutPrefix(pattern, "*.")
		if _, parent, ok := strings.Cut(host, "."); wild && ok && parent == rest {
			return true
		}
	}
	return false
}

// maxSTSID is the longest id of a record (RFC 8461 3.1).
const maxSTSID = 32

// stsID finds the id of the policy in the TXT records of _mta-sts.DOMAIN. More
// than one record is as good as none (RFC 8461 3.1).
func stsID(records []string) (string, bool) {
	found, n := "", 0
	for _, r := range records {
		version, fields, ok := strings.Cut(r, ";")
		if strings.TrimRight(version, " \t") != "v=STSv1" || !ok {
			continue
		}
		found, n = stsIDField(fields), n+1
	}
	return found, n == 1 && found != ""
}

func stsIDField(fields string) string {
	for f := range strings.SplitSeq(fields, ";") {
		name, value, _ := strings.Cut(strings.Trim(f, " \t"), "=")
		if strings.TrimRight(name, " \t") != "id" {
			continue
		}
		value = strings.TrimLeft(value, " \t")
		alnum := func(r rune) bool {
			return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		}
		if value == "" || len(value) > maxSTSID || strings.TrimLeftFunc(value, alnum) != "" {
			return ""
		}
		return value
	}
	return ""
}
