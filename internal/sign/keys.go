package sign

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"gatepost/internal/dkim"
	"gatepost/internal/mail"
)

// LoadedKey is a key of the configuration with its file.
type LoadedKey struct {
	Name string
	Key
	Signing *dkim.Key
}

// LoadKey reads the file of a key.
func LoadKey(name string, k Key) (LoadedKey, error) {
	private, err := dkim.ReadKeyFile(k.File)
	if err != nil {
		return LoadedKey{}, err
	}
	domain, err := mail.ParseDomain(k.Domain)
	if err != nil {
		return LoadedKey{}, fmt.Errorf("sign: domain of %s: %w", name, err)
	}
	return LoadedKey{name, k, &dkim.Key{Domain: mail.ASCIIDomain(domain), Selector: strings.ToLower(k.Selector), Private: private}}, nil
}

// mayEver reports whether k is there to sign for its own domain, or for one
// below.
func (k *LoadedKey) mayEver(own bool) bool { return k.Use != UsePublish && (own || k.Subdomains) }

// signs reports whether k signs at a time.
func (k *LoadedKey) signs(now time.Time) bool {
	return !now.Before(k.From.Time) && (k.Until.IsZero() || now.Before(k.Until.Time))
}

// Keys are all keys, the newest of each domain first.
type Keys struct {
	byDomain map[string][]LoadedKey
	byName   map[string]LoadedKey
}

// LoadKeys reads the files of all keys, and refuses what is ambiguous.
func LoadKeys(all map[string]Key) (*Keys, error) {
	k := &Keys{byDomain: make(map[string][]LoadedKey), byName: make(map[string]LoadedKey)}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(all)) {
		one, err := LoadKey(name, all[name])
		if err != nil {
			errs = append(errs, err)
			continue
		}
		k.byName[name] = one
		k.byDomain[one.Signing.Domain] = append(k.byDomain[one.Signing.Domain], one)
	}
	for _, domain := range slices.Sorted(maps.Keys(k.byDomain)) {
		list := k.byDomain[domain]
		slices.SortStableFunc(list, func(a, b LoadedKey) int { return b.From.Compare(a.From.Time) })
		errs = append(errs, clashes(list)...)
	}
	return k, errors.Join(errs...)
}

// clashes are pairs of keys of which nobody can say which one signs, or which one
// the DNS is to have.
func clashes(list []LoadedKey) (errs []error) {
	for i, a := range list {
		for _, b := range list[i+1:] {
			switch {
			case a.Signing.Selector == b.Signing.Selector:
				errs = append(errs, fmt.Errorf("dkim: the keys %s and %s of %s have one selector", a.Name, b.Name, a.Signing.Domain))
			case a.Signing.Type() == b.Signing.Type() && a.Use != UsePublish && b.Use != UsePublish && a.From.Equal(b.From.Time):
				errs = append(errs, fmt.Errorf("dkim: the keys %s and %s of %s would both sign; give one of them use = \"publish\", or both a date (from)", a.Name, b.Name, a.Signing.Domain))
			}
		}
	}
	return errs
}

// For returns the keys that sign mail from a domain: one of each kind. Where
// none of its own is in its time none of the domains above takes its place.
func (k *Keys) For(domain string, now time.Time) []*LoadedKey {
	own := true
	for at := domain; at != ""; own = false {
		list := k.byDomain[at]
		if slices.ContainsFunc(list, func(l LoadedKey) bool { return l.mayEver(own) }) {
			return newest(list, own, now)
		}
		_, at, _ = strings.Cut(at, ".")
	}
	return nil
}

// newest takes the first of each kind that signs.
func newest(list []LoadedKey, own bool, now time.Time) []*LoadedKey {
	var signing []*LoadedKey
	for i := range list {
		k := &list[i]
		if !k.mayEver(own) || !k.signs(now) {
			continue
		}
		if !slices.ContainsFunc(signing, func(s *LoadedKey) bool { return s.Signing.Type() == k.Signing.Type() }) {
			signing = append(signing, k)
		}
	}
	slices.SortFunc(signing, func(a, b *LoadedKey) int { return cmp.Compare(b.Signing.Type(), a.Signing.Type()) }) // rsa first: all read it
	return signing
}

// Has reports whether mail from a domain is to be signed, at some time.
func (k *Keys) Has(domain string) bool {
	own := true
	for at := domain; at != ""; own = false {
		if slices.ContainsFunc(k.byDomain[at], func(l LoadedKey) bool { return l.mayEver(own) }) {
			return true
		}
		_, at, _ = strings.Cut(at, ".")
	}
	return false
}

// All returns the keys by domain, selector.
func (k *Keys) All() []LoadedKey {
	all := slices.Collect(maps.Values(k.byName))
	slices.SortFunc(all, func(a, b LoadedKey) int {
		return cmp.Or(strings.Compare(a.Signing.Domain, b.Signing.Domain), strings.Compare(a.Signing.Selector, b.Signing.Selector))
	})
	return all
}

// Named returns a key by its name.
func (k *Keys) Named(name string) (LoadedKey, bool) {
	l, ok := k.byName[name]
	return l, ok
}

// Signs reports whether a key is the one that signs at a time.
func (k *Keys) Signs(key LoadedKey, now time.Time) bool {
	return slices.ContainsFunc(k.For(key.Signing.Domain, now), func(l *LoadedKey) bool { return l.Name == key.Name })
}
