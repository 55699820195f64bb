package mail

import (
	"bytes"
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
	head := make([]byte, min(size, MaxHeaderSize+2))
	if _, err := content.ReadAt(head, 0); err != nil && err != io.EOF {
		return nil, err
	}
	// Keep only the header's share: the rest is body and would hold memory.
	if end := headerEnd(head); end < len(head) {
		head = bytes.Clone(head[:end])
	}
	h, at, err := SplitHeader(head)
	if err != nil {
		return nil, err
	}
	return NewMessage(h, io.NewSectionReader(content, int64(at), size-int64(at)), size-int64(at)), nil
}

// headerEnd is behind the first empty line, or the end.
func headerEnd(b []byte) int {
	if bytes.HasPrefix(b, crlf) {
		return len(crlf)
	}
	if i := bytes.Index(b, []byte("\r\n\r\n")); i >= 0 {
		return i + 4
	}
	return len(b)
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
