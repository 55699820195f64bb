package dkim

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// Tags is a tag list (RFC 6376 3.2): "v=1; a=rsa-sha256; …".
type Tags map[string]string

// ErrTags is wrapped by all that ParseTags refuses.
var ErrTags = errors.New("tag list")

const (
	blanks  = " \t\r\n" // folding included
	maxTags = 64
)

// ParseTags reads a tag list. A tag that is there twice makes it worthless: each
// reader would take another one.
func ParseTags(s string) (Tags, error) {
	t := make(Tags)
	for part := range strings.SplitSeq(s, ";") {
		if strings.Trim(part, blanks) == "" {
			continue // behind the last one, and some write two in a row
		}
		name, value, ok := strings.Cut(part, "=")
		name = strings.Trim(name, blanks)
		if !ok || !isTagName(name) {
			return nil, fmt.Errorf("%w: not a tag: %.40q", ErrTags, part)
		}
		if _, twice := t[name]; twice {
			return nil, fmt.Errorf("%w: %s= is there twice", ErrTags, name)
		}
		if len(t) == maxTags {
			return nil, fmt.Errorf("%w: more than %d tags", ErrTags, maxTags)
		}
		value = strings.Trim(value, blanks)
		for i := 0; i < len(value); i++ {
			if c := value[i]; c >= 0x7f || c < ' ' && !strings.ContainsRune(blanks, rune(c)) {
				return nil, fmt.Errorf("%w: byte %#x in %s=", ErrTags, c, name)
			}
		}
		t[name] = value
	}
	return t, nil
}

func isTagName(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c != '_' && (c < '0' || c > '9')) {
			return false
		}
	}
	return s != ""
}

// Base64 decodes a tag; blanks in it are folding.
func (t Tags) Base64(name string) ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(compact(t[name]))
	if err != nil || len(b) == 0 {
		return nil, fmt.Errorf("%w: %s= is no base64", ErrTags, name)
	}
	return b, nil
}

// List splits a tag at colons, in lower case, without blanks.
func (t Tags) List(name string) []string {
	value := strings.ToLower(compact(t[name]))
	if value == "" {
		return nil
	}
	return strings.Split(value, ":")
}

// compact drops all blanks.
func compact(s string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(blanks, r) {
			return -1
		}
		return r
	}, s)
}

// WithoutSignature returns a field with the value of its b= taken out and
// nothing else changed (RFC 6376 3.5, 3.7): what its signature is over.
func WithoutSignature(raw []byte) []byte {
	colon := strings.IndexByte(string(raw), ':')
	if colon < 0 {
		return raw
	}
	out := append([]byte(nil), raw[:colon+1]...)
	value, end := raw[colon+1:], []byte(nil)
	if n := len(value); n >= 2 && string(value[n-2:]) == "\r\n" {
		value, end = value[:n-2], value[n-2:]
	}
	for i, part := range strings.Split(string(value), ";") {
		if i > 0 {
			out = append(out, ';')
		}
		name, _, ok := strings.Cut(part, "=")
		if ok && strings.Trim(name, blanks) == "b" {
			part = name + "="
		}
		out = append(out, part...)
	}
	return append(out, end...)
}
