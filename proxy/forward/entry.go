package forward

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"
	"unicode/utf8"
)

// Entry is a route from a mailertable or transport file.
type Entry struct {
	File string
	Line int
	Key  string // as of Config.Routes, in the form in which it is looked for
	Route
	// Through leaves the key to the routes of the configuration, as if the file
	// had no entry for it or for what lies around it.
	Through bool
}

// Limits of a file.
const (
	maxTableSize = 64 << 20
	maxTableLine = 4096
)

// line is one entry of a file before it is understood.
type line struct {
	number     int
	key, value string
}

// ReadMailertable reads sendmail's mailertable in its text form: a key, white
// space, a value. A key is a host name (exactly that one), ".domain" (what lies
// below it), or "." (everything else). A value is
//
//	smtp:host       the MX hosts of host; relay:, esmtp: and a bare host are the same
//	smtp:[host]     host itself
//	smtp:a:b        first a, then b, each as above
//	smtp:host:26    a port, since no host is called by a number
//	error:5.1.1:550 text, error:nohost text, error:text
//
// where %1 in front of the host's domain is what ".domain" stands for.
// The error names all bad lines, as "path:line: what; what to do".
func ReadMailertable(path string) ([]Entry, error) {
	lines, err := readTable(path, false)
	return entries(path, lines, err, mailertableEntry)
}

// ReadTransport reads Postfix's transport table in its text form: a pattern,
// white space, "transport:nexthop". A pattern is "user@domain", a domain,
// ".domain" (what lies below it), or "*" (everything else). A result is
//
//	smtp:host  smtp:host:port    the MX hosts of host; relay: is the same
//	smtp:[host]  smtp:[host]:port
//	smtp:                        the MX hosts of the recipient's domain
//	smtp:a, b                    first a, then b
//	lmtp:[host]:port  lmtp:inet:host:port  lmtp:unix:/path
//	error:5.1.1 text  retry:4.0.1 text
//	:                            as if there were no entry
//
// The error names all bad lines, as "path:line: what; what to do".
func ReadTransport(path string) ([]Entry, error) {
	lines, err := readTable(path, true)
	return entries(path, lines, err, transportEntry)
}

// entries reads lines by a rule. Of a key that is there twice the first counts
// for sendmail and Postfix; here it is an error.
func entries(path string, lines []line, err error, read func(line) (Entry, error)) ([]Entry, error) {
	errs := []error{err}
	seen := make(map[string]int)
	var all []Entry
	for _, l := range lines {
		e, err := read(l)
		if err == nil && seen[e.Key] > 0 {
			err = fmt.Errorf("%q is there twice; it is on line %d, too", l.key, seen[e.Key])
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s:%d: %w", path, l.number, err))
			continue
		}
		seen[e.Key] = l.number
		e.File, e.Line = path, l.number
		all = append(all, e)
	}
	return all, errors.Join(errs...)
}

// readTable reads the lines of a file. Where they may be continued, a line that
// begins with white space belongs to the one above, as in Postfix; for makemap
// it is an error.
func readTable(path string, continued bool) ([]line, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s:1: %w", path, cause(err))
	}
	defer file.Close()
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("is no file of text")
	} else if err == nil && info.Size() > maxTableSize {
		err = fmt.Errorf("is larger than %d bytes", maxTableSize)
	}
	if err != nil {
		return nil, fmt.Errorf("%s:1: %w", path, cause(err))
	}
	var lines []line
	var errs []error
	in := bufio.NewScanner(file)
	in.Buffer(make([]byte, 0, maxTableLine), maxTableLine)
	n := 0
	for in.Scan() {
		n++
		text := strings.TrimRight(in.Text(), " \t\r")
		switch {
		case text == "" || text[0] == '#' || continued && strings.HasPrefix(strings.TrimLeft(text, " \t"), "#"):
		case !utf8.ValidString(text):
			errs = append(errs, fmt.Errorf("%s:%d: is not UTF-8", path, n))
		case text[0] != ' ' && text[0] != '\t':
			l := line{number: n}
			l.key, l.value = cutSpace(text)
			lines = append(lines, l)
		case continued && len(lines) > 0:
			last := &lines[len(lines)-1]
			last.value = strings.TrimSpace(last.value + " " + strings.TrimSpace(text))
		default:
			errs = append(errs, fmt.Errorf("%s:%d: begins with white space; write the key at the beginning of the line", path, n))
		}
	}
	if err := in.Err(); errors.Is(err, bufio.ErrTooLong) {
		errs = append(errs, fmt.Errorf("%s:%d: is longer than %d bytes", path, n+1, maxTableLine))
	} else if err != nil {
		errs = append(errs, fmt.Errorf("%s:%d: %w", path, n+1, cause(err)))
	}
	return lines, errors.Join(errs...)
}

func cutSpace(s string) (word, rest string) {
	if i := strings.IndexAny(s, " \t"); i >= 0 {
		return s[:i], strings.TrimLeft(s[i:], " \t")
	}
	return s, ""
}

// cause is an error of the file system without the path, which is named anyway.
func cause(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
