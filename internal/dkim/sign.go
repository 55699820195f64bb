package dkim

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	"gatepost/internal/mail"
)

// Fields says which fields a signature covers.
type Fields struct {
	// Over are covered as often as they are there and once more, so that
	// nobody can add one (RFC 6376 8.15).
	Over []string
	// Present are covered as often as they are there.
	Present []string
}

// Names returns h= for a header, in lower case. From is always in it.
func (f Fields) Names(h mail.Header) []string {
	count := make(map[string]int)
	for _, field := range h {
		count[strings.ToLower(field.Name())]++
	}
	var names []string
	seen := make(map[string]bool)
	add := func(name string, more int) {
		name = strings.ToLower(name)
		if seen[name] {
			return
		}
		seen[name] = true
		for range count[name] + more {
			names = append(names, name)
		}
	}
	add("From", 1)
	for _, name := range f.Over {
		add(name, 1)
	}
	for _, name := range f.Present {
		add(name, 0)
	}
	return names
}

// Signing is one signature to be made, relaxed/relaxed over a whole message.
type Signing struct {
	Key      *Key
	Names    []string // h=, from Fields.Names
	BodyHash []byte   // BodyHash(body, Relaxed)
	At       time.Time
	Expires  time.Time // zero: never
}

// Sign makes the DKIM-Signature of a header.
func (s Signing) Sign(h mail.Header) (mail.Field, error) {
	tags := []string{"v=1", "a=" + s.Key.Algorithm(), "c=relaxed/relaxed", "d=" + s.Key.Domain, "s=" + s.Key.Selector, "t=" + strconv.FormatInt(s.At.Unix(), 10)}
	if !s.Expires.IsZero() {
		tags = append(tags, "x="+strconv.FormatInt(s.Expires.Unix(), 10))
	}
	tags = append(tags, HashTags(s.Names, s.BodyHash)...)
	return SignFields("DKIM-Signature", tags, s.Key, Select(h, s.Names))
}

// SignFields makes a field that signs fields and itself, both relaxed: a
// DKIM-Signature or one of a chain. Its tags come first, then b=.
func SignFields(name string, tags []string, key *Key, fields []mail.Field) (mail.Field, error) {
	var b strings.Builder
	b.WriteString(name + ": ")
	writeTags(&b, len(name)+2, tags)
	b.WriteString(";\r\n\tb=")
	digest := sha256.New()
	for _, f := range fields {
		digest.Write(Relaxed.Field(f.Raw()))
	}
	own := Relaxed.Field([]byte(b.String() + "\r\n"))
	digest.Write(own[:len(own)-2]) // its own end of line is not signed
	return finish(&b, key, [sha256.Size]byte(digest.Sum(nil)))
}

// HashTags are the tags of what is signed: h= and bh=.
func HashTags(names []string, bodyHash []byte) []string {
	return []string{"h=" + strings.Join(names, ":"), "bh=" + base64.StdEncoding.EncodeToString(bodyHash)}
}

// finish writes the signature behind b=.
func finish(b *strings.Builder, key *Key, digest [sha256.Size]byte) (mail.Field, error) {
	signature, err := key.SignDigest(digest)
	if err != nil {
		return mail.Field{}, err
	}
	text := base64.StdEncoding.EncodeToString(signature)
	const line = 72
	for len(text) > line {
		b.WriteString(text[:line] + "\r\n\t ")
		text = text[line:]
	}
	b.WriteString(text + "\r\n")
	f, ok := mail.RawField(b.String())
	if !ok {
		return mail.Field{}, fmt.Errorf("dkim: what was made for %s is no field", key.Domain)
	}
	return f, nil
}

// writeTags writes tags in lines of a good length; the list in h= is broken at
// its colons.
func writeTags(b *strings.Builder, at int, tags []string) {
	const width = 76
	for i, tag := range tags {
		if i > 0 {
			b.WriteByte(';')
			at++
		}
		for j, word := range strings.SplitAfter(tag, ":") {
			switch {
			case at+1+len(word) > width && (i > 0 || j > 0):
				b.WriteString("\r\n\t")
				at = 8
			case i > 0 && j == 0:
				b.WriteByte(' ')
				at++
			}
			b.WriteString(word)
			at += len(word)
		}
	}
}
