package rules

import (
	"fmt"
	"os"
	"strings"

	"gatepost/internal/mail"
)

// domains is a set of domain names and of the domains below names.
type domains struct {
	exact map[string]struct{} // "example.com"
	below map[string]struct{} // "example.com", for what was written ".example.com"
}

// newDomains reads entries of relay.domains; read returns the lines of a file,
// nil leaves files out.
func newDomains(entries []string, read func(path string) ([]listLine, error)) (domains, error) {
	d := domains{exact: make(map[string]struct{}), below: make(map[string]struct{})}
	var errs problems
	for i, entry := range entries {
		path, isFile := strings.CutPrefix(entry, "file:")
		if !isFile {
			errs.note(fmt.Sprintf("relay.domains[%d]", i), d.add(entry))
			continue
		}
		if read == nil {
			continue
		}
		lines, err := read(path)
		errs.note("relay.domains", err)
		for _, l := range lines {
			errs.noteLine(path, l.number, d.add(l.text))
		}
	}
	return d, errs.join()
}

func (d domains) add(entry string) error {
	if strings.ContainsAny(entry, " \t") {
		return fmt.Errorf("%q is more than one entry; write one a line", mail.CleanText(entry))
	}
	if looksNumeric(entry) {
		return fmt.Errorf("%q is an address; write clients into relay.networks", entry)
	}
	name, below := strings.CutPrefix(entry, ".")
	name, err := canonicalDomain(name)
	if err != nil {
		return fmt.Errorf("%q: %w; write example.com, or .example.com for the domains below it", mail.CleanText(entry), err)
	}
	if below {
		d.below[name] = struct{}{}
	} else {
		d.exact[name] = struct{}{}
	}
	return nil
}

// contains reports whether a domain in ASCII form is in the set.
func (d domains) contains(domain string) bool {
	if _, ok := d.exact[domain]; ok {
		return true
	}
	if len(d.below) == 0 {
		return false
	}
	for {
		_, parent, ok := strings.Cut(domain, ".")
		if !ok {
			return false
		}
		if _, ok := d.below[parent]; ok {
			return true
		}
		domain = parent
	}
}

// canonicalDomain is the form in which all tables here keep a domain: lower
// case, A-labels.
func canonicalDomain(s string) (string, error) {
	name, err := mail.ParseDomain(s)
	return tableDomain(name), err
}

func tableDomain(name string) string { return strings.ToLower(mail.ASCIIDomain(name)) }

// looksNumeric reports whether s is an IPv4 address or the beginning of one,
// perhaps with a mask.
func looksNumeric(s string) bool {
	return s != "" && strings.Trim(s, "0123456789./") == ""
}

// listLine is an entry of a list file and where it stands.
type listLine struct {
	number int
	text   string
}

func readDomains(path string) ([]listLine, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var list []listLine
	err = eachLine(path, f, func(number int, line string) {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line != "" {
			list = append(list, listLine{number, line})
		}
	})
	return list, err
}
