package arc

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"gatepost/internal/dkim"
	"gatepost/internal/dns"
	"gatepost/internal/mail"
)

// DefaultLimits are used for what is zero.
func DefaultLimits() Limits {
	return Limits{MaxSets: MaxInstance, MaxHeader: mail.MaxHeaderSize, MaxNames: 200, MinRSABits: 1024, MaxRSABits: 4096, Timeout: 20 * time.Second}
}

func (l Limits) complete() Limits {
	d := DefaultLimits()
	if l.MaxSets <= 0 || l.MaxSets > MaxInstance {
		l.MaxSets = d.MaxSets
	}
	if l.MaxHeader <= 0 {
		l.MaxHeader = d.MaxHeader
	}
	if l.MaxNames <= 0 {
		l.MaxNames = d.MaxNames
	}
	if l.MinRSABits <= 0 {
		l.MinRSABits = d.MinRSABits
	}
	if l.MaxRSABits <= 0 {
		l.MaxRSABits = d.MaxRSABits
	}
	if l.Timeout <= 0 {
		l.Timeout = d.Timeout
	}
	return l
}

// errTemporary is wrapped where a key could not be had.
var errTemporary = errors.New("key not found out")

func verify(ctx context.Context, m *mail.Message, r Resolver, l Limits) Result {
	ctx, cancel := context.WithTimeout(ctx, l.Timeout)
	defer cancel()
	chain, err := collect(m.Header, l)
	switch {
	case err != nil:
		return Result{Value: Fail, Why: err.Error()}
	case len(chain) == 0:
		return Result{Value: None}
	case m.Header.Size() > l.MaxHeader:
		return Result{Value: Fail, Why: fmt.Sprintf("header larger than %d bytes", l.MaxHeader)}
	}
	v := &verifier{m: m, resolver: r, limits: l, now: time.Now(), keys: make(map[string]found), bodies: make(map[dkim.Canon][]byte)}
	result := Result{Value: Pass, Sets: sets(chain)}
	if err := v.chain(ctx, chain); err != nil {
		result.Value, result.Why = Fail, err.Error()
		if errors.Is(err, errTemporary) {
			result.Value = TempError
		}
		return result
	}
	result.OldestPass = v.oldestPass(ctx, chain)
	return result
}

func sets(chain []link) []Set {
	all := make([]Set, len(chain))
	for i, l := range chain {
		all[i] = Set{Instance: i + 1, Domain: l.as.domain, Selector: l.as.selector, Results: l.text}
	}
	return all
}

// verifier checks one message. Each key is asked for once, each form of the body
// read once.
type verifier struct {
	m        *mail.Message
	resolver Resolver
	limits   Limits
	now      time.Time
	keys     map[string]found
	bodies   map[dkim.Canon][]byte
}

type found struct {
	record dkim.Record
	err    error
}

// chain checks the newest signature of the message and every seal (RFC 8617 5.2,
// steps 4 to 6).
func (v *verifier) chain(ctx context.Context, chain []link) error {
	if err := v.message(ctx, &chain[len(chain)-1]); err != nil {
		return fmt.Errorf("signature of instance %d: %w", len(chain), err)
	}
	for n := len(chain); n > 0; n-- {
		if err := v.seal(ctx, chain[:n]); err != nil {
			return fmt.Errorf("seal of instance %d: %w", n, err)
		}
	}
	return nil
}

// message checks an ARC-Message-Signature.
func (v *verifier) message(ctx context.Context, l *link) error {
	s := l.ams
	if s.expires != 0 && v.now.Unix() > s.expires {
		return errors.New("expired")
	}
	record, err := v.key(ctx, s)
	if err != nil {
		return err
	}
	hash, ok := v.bodies[s.body]
	if !ok {
		if hash, err = dkim.BodyHash(v.m.Body(), s.body); err != nil {
			return fmt.Errorf("%w: body: %w", errTemporary, err)
		}
		v.bodies[s.body] = hash
	}
	if !bytes.Equal(hash, s.bodyHash) {
		return errors.New("the body was changed")
	}
	digest := sha256.New()
	for _, f := range dkim.Select(v.m.Header, s.names) {
		digest.Write(s.header.Field(f.Raw()))
	}
	own := s.header.Field(dkim.WithoutSignature(l.signature.Raw()))
	digest.Write(bytes.TrimSuffix(own, []byte("\r\n")))
	return record.Check([sha256.Size]byte(digest.Sum(nil)), s.value, v.limits.MinRSABits, v.limits.MaxRSABits)
}

// seal checks the ARC-Seal of the last link; it covers all sets up to its own.
func (v *verifier) seal(ctx context.Context, chain []link) error {
	last := chain[len(chain)-1]
	record, err := v.key(ctx, last.as)
	if err != nil {
		return err
	}
	digest := sha256.New()
	for _, f := range sealed(chain[:len(chain)-1], *last.results, *last.signature) {
		digest.Write(dkim.Relaxed.Field(f.Raw()))
	}
	own := dkim.Relaxed.Field(dkim.WithoutSignature(last.seal.Raw()))
	digest.Write(bytes.TrimSuffix(own, []byte("\r\n")))
	return record.Check([sha256.Size]byte(digest.Sum(nil)), last.as.value, v.limits.MinRSABits, v.limits.MaxRSABits)
}

// sealed are the fields that a seal covers before itself (RFC 8617 5.1.1).
func sealed(before []link, more ...mail.Field) []mail.Field {
	var fields []mail.Field
	for i := range before {
		fields = append(fields, before[i].fields()...)
	}
	return append(fields, more...)
}

// key asks the DNS for the key of a signature. Whatever is not an answer is
// temporary: a name server that is away breaks no chain.
func (v *verifier) key(ctx context.Context, s signature) (dkim.Record, error) {
	name := dkim.RecordName(s.selector, s.domain)
	f, ok := v.keys[name]
	if !ok {
		f.record, f.err = v.lookUp(ctx, name)
		v.keys[name] = f
	}
	if f.err == nil && string(f.record.Type)+"-sha256" != s.algorithm {
		return f.record, fmt.Errorf("the key is not for a=%s", s.algorithm)
	}
	return f.record, f.err
}

func (v *verifier) lookUp(ctx context.Context, name string) (dkim.Record, error) {
	texts, _, err := v.resolver.LookupTXT(ctx, name)
	switch {
	case errors.Is(err, dns.ErrNoName), err == nil && len(texts) == 0:
		return dkim.Record{}, errors.New("no key in the DNS")
	case err != nil:
		return dkim.Record{}, fmt.Errorf("%w: %w", errTemporary, err)
	case len(texts) > 1: // which is meant, nobody can tell (RFC 6376 3.6.2.2)
		return dkim.Record{}, errors.New("several records in the place of the key")
	}
	return dkim.ParseRecord(texts[0])
}

// oldestPass is the first instance whose signature of the message holds, with
// all after it; 0 when those of all do. It is for information only, so whatever
// can't be told counts as changed.
func (v *verifier) oldestPass(ctx context.Context, chain []link) int {
	for n := len(chain) - 1; n > 0; n-- {
		if v.message(ctx, &chain[n-1]) != nil {
			return n + 1
		}
	}
	return 0
}
