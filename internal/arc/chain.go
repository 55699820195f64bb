package arc

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"gatepost/internal/dkim"
	"gatepost/internal/mail"
)

// MaxInstance is the most sets that a chain may have (RFC 8617 4.2.1).
const MaxInstance = 50

// The fields of a set.
const (
	fieldResults   = "ARC-Authentication-Results"
	fieldSignature = "ARC-Message-Signature"
	fieldSeal      = "ARC-Seal"
)

// The values of cv=.
const (
	cvNone = "none"
	cvPass = "pass"
	cvFail = "fail"
)

// link is a set as it stands in a header.
type link struct {
	results, signature, seal *mail.Field
	text                     string // of results, without the instance
	ams, as                  signature
	cv                       string
}

// signature is what a field says of its signature.
type signature struct {
	algorithm        string
	domain, selector string
	value            []byte
	// Of an ARC-Message-Signature alone.
	names        []string
	bodyHash     []byte
	header, body dkim.Canon
	expires      int64 // seconds; 0: never
}

// fields are those of the link, in the order in which they are sealed.
func (l *link) fields() []mail.Field { return []mail.Field{*l.results, *l.signature, *l.seal} }

// ErrChain is wrapped by what makes a chain invalid as it stands.
var ErrChain = errors.New("chain")

// collect finds the sets of a header and checks their form (RFC 8617 5.2, steps
// 1 to 3): whole sets from 1 up, each with one field of a kind, and none that
// says that the chain was broken before.
func collect(h mail.Header, l Limits) ([]link, error) {
	links := make(map[int]*link)
	for i := range h {
		at, ok := slot(&h[i])
		if !ok {
			continue
		}
		n, err := instance(h[i].Value())
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrChain, at, err)
		}
		if n > l.MaxSets {
			return nil, fmt.Errorf("%w: instance %d; %d are the most", ErrChain, n, l.MaxSets)
		}
		if links[n] == nil {
			links[n] = new(link)
		}
		if !links[n].put(at, &h[i]) {
			return nil, fmt.Errorf("%w: two fields %s with i=%d", ErrChain, at, n)
		}
	}
	chain := make([]link, 0, len(links))
	for n := 1; n <= len(links); n++ {
		one := links[n]
		if one == nil || one.results == nil || one.signature == nil || one.seal == nil {
			return nil, fmt.Errorf("%w: instance %d is not whole", ErrChain, n)
		}
		if err := one.read(n, l); err != nil {
			return nil, fmt.Errorf("%w: instance %d: %w", ErrChain, n, err)
		}
		chain = append(chain, *one)
	}
	return chain, nil
}

// slot tells which of the three fields f is.
func slot(f *mail.Field) (name string, ok bool) {
	for _, name := range []string{fieldResults, fieldSignature, fieldSeal} {
		if f.Is(name) {
			return name, true
		}
	}
	return "", false
}

func (l *link) put(name string, f *mail.Field) bool {
	at := &l.results
	switch name {
	case fieldSignature:
		at = &l.signature
	case fieldSeal:
		at = &l.seal
	}
	if *at != nil {
		return false
	}
	*at = f
	return true
}

// instance reads i=, wherever among the tags it stands.
func instance(value string) (int, error) {
	for part := range strings.SplitSeq(value, ";") {
		name, n, ok := strings.Cut(part, "=")
		if !ok || strings.Trim(name, " \t") != "i" {
			continue
		}
		n = strings.Trim(n, " \t")
		i, err := strconv.Atoi(n)
		if err != nil || i < 1 || i > MaxInstance || n != strconv.Itoa(i) {
			return 0, fmt.Errorf("i=%.10q is not 1 to %d", n, MaxInstance)
		}
		return i, nil
	}
	return 0, errors.New("no i=")
}

func (l *link) read(n int, limits Limits) error {
	first, rest, ok := strings.Cut(l.results.Value(), ";")
	if name, _, _ := strings.Cut(first, "="); !ok || strings.Trim(name, " \t") != "i" {
		return errors.New("results that do not begin with their instance")
	}
	l.text = strings.Trim(rest, " \t")
	if err := l.readSeal(n); err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	if err := l.readSignature(limits); err != nil {
		return fmt.Errorf("signature: %w", err)
	}
	return nil
}

func (l *link) readSeal(n int) error {
	t, err := dkim.ParseTags(l.seal.Value())
	if err != nil {
		return err
	}
	if _, there := t["h"]; there { // RFC 8617 4.1.3: the chain fails
		return errors.New("h= in it")
	}
	l.cv = strings.ToLower(t["cv"])
	switch {
	case l.cv == cvFail:
		return errors.New("whoever made it found the chain broken")
	case n == 1 && l.cv != cvNone, n > 1 && l.cv != cvPass:
		return fmt.Errorf("cv=%.10q", l.cv)
	}
	l.as, err = readCommon(t)
	return err
}

func (l *link) readSignature(limits Limits) (err error) {
	t, err := dkim.ParseTags(l.signature.Value())
	if err != nil {
		return err
	}
	if l.ams, err = readCommon(t); err != nil {
		return err
	}
	s := &l.ams
	if s.names = t.List("h"); len(s.names) > limits.MaxNames {
		return fmt.Errorf("%d names in h=; %d are the most", len(s.names), limits.MaxNames)
	}
	switch _, short := t["l"]; {
	case !slices.Contains(s.names, "from"):
		return errors.New("h= without from")
	case slices.Contains(s.names, strings.ToLower(fieldSeal)): // RFC 8617 4.1.2
		return errors.New("h= with arc-seal")
	case short: // anything may have been put behind what it covers
		return errors.New("l= covers a part of the body only")
	}
	if x, ok := t["x"]; ok {
		if s.expires, err = strconv.ParseInt(x, 10, 64); err != nil || s.expires <= 0 {
			return errors.New("x= is no time")
		}
	}
	if s.header, s.body, err = dkim.ParseCanon(t["c"]); err != nil {
		return err
	}
	s.bodyHash, err = t.Base64("bh")
	return err
}

// readCommon reads what both signatures of a set have.
func readCommon(t dkim.Tags) (s signature, err error) {
	s.algorithm = strings.ToLower(t["a"])
	if s.algorithm != "rsa-sha256" && s.algorithm != "ed25519-sha256" {
		return s, fmt.Errorf("a=%.20q", s.algorithm)
	}
	if s.domain, err = mail.ParseDomain(t["d"]); err != nil || strings.HasPrefix(s.domain, "[") {
		return s, errors.New("d= is no domain")
	}
	s.selector = strings.ToLower(t["s"])
	if _, err := mail.ParseDomain(dkim.RecordName(s.selector, s.domain)); err != nil || s.selector == "" {
		return s, errors.New("s= is no selector")
	}
	s.value, err = t.Base64("b")
	return s, err
}
