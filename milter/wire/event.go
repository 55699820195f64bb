package wire

import (
	"encoding/binary"

	"github.com/emersion/go-milter"
)

// CodeUnknown is SMFIC_UNKNOWN: a command that the MTA doesn't know (version 3).
const CodeUnknown milter.Code = 'U'

const maxArguments = 64 // of MAIL or RCPT, and half the strings of a packet of macros

// Macros is SMFIC_MACRO: the values known before the command For.
type Macros struct {
	For    milter.Code
	Values []Macro
}

// Macro is a name, with or without braces as the MTA writes it, and its value.
type Macro struct{ Name, Value string }

// Append adds m's packet to b.
func (m Macros) Append(b []byte) []byte {
	s := make([]string, 0, 2*len(m.Values))
	for _, v := range m.Values {
		s = append(s, v.Name, v.Value)
	}
	return appendStrings(b, byte(milter.CodeMacro), []byte{byte(m.For)}, s...)
}

// DecodeMacros reads the data of SMFIC_MACRO.
func DecodeMacros(data []byte) (Macros, error) {
	if len(data) < 1 {
		return Macros{}, malformed("macros for no command")
	}
	s, err := cutStrings(data[1:], 0, 8*maxArguments)
	if err != nil {
		return Macros{}, err
	}
	if len(s)%2 != 0 {
		return Macros{}, malformed("a macro without a value")
	}
	m := Macros{For: milter.Code(data[0])}
	for i := 0; i < len(s); i += 2 {
		m.Values = append(m.Values, Macro{Name: s[i], Value: s[i+1]})
	}
	return m, nil
}

// Families of a client's address.
const (
	FamilyUnknown = 'U'
	FamilyUnix    = 'L'
	FamilyIPv4    = '4'
	FamilyIPv6    = '6'
)

// Connect is SMFIC_CONNECT: the client of the SMTP connection.
type Connect struct {
	Host    string
	Family  byte
	Port    uint16
	Address string // as the MTA writes it: sendmail puts "IPv6:" before an IPv6 address, Postfix doesn't
}

// Append adds c's packet to b.
func (c Connect) Append(b []byte) []byte {
	if c.Family == FamilyUnknown {
		return Append(b, byte(milter.CodeConn), []byte(c.Host), []byte{0, FamilyUnknown})
	}
	tail := binary.BigEndian.AppendUint16([]byte{0, c.Family}, c.Port)
	tail = append(tail, c.Address...)
	return Append(b, byte(milter.CodeConn), []byte(c.Host), append(tail, 0))
}

// DecodeConnect reads the data of SMFIC_CONNECT.
func DecodeConnect(data []byte) (Connect, error) {
	i := 0
	for i < len(data) && data[i] != 0 {
		i++
	}
	if i+1 >= len(data) {
		return Connect{}, malformed("connect without an address family")
	}
	c := Connect{Host: string(data[:i]), Family: data[i+1]}
	rest := data[i+2:]
	switch c.Family {
	case FamilyUnknown:
		return c, nil
	case FamilyUnix, FamilyIPv4, FamilyIPv6:
	default:
		return Connect{}, malformed("address family %q", c.Family)
	}
	if len(rest) < 2 {
		return Connect{}, malformed("connect without a port")
	}
	c.Port = binary.BigEndian.Uint16(rest)
	s, err := cutStrings(rest[2:], 1, 1)
	if err != nil {
		return Connect{}, err
	}
	c.Address = s[0]
	return c, nil
}

// AppendText adds a packet of one string: HELO, UNKNOWN, a quarantine's reason,
// a reply code with its text.
func AppendText(b []byte, code byte, text string) []byte { return appendStrings(b, code, nil, text) }

// DecodeText reads the data of such a packet.
func DecodeText(data []byte) (string, error) {
	s, err := cutStrings(data, 1, 1)
	if err != nil {
		return "", err
	}
	return s[0], nil
}

// Envelope is SMFIC_MAIL or SMFIC_RCPT: an address with its angle brackets and
// the ESMTP arguments behind it.
type Envelope struct {
	Address string
	Args    []string
}

// Append adds e's packet to b.
func (e Envelope) Append(b []byte, code byte) []byte {
	return appendStrings(b, code, nil, append([]string{e.Address}, e.Args...)...)
}

// DecodeEnvelope reads the data of SMFIC_MAIL and SMFIC_RCPT, and of the
// replies that carry an address (SMFIR_ADDRCPT, ADDRCPT_PAR, DELRCPT, CHGFROM).
func DecodeEnvelope(data []byte) (Envelope, error) {
	s, err := cutStrings(data, 1, 1+maxArguments)
	if err != nil {
		return Envelope{}, err
	}
	return Envelope{Address: s[0], Args: s[1:]}, nil
}

// Header is SMFIC_HEADER and SMFIR_ADDHEADER, and with an index SMFIR_INSHEADER
// and SMFIR_CHGHEADER. A folded value holds LF, not CRLF.
type Header struct {
	Index       uint32
	Name, Value string
}

// Append adds h's packet without the index to b.
func (h Header) Append(b []byte, code byte) []byte {
	return appendStrings(b, code, nil, h.Name, h.Value)
}

// AppendIndexed adds h's packet with the index to b.
func (h Header) AppendIndexed(b []byte, code byte) []byte {
	return appendStrings(b, code, binary.BigEndian.AppendUint32(nil, h.Index), h.Name, h.Value)
}

// DecodeHeader reads the data of a packet without an index.
func DecodeHeader(data []byte) (Header, error) {
	s, err := cutStrings(data, 2, 2)
	if err != nil {
		return Header{}, err
	}
	if err := checkFieldName(s[0]); err != nil {
		return Header{}, err
	}
	return Header{Name: s[0], Value: s[1]}, nil
}

// DecodeIndexedHeader reads the data of a packet with an index.
func DecodeIndexedHeader(data []byte) (Header, error) {
	if len(data) < 4 {
		return Header{}, malformed("header without an index")
	}
	h, err := DecodeHeader(data[4:])
	h.Index = binary.BigEndian.Uint32(data)
	return h, err
}

// checkFieldName refuses a name that could not be told from the end of a field
// or the beginning of another.
func checkFieldName(name string) error {
	if name == "" {
		return malformed("header field without a name")
	}
	for i := 0; i < len(name); i++ {
		if name[i] == '\n' || name[i] == '\r' || name[i] == ':' {
			return malformed("character %q in the name of a header field", name[i])
		}
	}
	return nil
}
