package dkim

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"gatepost/internal/dns"
	"gatepost/internal/mail"
)

// Resolver finds keys. An error that is dns.ErrNoName, or a *net.DNSError that
// says so, means that there is none; any other, that nobody could tell.
type Resolver interface {
	LookupTXT(ctx context.Context, name string) (texts []string, authentic bool, err error)
}

// Limits bound what the signatures of a message may cost, before anything is
// spent on them. A zero in any field is its default.
type Limits struct {
	MaxSignatures int   // that are verified; default 10
	MaxHeader     int64 // bytes of the header; default 256 kB
	MaxFields     int   // default 1000
	MaxNames      int   // in one h=; default 200
	MinRSABits    int   // default 1024 (RFC 8301 3.2)
	MaxRSABits    int   // default 4096
}

func (l Limits) complete() Limits {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	set(&l.MaxSignatures, 10)
	set(&l.MaxFields, mail.MaxHeaderCount)
	set(&l.MaxNames, 200)
	set(&l.MinRSABits, 1024)
	set(&l.MaxRSABits, 4096)
	if l.MaxHeader == 0 {
		l.MaxHeader = mail.MaxHeaderSize
	}
	return l
}

// Verification is what came of one signature.
type Verification struct {
	Value     string // mail.AuthPass and so on
	Why       string // for people, where it is no pass
	Domain    string // d=, in lower case; "" where it is no domain name
	Selector  string // s=
	Algorithm string // a=
	Start     string // the beginning of b=, which tells signatures apart
	Testing   bool   // its domain only tries the key out (t=y)
	// Unsigned are fields of a message that people go by, and that the
	// signature says nothing of.
	Unsigned []string
}

// Verify verifies the signatures of a message (RFC 6376 6), in the order in
// which they stand. Those over the limit are not looked at: skipped is how many.
// An error is one of reading the body, never one of a signature.
func Verify(ctx context.Context, m *mail.Message, r Resolver, limits Limits, now time.Time) (list []Verification, skipped int, err error) {
	v := verifier{m: m, r: r, limits: limits.complete(), now: now}
	for i, f := range m.Header {
		switch {
		case !f.Is("DKIM-Signature"):
		case len(v.signatures) == v.limits.MaxSignatures:
			skipped++
		default:
			v.signatures = append(v.signatures, &signature{at: i})
		}
	}
	if len(v.signatures) == 0 {
		return nil, 0, nil
	}
	over := m.Header.Size() > v.limits.MaxHeader || len(m.Header) > v.limits.MaxFields
	for _, s := range v.signatures {
		if over {
			s.end(mail.AuthPolicy, "the header is over the limit")
			continue
		}
		v.read(s)
	}
	v.keys(ctx)
	if err := v.hash(); err != nil {
		return nil, skipped, err
	}
	for _, s := range v.signatures {
		if s.Value == "" {
			v.check(s)
		}
		list = append(list, s.Verification)
	}
	return list, skipped, nil
}

type verifier struct {
	m          *mail.Message
	r          Resolver
	limits     Limits
	now        time.Time
	signatures []*signature
	bodies     map[Canon][]byte
}

// signature is one of them on its way; Value is set when its end is known.
type signature struct {
	Verification
	at           int // of the field
	tags         Tags
	names        []string
	header, body Canon
	strict       string // domain of i=, where it is not that of d=
	record       Record
}

func (s *signature) end(value, why string) {
	if s.Value == "" {
		s.Value, s.Why = value, why
	}
}

// read takes a signature apart and refuses what needs no key (RFC 6376 6.1.1).
func (v *verifier) read(s *signature) {
	bad := func(format string, args ...any) { s.end(mail.AuthPermError, fmt.Sprintf(format, args...)) }
	_, value, _ := strings.Cut(string(v.m.Header[s.at].Raw()), ":")
	var err error
	if s.tags, err = ParseTags(value); err != nil {
		bad("%v", err)
		return
	}
	s.name()
	s.Algorithm = strings.ToLower(compact(s.tags["a"]))
	s.names = s.tags.List("h")
	switch {
	case s.tags["v"] != "1":
		bad("v= is not 1")
	case s.Domain == "":
		bad("d= and s= are no domain name")
	case len(s.names) > v.limits.MaxNames:
		s.end(mail.AuthPolicy, fmt.Sprintf("h= has %d names", len(s.names)))
	case !slices.Contains(s.names, "from"):
		bad("h= is without From")
	case s.Algorithm == "rsa-sha1": // RFC 8301 3.1
		s.end(mail.AuthPolicy, "rsa-sha1 is too weak")
	case s.Algorithm != "rsa-sha256" && s.Algorithm != "ed25519-sha256":
		bad("a= is not known")
	case s.tags["q"] != "" && !slices.Contains(s.tags.List("q"), "dns/txt"):
		bad("q= is not known")
	}
	if _, ok := s.tags["l"]; ok { // what is behind it is anybody's
		s.end(mail.AuthPolicy, "l= leaves the end of the body unsigned")
	}
	for _, name := range []string{"b", "bh"} {
		if _, err := s.tags.Base64(name); err != nil {
			bad("%v", err)
		}
	}
	if s.header, s.body, err = ParseCanon(s.tags["c"]); err != nil {
		bad("%v", err)
	}
	v.identity(s)
	v.times(s)
	v.unsigned(s)
}

// name reads whose signature it is.
func (s *signature) name() {
	domain, selector := compact(s.tags["d"]), compact(s.tags["s"])
	d, err := mail.ParseDomain(domain)
	if err != nil || d != strings.ToLower(strings.TrimSuffix(domain, ".")) || strings.HasPrefix(d, "[") || mail.ASCIIDomain(d) != d {
		return
	}
	if _, err := mail.ParseDomain(selector + "._domainkey." + d); err != nil || selector == "" {
		return
	}
	s.Domain, s.Selector = d, strings.ToLower(selector)
	s.Start = compact(s.tags["b"])
	s.Start = s.Start[:min(len(s.Start), 8)]
}

// identity checks i=, whose domain may be one below d= (RFC 6376 3.5).
func (v *verifier) identity(s *signature) {
	i, ok := s.tags["i"]
	if !ok || s.Value != "" {
		return
	}
	i = strings.ToLower(compact(i))
	domain := i[strings.LastIndexByte(i, '@')+1:]
	switch {
	case !strings.Contains(i, "@") || domain != s.Domain && !strings.HasSuffix(domain, "."+s.Domain):
		s.end(mail.AuthPermError, "i= is not of d=")
	case domain != s.Domain:
		s.strict = domain
	}
}

// skew is how far a clock may be ahead of ours.
const skew = time.Hour

func (v *verifier) times(s *signature) {
	at := func(name string) (t time.Time, ok bool) {
		text, ok := s.tags[name]
		if !ok {
			return t, false
		}
		n, err := strconv.ParseUint(compact(text), 10, 40)
		if err != nil {
			s.end(mail.AuthPermError, name+"= is no time")
		}
		return time.Unix(int64(n), 0), err == nil
	}
	made, hasMade := at("t")
	expires, hasExpires := at("x")
	switch {
	case hasMade && hasExpires && expires.Before(made):
		s.end(mail.AuthPermError, "it expires before it was made")
	case hasMade && made.After(v.now.Add(skew)):
		s.end(mail.AuthPolicy, "it was made in the future")
	case hasExpires && v.now.After(expires):
		s.end(mail.AuthPolicy, "it has expired")
	}
}

// shown are the fields that readers see or that say what they see.
var shown = [...]string{"from", "subject", "to", "cc", "date", "reply-to", "content-type"}

// unsigned finds the fields that may be anybody's. Where there are more of one
// name than were signed, readers may show the one that was put on top (RFC 6376
// 8.15): such a signature says nothing of what is read.
func (v *verifier) unsigned(s *signature) {
	signed := make(map[string]int)
	for _, n := range s.names {
		signed[n]++
	}
	for _, name := range shown {
		switch there := v.m.Header.Count(name); {
		case there <= signed[name]:
		case signed[name] > 0:
			s.end(mail.AuthPolicy, "there is one more "+name+" than was signed")
		default:
			s.Unsigned = append(s.Unsigned, name)
		}
	}
}

// keys asks for the keys of all that are still to be checked, side by side; the
// same key once.
func (v *verifier) keys(ctx context.Context) {
	type key struct{ domain, selector string }
	asked := make(map[key][]*signature)
	for _, s := range v.signatures {
		if s.Value == "" {
			k := key{s.Domain, s.Selector}
			asked[k] = append(asked[k], s)
		}
	}
	var wg sync.WaitGroup
	for k, all := range asked {
		wg.Go(func() {
			texts, _, err := v.r.LookupTXT(ctx, k.selector+"._domainkey."+k.domain+".")
			for _, s := range all {
				s.key(texts, err)
			}
		})
	}
	wg.Wait()
}

// key takes the answer to the question for the key (RFC 6376 6.1.2).
func (s *signature) key(texts []string, err error) {
	var d *net.DNSError
	switch {
	case errors.Is(err, dns.ErrNoName), errors.As(err, &d) && d.IsNotFound:
		s.end(mail.AuthPermError, "there is no key")
		return
	case err != nil:
		s.end(mail.AuthTempError, "the key could not be had")
		return
	case len(texts) == 0:
		s.end(mail.AuthPermError, "there is no key")
		return
	case len(texts) > 1: // undefined: each reader would take another
		s.end(mail.AuthPermError, "there are several keys of one name")
		return
	}
	if s.record, err = ParseRecord(texts[0]); err == nil {
		err = s.record.ForMail()
	}
	if err != nil {
		s.end(mail.AuthPermError, err.Error())
		return
	}
	for _, flag := range s.record.Flags {
		s.Testing = s.Testing || flag == "y"
		if flag == "s" && s.strict != "" {
			s.end(mail.AuthPermError, "the key is not for domains below d=")
		}
	}
	if kind, _, _ := strings.Cut(s.Algorithm, "-"); KeyType(kind) != s.record.Type {
		s.end(mail.AuthPermError, "the key is of another kind than a=")
	}
}

// hash reads the body once for each way in which it was signed.
func (v *verifier) hash() error {
	v.bodies = make(map[Canon][]byte)
	for _, s := range v.signatures {
		if s.Value != "" || v.bodies[s.body] != nil {
			continue
		}
		sum, err := BodyHash(v.m.Body(), s.body)
		if err != nil {
			return fmt.Errorf("dkim: read the body: %w", err)
		}
		v.bodies[s.body] = sum
	}
	return nil
}

// check does the sums (RFC 6376 6.1.3).
func (v *verifier) check(s *signature) {
	bh, _ := s.tags.Base64("bh")
	if string(bh) != string(v.bodies[s.body]) {
		s.end(mail.AuthFail, "the body was changed")
		return
	}
	sum := sha256.New()
	for _, f := range Select(v.m.Header, s.names) {
		sum.Write(s.header.Field(f.Raw()))
	}
	own := s.header.Field(WithoutSignature(v.m.Header[s.at].Raw()))
	sum.Write([]byte(strings.TrimSuffix(string(own), "\r\n")))
	b, _ := s.tags.Base64("b")
	switch err := s.record.Check([sha256.Size]byte(sum.Sum(nil)), b, v.limits.MinRSABits, v.limits.MaxRSABits); {
	case errors.Is(err, ErrRecord): // of a size that does not count
		s.end(mail.AuthPolicy, err.Error())
	case err != nil:
		s.end(mail.AuthFail, err.Error())
	default:
		s.end(mail.AuthPass, "")
	}
}
