package mail

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
)

// Message is a header and a read-only body. Nothing in it is normalised; the
// body may lie in memory or in a file and is never held whole in a []byte.
type Message struct {
	Header   Header
	body     io.ReaderAt
	bodySize int64
}

// NewMessage joins a header and the body behind it.
func NewMessage(h Header, body io.ReaderAt, size int64) *Message {
	return &Message{Header: h, body: body, bodySize: size}
}

// ReadMessage splits content of a known size into header and body.
func ReadMessage(content io.ReaderAt, size int64) (*Message, error) {
	head, err := readHead(content, size)
	if err != nil {
		return nil, err
	}
	h, at, err := SplitHeader(head)
	if err != nil {
		return nil, err
	}
	return NewMessage(h, io.NewSectionReader(content, int64(at), size-int64(at)), size-int64(at)), nil
}

// readHead reads up to the empty line, or as much as a header may have. It
// starts small: most headers are, and the fields keep what is read alive.
func readHead(content io.ReaderAt, size int64) ([]byte, error) {
	limit := min(size, MaxHeaderSize+2)
	for n := min(limit, 4<<10); ; n = min(limit, n*8) {
		head := make([]byte, n)
		if got, err := content.ReadAt(head, 0); int64(got) < n {
			return nil, fmt.Errorf("header: read: %w", cmp.Or(err, io.ErrUnexpectedEOF))
		}
		if end := headerEnd(head); end >= 0 {
			return head[:end:end], nil
		}
		if n == limit {
			return head, nil
		}
	}
}

// headerEnd is the offset behind the first empty line, -1 when there is none.
func headerEnd(b []byte) int {
	if bytes.HasPrefix(b, crlf) {
		return len(crlf)
	}
	if i := bytes.Index(b, []byte("\r\n\r\n")); i >= 0 {
		return i + 4
	}
	return -1
}

// Body returns a new reader of the body; each caller has its own position.
func (m *Message) Body() *io.SectionReader { return io.NewSectionReader(m.body, 0, m.bodySize) }

// BodySize is the length of the body in bytes.
func (m *Message) BodySize() int64 { return m.bodySize }

// Size is the length of the whole message in bytes.
func (m *Message) Size() int64 { return m.Header.Size() + int64(len(crlf)) + m.bodySize }

// Reader returns the message as it goes out: header, empty line, body.
func (m *Message) Reader() io.Reader {
	return io.MultiReader(bytes.NewReader(m.Header.Bytes()), bytes.NewReader(crlf), m.Body())
}
