package main

import (
	"context"
	"fmt"
	"io"

	"gatepost/filters"
	"gatepost/internal/alter"
	"gatepost/internal/config"
	"gatepost/internal/dns"
	"gatepost/internal/mail"
	"gatepost/internal/mime"
	"gatepost/internal/sign"
)

// finishers are those who come after the verdict, in their order: what changes a
// message comes before what signs it.
func (t tools) finishers(cfg *config.Config) ([]filters.Finisher, error) {
	alters, err := alter.New(alter.Config{
		Hostname: cfg.Hostname, Log: t.log,
		Inspect: func(ctx context.Context, m *mail.Message) *mail.Inside {
			return mime.Inspect(ctx, m, cfg.MIME)
		},
	})
	if err != nil {
		return nil, err
	}
	all := []filters.Finisher{alters}
	if t.signer != nil {
		all = append(all, t.signer)
	}
	return all, nil
}

// newSigner returns the signer of a generation, nil where nothing is signed.
func (g *gateway) newSigner(cfg *config.Config) (*sign.Signer, error) {
	client, err := dns.NewClient(cfg.DNS)
	if err != nil {
		return nil, err
	}
	signer, err := sign.Load(cfg.Sign, sign.Deps{Resolver: client, Log: g.log})
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	return signer, nil
}

// signNotification signs what the queue tells senders, with the keys of the
// present generation. One that can't be signed goes as it is: it is the last
// word on a message.
func (g *gateway) signNotification(h mail.Header, body io.ReaderAt, size int64) mail.Header {
	f := g.frame.Load()
	if f == nil || f.signer == nil {
		return h
	}
	signed, err := f.signer.Notification(h, body, size)
	if err != nil {
		g.log.WarnContext(context.Background(), "notification not signed", "error", err)
		return h
	}
	return signed
}
