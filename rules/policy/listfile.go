package policy

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"os"
	"strings"
	"time"

	"gatepost/internal/tomltext"
)

// readFile adds the entries of a file: one a line, comments behind "#" at the
// beginning of a line or behind a blank, and behind an entry what is known of
// it: until=2026-12-31 ticket=SEC-1 source=feed note=the rest of the line.
func (l *list) readFile(path string, now time.Time, sum hash.Hash, r *report, open func(string) (io.ReadCloser, error)) {
	f, err := open(path)
	if err != nil {
		r.problem(Problem{File: path, What: "can't be read: " + reason(err), Do: "the gateway's user must be able to read it"})
		return
	}
	defer f.Close()
	if info, err := statOf(f); err == nil && (info.Size() > maxList || !info.Mode().IsRegular()) {
		r.problem(Problem{File: path, What: fmt.Sprintf("is no file of less than %d MB", maxList>>20), Do: "is this the right one?"})
		return
	}
	if len(l.files) > math.MaxUint16 {
		r.problem(Problem{File: path, What: "is one of too many files of one list", Do: "join some"})
		return
	}
	l.files = append(l.files, path)
	fmt.Fprintf(sum, "%s\n", path)
	before := l.size
	if err := l.read(io.TeeReader(io.LimitReader(f, maxList), sum), now, r); err != nil {
		r.problem(Problem{File: path, What: "can't be read: " + err.Error()})
	}
	if l.size == before && !l.managed {
		r.warn(Problem{File: path, What: "has no entries", Do: "nothing is ever in it"})
	}
}

// statOf asks what is open whether it is a file; what is none has no size.
func statOf(f io.ReadCloser) (os.FileInfo, error) {
	file, ok := f.(*os.File)
	if !ok {
		return nil, os.ErrInvalid
	}
	return file.Stat()
}

// reason is an error of a file without its name.
func reason(err error) string {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err.Error()
	}
	return err.Error()
}

func (l *list) read(from io.Reader, now time.Time, r *report) error {
	file := len(l.files) - 1
	lines := bufio.NewScanner(from)
	lines.Buffer(make([]byte, 0, 64<<10), maxExpr+1024)
	expired := 0
	for n := 1; lines.Scan(); n++ {
		entry, more := splitEntry(lines.Text())
		if entry == "" {
			continue
		}
		at := spot{uint16(file), uint32(n)}
		where := Problem{File: l.files[file], Position: at.position()}
		if more != "" && !l.annotate(at, more, now, where, &expired, r) {
			continue
		}
		if err := l.add(entry, at); err != nil {
			what, do, _ := strings.Cut(err.Error(), "; ")
			where.What, where.Do = what, do
			r.problem(where)
			if r.full() {
				return nil
			}
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return fmt.Errorf("a line is longer than %d bytes", maxExpr)
	} else if err != nil {
		return err
	}
	if expired > maxExpiredShown {
		r.warn(Problem{File: l.files[file], What: fmt.Sprintf("%d more entries have expired", expired-maxExpiredShown), Do: "remove them"})
	}
	return nil
}

// maxExpiredShown are named one by one.
const maxExpiredShown = 10

// splitEntry cuts a line into its entry and what is said of it.
func splitEntry(line string) (entry, more string) {
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' {
		return "", ""
	}
	if !strings.ContainsAny(line, " \t") {
		return line, ""
	}
	if i := strings.Index(line, " #"); i >= 0 {
		line = line[:i]
	}
	if i := strings.Index(line, "\t#"); i >= 0 {
		line = line[:i]
	}
	end := len(line)
	for _, key := range annotations {
		for from := 0; ; {
			i := strings.Index(line[from:end], key+"=")
			if i < 0 {
				break
			}
			i += from
			if i > 0 && (line[i-1] == ' ' || line[i-1] == '\t') {
				end = i
				break
			}
			from = i + 1
		}
	}
	return strings.TrimSpace(line[:end]), strings.TrimSpace(line[end:])
}

var annotations = []string{"until", "ticket", "source", "note"}

// annotate reads what is said of an entry, and reports whether it counts.
func (l *list) annotate(at spot, text string, now time.Time, where Problem, expired *int, r *report) bool {
	for text != "" {
		key, value, ok := strings.Cut(text, "=")
		if key == "note" {
			return true // the rest of the line
		}
		value, text, _ = strings.Cut(value, " ")
		text = strings.TrimSpace(text)
		switch {
		case !ok || key != "until" && key != "ticket" && key != "source":
			where.What, where.Do = fmt.Sprintf("%q is not understood behind an entry", clip(key)), tomltext.DidYouMean(key, annotations)
			r.problem(where)
			return false
		case key != "until":
			continue
		}
		end, err := parseDay(value, true)
		if err != nil {
			where.What, where.Do = fmt.Sprintf("until=%s is no date", clip(value)), "write until=2026-12-31"
			r.problem(where)
			return false
		}
		l.until[at] = end
		if !now.Before(end) {
			if *expired++; *expired <= maxExpiredShown {
				where.What, where.Do = "the entry has expired with "+value, "remove it, or give it more time"
				r.warn(where)
			}
		}
	}
	return true
}

// parseDay reads a day, or a moment in RFC 3339. The end of a day is where it
// ends.
func parseDay(s string, end bool) (time.Time, error) {
	if t, err := time.ParseInLocation(time.DateOnly, s, time.Local); err == nil {
		if end {
			t = t.AddDate(0, 0, 1)
		}
		return t, nil
	}
	return time.Parse(time.RFC3339, s)
}

// newSum is what a generation is named by.
func newSum() hash.Hash { return sha256.New() }
