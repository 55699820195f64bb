package main

import (
	"context"

	"gatepost/internal/config"
	"gatepost/internal/mail"
	"gatepost/internal/mime"
	"gatepost/rules"
)

// inspector takes messages apart, for who wants to know what is inside; nil
// where nobody does.
func inspector(cfg *config.Config, set *rules.Set) func(context.Context, *mail.Message) *mail.Inside {
	if !wantsInside(cfg) && !set.Policies().WantsInside() {
		return nil
	}
	limits := cfg.MIME
	return func(ctx context.Context, m *mail.Message) *mail.Inside { return mime.Inspect(ctx, m, limits) }
}

// wantsInside reports whether a filter judges what is in a message; rules may,
// too. Then it is also judged whether all mail programs see the same in it.
func wantsInside(cfg *config.Config) bool {
	for _, f := range cfg.Filters {
		if f.ClamAV != nil || f.Attachments != nil || f.ICAP != nil {
			return true
		}
	}
	return false
}
