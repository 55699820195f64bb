package alter

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	stdmime "mime"
	"strings"

	"gatepost/internal/mail"
)

// node is a part of a message that keeps to RFC 2045 and RFC 2046. Offsets are
// in the body of the message.
type node struct {
	header   mail.Header
	headerAt int64 // where the header begins; -1 for the message itself
	at, end  int64 // the content
	media    string
	params   map[string]string
	children []*node
	parent   *node
}

// What a message that is taken apart may have.
const (
	maxDepth  = 20
	maxNodes  = 1000
	maxHeader = 64 << 10 // of a part
)

var errStructure = errors.New("not built as RFC 2046 says")

func structureError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errStructure, fmt.Sprintf(format, args...))
}

// parser reads the structure of one message.
type parser struct {
	body  io.ReaderAt
	nodes int
}

// parse reads how m is built. What is not by the letter is an error.
func parse(m *mail.Message) (*node, error) {
	p := &parser{body: m.Body()}
	root := &node{header: m.Header, headerAt: -1, end: m.BodySize()}
	return root, p.read(root, 0)
}

// read fills in what n is and what it holds.
func (p *parser) read(n *node, depth int) error {
	if p.nodes++; p.nodes > maxNodes || depth > maxDepth {
		return structureError("too many parts, or too deep")
	}
	n.media = "text/plain"
	if n.parent != nil && n.parent.media == "multipart/digest" {
		n.media = "message/rfc822"
	}
	switch n.header.Count("Content-Type") {
	case 0:
		return nil
	case 1:
	default:
		return structureError("several Content-Type fields")
	}
	value := n.header.Get("Content-Type")
	media, params, err := stdmime.ParseMediaType(value)
	if err != nil {
		// The parameters of what holds nothing do no harm.
		word, _, _ := strings.Cut(value, ";")
		n.media = strings.ToLower(strings.TrimSpace(word))
		if n.isComposite() || !strings.Contains(n.media, "/") {
			return structureError("Content-Type: %v", err)
		}
		return nil
	}
	n.media, n.params = media, params
	if !n.isComposite() {
		return nil
	}
	if e := n.encoding(); e != "" && e != "7bit" && e != "8bit" && e != "binary" {
		return structureError("%s is encoded", n.media)
	}
	if n.media == "message/rfc822" || n.media == "message/global" {
		return p.readMessage(n, depth)
	}
	return p.readMultipart(n, depth)
}

// isComposite reports whether a part holds others.
func (n *node) isComposite() bool {
	return strings.HasPrefix(n.media, "multipart/") || n.media == "message/rfc822" || n.media == "message/global"
}

func (n *node) encoding() string {
	return strings.ToLower(strings.TrimSpace(n.header.Get("Content-Transfer-Encoding")))
}

// readMessage reads a message that is a part.
func (p *parser) readMessage(n *node, depth int) error {
	child, err := p.child(n, n.at, n.end)
	if err != nil {
		return err
	}
	return p.read(child, depth+1)
}

// child makes a part of a range that begins with its header.
func (p *parser) child(n *node, at, end int64) (*node, error) {
	head := make([]byte, min(end-at, maxHeader))
	if got, err := p.body.ReadAt(head, at); got < len(head) {
		return nil, fmt.Errorf("alter: read the header of a part: %w", err)
	}
	h, used, err := mail.SplitHeader(head)
	switch {
	case err != nil:
		return nil, structureError("%v", err)
	case !endsHeader(head, used):
		return nil, structureError("a part without an end of its header")
	}
	child := &node{header: h, headerAt: at, at: at + int64(used), end: end, parent: n}
	n.children = append(n.children, child)
	return child, nil
}

// endsHeader reports whether the header ends in an empty line there.
func endsHeader(head []byte, used int) bool {
	return used == 2 && string(head[:2]) == "\r\n" || used >= 4 && string(head[used-4:used]) == "\r\n\r\n"
}

// readMultipart finds the parts between the lines with the boundary.
func (p *parser) readMultipart(n *node, depth int) error {
	boundary := n.params["boundary"]
	if boundary == "" || len(boundary) > 200 || strings.TrimRight(boundary, " \t") != boundary {
		return structureError("%s with boundary %q", n.media, boundary)
	}
	ranges, err := p.split(n, "--"+boundary)
	if err != nil {
		return err
	}
	for _, r := range ranges {
		child, err := p.child(n, r[0], r[1])
		if err != nil {
			return err
		}
		if err := p.read(child, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// split returns where the parts begin and end. A line that only begins with the
// boundary, or that does not end in CRLF, is one that others may read otherwise.
func (p *parser) split(n *node, delimiter string) (ranges [][2]int64, err error) {
	lines := &lineReader{r: bufio.NewReaderSize(io.NewSectionReader(p.body, n.at, n.end-n.at), 32<<10), at: n.at}
	open, closed := int64(-1), false
	for {
		line, at, err := lines.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("alter: read the body: %w", err)
		}
		if !bytes.HasPrefix(line, []byte(delimiter)) {
			continue
		}
		rest := string(line[len(delimiter):])
		last := strings.HasPrefix(rest, "--")
		rest = strings.TrimPrefix(rest, "--")
		if strings.Trim(strings.TrimSuffix(rest, "\r\n"), " \t") != "" || !strings.HasSuffix(rest, "\r\n") && !(last && rest == "") {
			return nil, structureError("a line that only begins with a boundary")
		}
		if closed {
			return nil, structureError("a boundary behind the last one")
		}
		if open >= 0 {
			ranges = append(ranges, [2]int64{open, max(open, at-2)})
		}
		open, closed = at+int64(len(line)), last
		if len(ranges) > maxNodes {
			return nil, structureError("too many parts")
		}
	}
	if !closed {
		return nil, structureError("%s without its end", n.media)
	}
	return ranges, nil
}

// lineReader reads lines with their place. Of a long line the beginning comes.
type lineReader struct {
	r  *bufio.Reader
	at int64
}

func (l *lineReader) next() (line []byte, at int64, err error) {
	at = l.at
	line, err = l.r.ReadSlice('\n')
	l.at += int64(len(line))
	if err == io.EOF && len(line) > 0 {
		return line, at, nil
	}
	if err != bufio.ErrBufferFull {
		return line, at, err
	}
	line = append([]byte(nil), line[:1000]...)
	for err == bufio.ErrBufferFull {
		var more []byte
		more, err = l.r.ReadSlice('\n')
		l.at += int64(len(more))
	}
	if err == io.EOF {
		err = nil
	}
	return line, at, err
}

// all calls do for n and what it holds.
func (n *node) all(do func(*node)) {
	do(n)
	for _, c := range n.children {
		c.all(do)
	}
}

// find returns the part whose content stands there.
func (n *node) find(at, length int64) *node {
	var found *node
	n.all(func(c *node) {
		end := at + length
		if c.at == at && c.end >= end-2 && c.end <= end+2 {
			found = c
		}
	})
	return found
}
