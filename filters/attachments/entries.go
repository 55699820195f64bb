package attachments

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
)

const (
	maxFile    = 4 << 20
	maxEntries = 10_000 // of one key, its files included
)

// entry is one element of a list, and where it stands.
type entry struct{ text, where string }

// problem is an error at the place of an entry.
func (e entry) problem(format string, args ...any) error {
	return fmt.Errorf("%s: %s", e.where, fmt.Sprintf(format, args...))
}

// entries reads a key with the files that it names; without files these are
// left out. Where an entry stands is "path:line", or the key with its number.
func (l *loader) entries(key string, list []string) []entry {
	var all []entry
	for i, text := range list {
		at := entry{text, fmt.Sprintf("%s[%d]", key, i)}
		path, isFile := strings.CutPrefix(text, "file:")
		switch {
		case !isFile:
			all = append(all, at)
		case l.files:
			more, err := readFile(path)
			if err != nil {
				l.fail(at.problem("%v", err))
			}
			all = append(all, more...)
		}
	}
	if len(all) > maxEntries {
		l.fail(fmt.Errorf("%s: %d entries; up to %d", key, len(all), maxEntries))
		return nil
	}
	return all
}

func readFile(path string) ([]entry, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []entry
	lines := bufio.NewScanner(io.LimitReader(f, maxFile))
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(lines.Text())
		if text != "" && text[0] != '#' {
			all = append(all, entry{text, fmt.Sprintf("%s:%d", path, n)})
		}
	}
	return all, lines.Err()
}

// Files are the files that the lists name.
func (c Config) Files() []string {
	var paths []string
	deny, allow := c.lists()
	add := func(lists ...[]string) {
		for _, list := range lists {
			for _, e := range list {
				if path, ok := strings.CutPrefix(e, "file:"); ok {
					paths = append(paths, path)
				}
			}
		}
	}
	for _, d := range deny {
		add(d.Recipients, d.NotRecipients, d.Extensions, d.DoubleExtensions, d.Names, d.Declared, d.Detected, d.Ignore)
	}
	for _, a := range allow {
		add(a.Recipients, a.NotRecipients, a.Types)
	}
	return paths
}
