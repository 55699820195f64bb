package archive

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"unicode/utf16"
)

// TNEF takes a winmail.dat apart: visit is called for each attachment and each
// body in it. Detect calls such a file an archive of the kind "tnef", so Open
// does the same.
func TNEF(ctx context.Context, name string, r io.ReaderAt, size int64, b *Budget, visit Visit) (Result, error) {
	return openAs(ctx, name, []string{"tnef"}, &source{ctx: ctx, r: r}, size, b, visit)
}

// Attributes of a TNEF stream, MS-OXTNEF 2.1.3.2, and their levels.
const (
	tnefSignature   = 0x223e9f78
	tnefMessage     = 1
	tnefAttachment  = 2
	attBody         = 0x800c
	attAttachData   = 0x800f
	attAttachTitle  = 0x8010
	attAttachStart  = 0x9002
	attMessageProps = 0x9003
	attAttachProps  = 0x9005
)

// MAPI properties that hold content or names.
const (
	propBody      = 0x1000
	propRTF       = 0x1009
	propHTML      = 0x1013
	propName      = 0x3001
	propData      = 0x3701
	propFileName  = 0x3704
	propLongName  = 0x3707
	propExtension = 0x3703
)

var errTNEF = errors.New("tnef: cut or garbled")

// tnefPart is one attachment while its attributes come in.
type tnefPart struct {
	names []string
	data  [][]byte
	began bool
}

// openTNEF holds the whole stream: it comes in one piece of a message.
func openTNEF(x *box, r io.ReaderAt, size int64) error {
	x.plain = true
	if err := x.budget.hold(size); err != nil {
		return err
	}
	defer x.budget.release(size)
	b := make([]byte, size)
	if _, err := r.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return x.tnef(b, 0)
}

// tnef reads the attributes of a stream, which may hold a message in a message.
func (x *box) tnef(b []byte, depth int) error {
	if len(b) < 6 || le32(b) != tnefSignature {
		return errTNEF
	}
	if depth > x.budget.limits.Depth {
		x.unseen("too many messages in each other")
		return nil
	}
	var part tnefPart
	for b = b[6:]; len(b) > 0; {
		if len(b) < 11 {
			break
		}
		level, id, n := b[0], le32(b[1:])&0xffff, int64(le32(b[5:]))
		if level != tnefMessage && level != tnefAttachment || n > int64(len(b))-11 {
			x.unseen("%v", errTNEF)
			break
		}
		value := b[9 : 9+n]
		b = b[11+n:]
		if id == attAttachStart {
			if err := x.tnefShow(&part); err != nil {
				return err
			}
			part = tnefPart{began: true}
			continue
		}
		if err := x.tnefAttribute(&part, id, value, depth); err != nil {
			return err
		}
	}
	return x.tnefShow(&part)
}

func (x *box) tnefAttribute(part *tnefPart, id uint32, value []byte, depth int) error {
	switch id {
	case attBody:
		return x.file(Entry{Names: []string{"body.txt"}, Size: int64(len(value))}, bytes.NewReader(value))
	case attAttachTitle:
		part.began = true
		part.names = append(part.names, decodeName(untilNUL(value), false)...)
	case attAttachData:
		part.began = true
		part.data = append(part.data, value)
	case attMessageProps, attAttachProps:
		props, ok := mapiProps(value, x.budget.limits.Files)
		if !ok {
			x.unseen("properties that can't be read")
		}
		for _, p := range props {
			if err := x.tnefProperty(part, p, id == attAttachProps, depth); err != nil {
				return err
			}
		}
	}
	return nil
}

func (x *box) tnefProperty(part *tnefPart, p mapiProp, attached bool, depth int) error {
	switch p.id {
	case propName, propFileName, propLongName:
		if attached {
			part.began = true
			// The long name is the one that is shown.
			part.names = append([]string{p.text()}, part.names...)
		}
	case propData:
		if len(p.value) > 16+6 && le32(p.value[16:]) == tnefSignature {
			return x.tnef(p.value[16:], depth+1) // behind the id of an interface
		}
		part.data = append(part.data, p.value)
	case propBody:
		text := p.text()
		return x.file(Entry{Names: []string{"body.txt"}, Size: int64(len(text))}, strings.NewReader(text))
	case propHTML:
		return x.file(Entry{Names: []string{"body.html"}, Size: int64(len(p.value))}, bytes.NewReader(p.value))
	case propRTF:
		rtf, err := unpackRTF(p.value)
		if err != nil {
			x.unseen("body.rtf not decoded: %v", err)
		}
		return x.file(Entry{Names: []string{"body.rtf"}, Size: int64(len(rtf))}, bytes.NewReader(rtf))
	}
	return nil
}

// tnefShow ends an attachment. Programs show the first data, or the last.
func (x *box) tnefShow(part *tnefPart) error {
	if !part.began {
		return nil
	}
	if len(part.data) > 1 {
		x.ambiguous("an attachment with %d contents", len(part.data))
	}
	if len(part.data) == 0 && len(part.names) > 0 {
		return x.file(Entry{Names: part.names, Size: -1}, nil)
	}
	for _, data := range part.data {
		if err := x.file(Entry{Names: part.names, Size: int64(len(data))}, bytes.NewReader(data)); err != nil {
			return err
		}
	}
	return nil
}

func untilNUL(b []byte) []byte {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		return b[:i]
	}
	return b
}

// mapiProp is one value of a property.
type mapiProp struct {
	id, kind uint16
	value    []byte
}

const (
	mapiString  = 0x1e
	mapiUnicode = 0x1f
	mapiObject  = 0x0d
	mapiBinary  = 0x102
)

func (p mapiProp) text() string {
	if p.kind != mapiUnicode {
		return decodeName(untilNUL(p.value), false)[0]
	}
	units := make([]uint16, 0, len(p.value)/2)
	for i := 0; i+1 < len(p.value); i += 2 {
		u := le16(p.value[i:])
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units))
}

// mapiReader takes bytes off the front; after an error it gives nothing.
type mapiReader struct {
	b   []byte
	bad bool
}

func (m *mapiReader) take(n uint32) []byte {
	if uint64(n) > uint64(len(m.b)) {
		m.b, m.bad = nil, true
		return nil
	}
	b := m.b[:n]
	m.b = m.b[n:]
	return b
}

func (m *mapiReader) number() uint32 {
	if b := m.take(4); b != nil {
		return le32(b)
	}
	return 0
}

// padded takes n bytes and what fills them to a multiple of four.
func (m *mapiReader) padded(n uint32) []byte {
	b := m.take(n)
	m.take(min((4-n%4)%4, uint32(len(m.b))))
	return b
}

// mapiProps reads a list of properties, MS-OXTNEF 2.1.3.4.
func mapiProps(b []byte, most int) (props []mapiProp, ok bool) {
	m := &mapiReader{b: b}
	for n := m.number(); n > 0 && !m.bad; n-- {
		tag := m.number()
		kind, id := uint16(tag), uint16(tag>>16)
		if id >= 0x8000 { // named: a GUID, and a number or a name
			m.take(16)
			if m.number() == 0 {
				m.take(4)
			} else {
				m.padded(m.number())
			}
		}
		values := uint32(1)
		multiple := kind&0x1000 != 0
		if kind &^= 0x1000; multiple || isVariable(kind) {
			values = m.number()
		}
		for ; values > 0 && !m.bad; values-- {
			if len(props) >= most {
				return props, false
			}
			props = append(props, mapiProp{id: id, kind: kind, value: m.value(kind)})
		}
	}
	return props, !m.bad
}

func isVariable(kind uint16) bool {
	return kind == mapiString || kind == mapiUnicode || kind == mapiObject || kind == mapiBinary
}

func (m *mapiReader) value(kind uint16) []byte {
	switch kind {
	case mapiString, mapiUnicode, mapiObject, mapiBinary:
		return m.padded(m.number())
	case 2, 3, 4, 10, 11:
		return m.take(4)
	case 5, 6, 7, 0x14, 0x40:
		return m.take(8)
	case 0x48:
		return m.take(16)
	}
	m.bad = true
	return nil
}
