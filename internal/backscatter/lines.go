package backscatter

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
)

// Limits on what is read of one bounce. The returned header stands behind a text
// and one block for each recipient that failed.
const (
	Longest    = 1 << 20 // bytes that are read of a bounce; the rest is not asked for
	maxLine    = 32 << 10
	maxHeader  = 256 << 10
	maxFields  = 1000
	maxDecoded = 256 << 10
)

var (
	errTooLong = errors.New("its header is longer than any mail needs")
	errCut     = errors.New("it is cut off, or longer than any bounce needs to be")
)

// field is one header field, unfolded.
type field struct{ name, value string }

func (f field) is(name string) bool { return strings.EqualFold(f.name, name) }

func get(header []field, name string) string {
	for _, f := range header {
		if f.is(name) {
			return f.value
		}
	}
	return ""
}

// lines reads lines that end in CRLF or LF and knows the delimiters of a
// multipart.
type lines struct {
	r      *bufio.Reader
	delim  string // "--boundary"; "" for none yet
	line   string // a line that was read too early
	unread bool
}

func newLines(r io.Reader) *lines {
	return &lines{r: bufio.NewReaderSize(io.LimitReader(r, Longest), maxLine)}
}

// next returns a line without its end. Of one that is too long it is the
// beginning.
func (l *lines) next() (string, error) {
	if l.unread {
		l.unread = false
		return l.line, nil
	}
	b, err := l.r.ReadSlice('\n')
	line := string(bytes.TrimRight(b, "\r\n"))
	for errors.Is(err, bufio.ErrBufferFull) {
		_, err = l.r.ReadSlice('\n')
	}
	if len(b) > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return line, err
}

func (l *lines) back(line string) { l.line, l.unread = line, true }

// delimits tells whether a line separates two parts, or ends the last one.
func (l *lines) delimits(line string) (yes, last bool) {
	rest, ok := strings.CutPrefix(line, l.delim)
	if l.delim == "" || !ok {
		return false, false
	}
	rest = strings.TrimRight(rest, " \t")
	return rest == "" || rest == "--", rest == "--"
}

// header reads fields up to the first empty line, or to the first that is none:
// the rule is that of the rest of the gateway. It leaves a delimiter unread.
func (l *lines) header() ([]field, error) {
	var all []field
	var folded []string // the lines of the last field; joined once, there may be many
	unfold := func() []field {
		if len(folded) > 1 {
			all[len(all)-1].value = strings.TrimSpace(strings.Join(folded, " "))
		}
		return all
	}
	size := 0
	for {
		line, err := l.next()
		switch {
		case errors.Is(err, io.EOF) && l.delim != "":
			return nil, errCut // what is missing may be what counts
		case err != nil:
			return unfold(), ended(err)
		}
		if yes, _ := l.delimits(line); yes {
			l.back(line)
			return unfold(), nil
		}
		if size += len(line) + 1; size > maxHeader || len(all) > maxFields {
			return nil, errTooLong
		}
		if line != "" && (line[0] == ' ' || line[0] == '\t') && len(all) > 0 {
			folded = append(folded, strings.TrimSpace(line))
			continue
		}
		f, ok := parseField(line)
		if !ok {
			return unfold(), nil
		}
		all = append(unfold(), f)
		folded = []string{f.value}
	}
}

// ended is nil at the end of what may be read.
func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func parseField(line string) (field, bool) {
	name, value, ok := strings.Cut(line, ":")
	name = strings.TrimRight(name, " \t")
	if !ok || name == "" {
		return field{}, false
	}
	for i := 0; i < len(name); i++ {
		if name[i] <= ' ' || name[i] >= 0x7f {
			return field{}, false
		}
	}
	return field{name, strings.TrimSpace(value)}, true
}
