package mailq

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const maxCF = 16 << 20

// readCF finds the queue directories and the host's name in sendmail.cf.
func readCF(name string) (*Sendmail, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxCF))
	if err != nil {
		return nil, err
	}
	s := &Sendmail{}
	main, groups := "", []string(nil)
	for line := range strings.Lines(string(b)) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case strings.HasPrefix(line, "Dj"):
			s.host = literal(line[2:])
		case strings.HasPrefix(line, "OQ"):
			main = strings.TrimSpace(line[2:])
		case strings.HasPrefix(line, "O "):
			option, value, _ := strings.Cut(line[2:], "=")
			if strings.EqualFold(strings.TrimSpace(option), "QueueDirectory") {
				main = strings.TrimSpace(value)
			}
		case strings.HasPrefix(line, "Q"):
			if path := groupPath(line[1:]); path != "" {
				groups = append(groups, path)
			}
		}
	}
	if main == "" || !filepath.IsAbs(main) {
		return nil, errors.New(name + ": no QueueDirectory with a full path")
	}
	s.paths = []string{main}
	for _, path := range groups {
		if !filepath.IsAbs(path) {
			path = wildcardBase(main) + "/" + path
		}
		if !slices.Contains(s.paths, path) {
			s.paths = append(s.paths, path)
		}
	}
	return s, nil
}

// groupPath is the Path= of a queue group, "name, P=/var/spool/mqueue/q*, R=5";
// "" where it has none of its own.
func groupPath(group string) string {
	for _, equate := range strings.Split(group, ",")[1:] {
		key, value, ok := strings.Cut(strings.TrimSpace(equate), "=")
		if ok && strings.HasPrefix(strings.ToUpper(strings.TrimSpace(key)), "P") {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// wildcardBase is the directory above those that "/path/q*" stands for.
func wildcardBase(path string) string {
	if prefix, wild := strings.CutSuffix(path, "*"); wild {
		return filepath.Dir(prefix)
	}
	return path
}

// literal is a macro's value where it names no other macro.
func literal(value string) string {
	value = strings.TrimSpace(value)
	if strings.Contains(value, "$") {
		return ""
	}
	return value
}
