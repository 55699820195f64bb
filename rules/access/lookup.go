package access

import (
	"fmt"
	"net/netip"
	"strings"
)

// Result is what the searches for a key found under one tag.
type Result struct {
	Tag   Tag
	Hit   Hit
	Found bool
	Tried []Try
}

// Lookup searches for a key as each ruleset would: for "From:u@example.com"
// under that tag, for "u@example.com" under all that are about such items. A key
// is a mailbox, "user@", a name, an address, or "Tag:" alone for those that have
// one line for all others.
func (t *Table) Lookup(key string) ([]Result, error) {
	tag, item, err := cutTag(key)
	if err == nil && item == "" && !tag.hasDefault() {
		err = fmt.Errorf("nothing to look for")
	}
	if err != nil {
		return nil, err
	}
	item, kind, err := parseItem(strings.TrimSuffix(item, "."), true)
	if err != nil {
		return nil, err
	}
	tagged := []Tag{tag}
	if tag == Untagged {
		tagged = nil
		for other := range Untagged {
			if kind.fits(other) == nil {
				tagged = append(tagged, other)
			}
		}
	}
	var all []Result
	for _, tag := range tagged {
		if err := kind.fits(tag); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		tr := &Trace{}
		h, ok := t.search(tag, item, kind, tr)
		all = append(all, Result{tag, h, ok, tr.Tried})
	}
	return all, nil
}

func (t *Table) search(tag Tag, item string, k kind, tr *Trace) (Hit, bool) {
	switch k {
	case kindDefault:
		return t.Exact(tag, "", tr)
	case kindMailbox:
		local, domain, _ := strings.Cut(item, "@")
		return t.searchMailbox(tag, Mailbox{local, domain}, tr)
	case kindAddress:
		h, ok := t.prefixesOf(tag, item, tr)
		if !ok && tag.hasDefault() {
			return t.Exact(tag, "", tr)
		}
		return h, ok
	}
	h, ok := t.Domain(tag, item, tr)
	if !ok && tag.hasDefault() {
		return t.Exact(tag, "", tr)
	}
	return h, ok
}

// searchMailbox asks in the order of the tag's ruleset, for a local domain.
func (t *Table) searchMailbox(tag Tag, m Mailbox, tr *Trace) (Hit, bool) {
	walks := []func() (Hit, bool){
		func() (Hit, bool) { return t.Full(tag, m, tr) },
		func() (Hit, bool) { return t.User(tag, m.Local, tr) },
		func() (Hit, bool) { return t.Domain(tag, m.Domain, tr) },
	}
	switch {
	case m.Domain == "":
		walks = walks[1:2]
	case tag == Spam:
		walks[1], walks[2] = walks[2], walks[1]
	}
	for _, walk := range walks {
		if h, ok := walk(); ok {
			return h, true
		}
	}
	return Hit{}, false
}

// prefixesOf walks an address, or the beginning of one.
func (t *Table) prefixesOf(tag Tag, key string, tr *Trace) (Hit, bool) {
	if ip, err := netip.ParseAddr(strings.TrimPrefix(key, prefixV6)); err == nil {
		return t.Address(tag, ip, tr)
	}
	for {
		if h, ok := t.found(tag, []byte(key), tr); ok {
			return unlessSkip(h)
		}
		i := strings.LastIndexAny(key, ".:")
		if i < 0 {
			return Hit{}, false
		}
		key = key[:i]
	}
}
