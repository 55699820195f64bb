package main

import (
	"context"

	"gatepost/internal/spf"
	"gatepost/proxy/spool"
)

// forged says whether the domain of a sender denies the client that brought a
// message: then a notification would go to somebody who never wrote it. Of
// clients in private networks no domain says anything.
func forged(ctx context.Context, ask spf.Resolver, e *spool.Entry) (why string) {
	client := e.ClientAddr.Addr().Unmap()
	if !client.IsGlobalUnicast() || client.IsPrivate() || !spf.Fails(ctx, ask, client, e.Helo, e.Envelope.Sender.Address) {
		return ""
	}
	return "sender authentication failed: SPF of " + e.Envelope.Sender.ASCIIDomain() + " denies " + client.String()
}

// forged asks with the resolver of the present generation.
func (g *gateway) forged(ctx context.Context, e *spool.Entry) (why string) {
	f := g.frame.Load()
	if f == nil {
		return ""
	}
	return forged(ctx, f.dns, e)
}
