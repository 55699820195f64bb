package recipients

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"gatepost/internal/mail"
)

// list is recipients in memory.
type list struct {
	addresses map[string]struct{} // "user@example.com"
	domains   map[string]struct{} // "example.com": all there
	locals    map[string]struct{} // "user", in whatever domain is asked about
	delimiter string
}

func newList(delimiter string) *list {
	return &list{make(map[string]struct{}), make(map[string]struct{}), make(map[string]struct{}), delimiter}
}

func (l *list) ask(_ context.Context, a mail.Address) (answer, error) {
	if l.has(a) {
		return answer{is: isKnown}, nil
	}
	return answer{}, nil
}

// has asks for the whole address, for it without its detail, and for its domain.
func (l *list) has(a mail.Address) bool {
	domain := a.ASCIIDomain()
	if _, ok := l.domains[domain]; ok {
		return true
	}
	for _, local := range withoutDetail(strings.ToLower(a.Local), l.delimiter) {
		if _, ok := l.addresses[local+"@"+domain]; ok {
			return true
		}
		if _, ok := l.locals[local]; ok {
			return true
		}
	}
	return false
}

// withoutDetail returns a local part and, where it has a detail, what stands
// before that.
func withoutDetail(local, delimiter string) []string {
	if delimiter != "" {
		if user, _, ok := strings.Cut(local, delimiter); ok && user != "" {
			return []string{local, user}
		}
	}
	return []string{local}
}

const (
	maxFile = 256 << 20
	maxLine = 4096
)

// readFile reads a file whole.
func readFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxFile)
	}
	return strings.TrimPrefix(string(b), "\ufeff"), err
}

// parseList reads a list: an address, @domain or a local part on each line.
// What stands behind it does not matter, so that Postfix's relay_recipient_maps
// and the exports of directories can be read as they are.
func parseList(file, text, delimiter string) (*list, error) {
	l := newList(delimiter)
	err := eachLine(file, text, func(line string) error {
		entry, err := firstWord(line)
		if err != nil {
			return err
		}
		return l.add(entry)
	})
	if err == nil && len(l.addresses)+len(l.domains)+len(l.locals) == 0 {
		err = fmt.Errorf("%s is empty: all mail would be refused", file)
	}
	return l, err
}

// add takes one entry.
func (l *list) add(entry string) error {
	if len(entry) > 5 && strings.EqualFold(entry[:5], "smtp:") {
		entry = entry[5:] // as proxyAddresses has it
	}
	if domain, ok := strings.CutPrefix(entry, "@"); ok {
		name, err := mail.ParseDomain(domain)
		if err != nil {
			return fmt.Errorf("%q: %w", mail.CleanText(entry), err)
		}
		l.domains[mail.ASCIIDomain(name)] = struct{}{}
		return nil
	}
	if !strings.Contains(entry, "@") {
		a, err := mail.ParseAddress(entry+"@local.invalid", true)
		if err != nil {
			return fmt.Errorf("%q is no local part: %w", mail.CleanText(entry), err)
		}
		l.locals[strings.ToLower(a.Local)] = struct{}{}
		return nil
	}
	a, err := mail.ParseAddress(entry, true)
	if err != nil {
		return fmt.Errorf("%q: %w", mail.CleanText(entry), err)
	}
	l.addresses[key(a)] = struct{}{}
	return nil
}

// firstWord is the entry of a line: up to a blank, a comma or a semicolon, or
// between quotes where the line is one of a spread sheet.
func firstWord(line string) (string, error) {
	if rest, ok := strings.CutPrefix(line, `"`); ok {
		if word, behind, ok := strings.Cut(rest, `"`); ok && (behind == "" || strings.ContainsAny(behind[:1], ",; \t")) {
			return word, nil
		}
	}
	if line[0] == ' ' || line[0] == '\t' {
		return "", errors.New("begins with a blank; the address starts the line")
	}
	if at := strings.IndexAny(line, " \t,;"); at >= 0 {
		line = line[:at]
	}
	return line, nil
}

// maxProblems of one file are told.
const maxProblems = 20

// eachLine calls f for each line that is not empty and no comment.
func eachLine(file, text string, f func(line string) error) error {
	var errs []error
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimRight(line, "\r\n")
		if strings.TrimSpace(line) == "" || line[0] == '#' {
			continue
		}
		err := checkLine(line)
		if err == nil {
			err = f(line)
		}
		if err == nil {
			continue
		}
		if len(errs) == maxProblems {
			errs = append(errs, fmt.Errorf("%s:%d: and more of this kind", file, n))
			break
		}
		errs = append(errs, fmt.Errorf("%s:%d: %w", file, n, err))
	}
	return errors.Join(errs...)
}

func checkLine(line string) error {
	if len(line) > maxLine {
		return fmt.Errorf("longer than %d bytes", maxLine)
	}
	if plain := strings.ReplaceAll(line, "\t", " "); plain != mail.CleanText(plain) {
		return errors.New("control characters or broken UTF-8; write plain text")
	}
	return nil
}
