package main

import (
	"context"

	"gatepost/internal/spf"
	"gatepost/proxy/spool"
)

// forged says whether the domain of a sender denies the client that brought a
// message: then a notification would go to somebody who never wrote it. Of
// clients in private networks no domain says anything.
func (g *gateway) forged(ctx context.Context, e *spool.Entry) (why string) {
	client, f := e.ClientAddr.Addr().Unmap(), g.frame.Load()
	if f == nil || !client.IsGlobalUnicast() || client.IsPrivate() {
		return ""
	}
	if spf.Fails(ctx, f.dns, client, e.Helo, e.Envelope.Sender.Address) {
		return "sender authentication failed: SPF of " + e.Envelope.Sender.ASCIIDomain() + " denies " + client.String()
	}
	return ""
}
