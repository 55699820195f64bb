// Package dkim makes and reads signatures of mail (RFC 6376, 8301, 8463): its
// canonical forms, keys and their records. Chains (internal/arc) are built of the
// same.
package dkim

import (
	"bytes"
	"fmt"
	"strings"
)

// Canon is a way to write a header or a body so that what mailers change on the
// way makes no difference (RFC 6376 3.4).
type Canon string

// The ways.
const (
	Simple  Canon = "simple"
	Relaxed Canon = "relaxed"
)

// ParseCanon reads c=: the way of the header and that of the body.
func ParseCanon(s string) (header, body Canon, err error) {
	h, b, two := strings.Cut(strings.ToLower(compact(s)), "/")
	if h == "" && !two {
		return Simple, Simple, nil
	}
	if !two {
		b = string(Simple)
	}
	for _, c := range []Canon{Canon(h), Canon(b)} {
		if c != Simple && c != Relaxed {
			return "", "", fmt.Errorf("canonicalization %.40q is not known", s)
		}
	}
	return Canon(h), Canon(b), nil
}

// Field returns the bytes of one field, CRLF included, as they are signed.
func (c Canon) Field(raw []byte) []byte {
	if c != Relaxed {
		return raw
	}
	name, value, _ := bytes.Cut(raw, []byte(":"))
	out := make([]byte, 0, len(raw))
	out = append(out, bytes.ToLower(bytes.TrimRight(name, " \t"))...)
	out = append(out, ':')
	out = appendRelaxed(out, bytes.Trim(bytes.ReplaceAll(value, crlf, nil), " \t"))
	return append(out, crlf...)
}

var crlf = []byte("\r\n")

// appendRelaxed makes one blank of each run of them.
func appendRelaxed(out, text []byte) []byte {
	blank := false
	for _, c := range text {
		if c == ' ' || c == '\t' {
			blank = true
			continue
		}
		if blank {
			out = append(out, ' ')
			blank = false
		}
		out = append(out, c)
	}
	if blank {
		out = append(out, ' ')
	}
	return out
}
