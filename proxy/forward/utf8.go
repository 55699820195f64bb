package forward

import (
	"bytes"
	"errors"

	"gatepost/internal/mail"
)

// A message whose sender asked for SMTPUTF8 (RFC 6531) need not need it: some
// clients always ask. It may go to a next hop without where nothing in it is
// more than ASCII that an old server looks at: the header, those of its parts,
// and the addresses, of which a domain has its A-labels. All else would be
// mangled, and fails.

var needsUTF8 = mail.Reply{Code: 550, Detail: "6.7", Text: "the next hop does not offer SMTPUTF8, which this message needs"}

// refuseUTF8 settles what can't go to a next hop without SMTPUTF8.
func (t *transaction) refuseUTF8() *failure {
	if !isASCII(t.sender.Local) {
		t.settleAll(needsUTF8)
		return nil
	}
	switch plain, err := t.asciiHeaders(); {
	case err != nil:
		return unreadable(err)
	case !plain:
		t.settleAll(needsUTF8)
	}
	for i, r := range t.recipients {
		if !t.settled[i] && !isASCII(r.Local) {
			t.settle(i, needsUTF8)
		}
	}
	return nil
}

// address is an address as this next hop can read it.
func (t *transaction) address(p mail.Path, e extensions) mail.Address {
	if e.utf8 {
		return p.Address
	}
	return p.ToASCII()
}

// asciiHeaders reports whether the header of the message and of each of its
// parts is ASCII. Where it can't tell it says no.
func (t *transaction) asciiHeaders() (bool, error) {
	w := headerWatch{header: true}
	n, err := t.content.WriteTo(&w)
	switch {
	case w.found:
		return false, nil
	case err == nil && n != t.content.Size():
		err = errors.New("it is shorter than it was")
	}
	return err == nil, err
}

var errFound = errors.New("more than ASCII")

// headerWatch reads a message and stops at a header that is not ASCII.
type headerWatch struct {
	header bool // the line belongs to a header
	multi  bool // there are parts
	all    bool // within, messages may begin anywhere: nothing but ASCII will do
	found  bool
	line   []byte // the beginning of the line
}

// longestLine is how much of a line is looked at for words.
const longestLine = 1000

// Write takes a piece of the message.
func (w *headerWatch) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := bytes.IndexByte(rest, '\n') + 1
		whole := n > 0
		if !whole {
			n = len(rest)
		}
		part := rest[:n]
		rest = rest[n:]
		if len(w.line) < longestLine {
			w.line = append(w.line, part[:min(len(part), longestLine-len(w.line))]...)
		}
		if w.multi && !w.header && bytes.HasPrefix(w.line, []byte("--")) {
			w.header = true
		}
		if (w.header || w.all) && !isASCII(part) {
			w.found = true
			return 0, errFound
		}
		if whole {
			w.endLine()
		}
	}
	return len(p), nil
}

func (w *headerWatch) endLine() {
	switch {
	case !w.header:
	case len(bytes.TrimRight(w.line, "\r\n")) == 0:
		w.header = false
	default:
		lower := bytes.ToLower(w.line)
		w.multi = w.multi || bytes.Contains(lower, []byte("multipart/"))
		w.all = w.all || bytes.Contains(lower, []byte("message/"))
	}
	w.line = w.line[:0]
}

func isASCII[T ~string | ~[]byte](s T) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
