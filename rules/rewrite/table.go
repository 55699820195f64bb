package rewrite

import (
	"errors"
	"fmt"
	"strings"

	"gatepost/internal/mail"
)

// table is a makemap source: key, white space, value. Keys are in lower case.
type table map[string]entry

type entry struct {
	value string
	line  int
}

const maxLine = 4096

// parseTable reads a table; its error names every line that is wrong.
func parseTable(file, text string) (table, error) {
	t := make(table)
	var errs []error
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimRight(line, "\r\n")
		if strings.TrimSpace(line) == "" || line[0] == '#' {
			continue
		}
		key, value, err := splitLine(line)
		if old, twice := t[key]; err == nil && twice {
			err = fmt.Errorf("%s is already in line %d; remove one of them", key, old.line)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s:%d: %w", file, n, err))
			continue
		}
		t[key] = entry{value, n}
	}
	return t, errors.Join(errs...)
}

func splitLine(line string) (key, value string, err error) {
	if len(line) > maxLine {
		return "", "", fmt.Errorf("longer than %d bytes", maxLine)
	}
	if line[0] == ' ' || line[0] == '\t' {
		return "", "", errors.New("begins with a blank; the key starts the line")
	}
	if plain := strings.ReplaceAll(line, "\t", " "); plain != mail.CleanText(plain) {
		return "", "", errors.New("control characters or broken UTF-8; write plain text")
	}
	at := strings.IndexAny(line, " \t")
	if at < 0 {
		return "", "", fmt.Errorf("%s has no value", line)
	}
	key, value = strings.ToLower(line[:at]), strings.Trim(line[at:], " \t")
	if value == "" {
		return "", "", fmt.Errorf("%s has no value", key)
	}
	return key, value, nil
}

// expand puts arguments into %1 to %9; %% is a percent sign.
func expand(value string, args ...string) string {
	var b strings.Builder
	for i := 0; i < len(value); i++ {
		if value[i] != '%' || i+1 == len(value) {
			b.WriteByte(value[i])
			continue
		}
		i++
		switch c := value[i]; {
		case c == '%':
			b.WriteByte('%')
		case c >= '1' && c <= '9':
			if n := int(c - '1'); n < len(args) {
				b.WriteString(args[n])
			}
		default:
			b.WriteByte('%')
			b.WriteByte(c)
		}
	}
	return b.String()
}

// cutDetail splits "user+detail"; plus reports that there is a "+".
func cutDetail(local string) (user, detail string, plus bool) { return strings.Cut(local, "+") }

// domains is a set of names: exact ones, and ".example.com" for those below.
type domains []string

func newDomains(key string, list []string) (d domains, err error) {
	var errs []error
	for i, s := range list {
		name, below := strings.CutPrefix(s, ".")
		domain, err := mail.ParseDomain(name)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s[%d]: %q: %w", key, i, s, err))
		}
		if domain = mail.ASCIIDomain(domain); below {
			domain = "." + domain
		}
		d = append(d, domain)
	}
	return d, errors.Join(errs...)
}

func (d domains) contains(name string) bool {
	for _, s := range d {
		if s == name || s[0] == '.' && strings.HasSuffix(name, s) {
			return true
		}
	}
	return false
}
