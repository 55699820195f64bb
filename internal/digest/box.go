package digest

import (
	"slices"
	"strings"
	"time"

	"gatepost/internal/mail"
)

// box is what is held for one recipient, the newest first.
type box struct {
	rcpt  mail.Address
	key   string
	items []*Item
}

// boxes sorts what is held by recipients of ours, of the kinds that are told of.
func (d *Digests) boxes() []*box {
	cfg := d.cfg.Load()
	found := make(map[string]*box)
	var all []*box
	for it := range d.deps.Quarantine.Held() {
		if !slices.Contains(cfg.Kinds, it.Kind) {
			continue
		}
		for _, rcpt := range it.Rcpts {
			if cfg.of(rcpt) == Off || !d.deps.Ours(rcpt) {
				continue
			}
			key := strings.ToLower(rcpt.ToASCII().String())
			b := found[key]
			if b == nil {
				b = &box{rcpt: rcpt, key: key}
				found[key] = b
				all = append(all, b)
			}
			b.items = append(b.items, &it)
		}
	}
	for _, b := range all {
		slices.Reverse(b.items)
	}
	return all
}

// boxOf is what is held for one recipient, whatever is told of by mail.
func (d *Digests) boxOf(rcpt mail.Address) *box {
	cfg := d.cfg.Load()
	b := &box{rcpt: rcpt}
	for it := range d.deps.Quarantine.Held() {
		if it.heldFor(rcpt) && slices.Contains(cfg.Kinds, it.Kind) {
			b.items = append(b.items, &it)
		}
	}
	slices.Reverse(b.items)
	return b
}

// since are the items that came in after one time, up to another.
func (b *box) since(from, to time.Time) []*Item {
	var fresh []*Item
	for _, it := range b.items {
		if it.Received.After(from) && !it.Received.After(to) {
			fresh = append(fresh, it)
		}
	}
	return fresh
}
