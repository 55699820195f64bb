package rewrite

import (
	"errors"
	"fmt"
	"strings"

	"gatepost/internal/mail"
)

// parseAliases reads sendmail's aliases: "name: address, address", continued by
// lines that begin with a blank. Files, programs and :include: belong to the
// delivery tier; here they are errors.
func parseAliases(file, text string) (map[string][]mail.Address, error) {
	aliases := make(map[string][]mail.Address)
	lines := make(map[string]int)
	var errs []error
	add := func(n int, logical string) {
		name, values, err := parseAlias(logical)
		if old := lines[name]; err == nil && old > 0 {
			err = fmt.Errorf("%s is already in line %d; remove one of them", name, old)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s:%d: %w", file, n, err))
			return
		}
		aliases[name], lines[name] = values, n
	}
	n, begun := 0, 0
	var logical []string
	flush := func() {
		if begun > 0 {
			add(begun, strings.Join(logical, " "))
		}
	}
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimRight(line, "\r\n")
		switch {
		case strings.TrimSpace(line) == "" || line[0] == '#':
			continue
		case line[0] != ' ' && line[0] != '\t':
			flush()
			begun, logical = n, []string{line}
		case begun == 0:
			errs = append(errs, fmt.Errorf("%s:%d: goes on, but nothing is before it", file, n))
		default:
			logical = append(logical, strings.TrimSpace(line))
		}
	}
	flush()
	return aliases, errors.Join(errs...)
}

func parseAlias(s string) (name string, values []mail.Address, err error) {
	name, rest, ok := strings.Cut(s, ":")
	name = strings.ToLower(strings.Trim(name, " \t\""))
	if !ok || name == "" {
		return "", nil, errors.New("want name: address, address")
	}
	for value := range strings.SplitSeq(rest, ",") {
		value = strings.TrimSpace(value)
		if strings.HasPrefix(value, ":include:") {
			return "", nil, fmt.Errorf("%q: lists from files belong to the mail server behind", value)
		}
		value = strings.TrimPrefix(strings.Trim(value, `"`), `\`)
		switch {
		case value == "":
			continue
		case strings.ContainsAny(value[:1], "|/"):
			return "", nil, fmt.Errorf("%q: programs, files and lists from files belong to the mail server behind", value)
		}
		a, err := parseTarget(value)
		if err != nil {
			return "", nil, fmt.Errorf("%q: %w", mail.CleanText(value), err)
		}
		if values = append(values, a); len(values) > maxTargets {
			return "", nil, fmt.Errorf("%s leads to more than %d addresses; that is a mailing list", name, maxTargets)
		}
	}
	if len(values) == 0 {
		return "", nil, fmt.Errorf("%s leads nowhere", name)
	}
	return name, values, nil
}

// parseTarget reads an address, or a local part, whose Domain is then "".
func parseTarget(s string) (mail.Address, error) {
	if strings.Contains(s, "@") {
		return mail.ParseAddress(s, true)
	}
	a, err := mail.ParseAddress(s+"@local.invalid", true)
	a.Domain = ""
	return a, err
}

// alias looks a local recipient up: with its detail, then without.
func (r *Recipients) alias(a mail.Address) ([]mail.Address, bool) {
	if len(r.aliases) == 0 || !r.local.contains(a.ASCIIDomain()) {
		return nil, false
	}
	local := strings.ToLower(a.Local)
	if list, ok := r.aliases[local]; ok {
		return list, true
	}
	user, _, _ := cutDetail(local)
	list, ok := r.aliases[user]
	return list, ok
}
