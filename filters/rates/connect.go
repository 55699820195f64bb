package rates

import (
	"context"
	"fmt"
	"time"

	"gatepost/internal/mail"
)

// window is sendmail's ConnectionRateWindowSize.
const window = time.Minute

// stayTime is for how long a place is held without a word of the client: a
// gateway that died gives its places back. A client is at most as long silent
// between two messages.
const stayTime = 20 * time.Minute

// connect counts a connection and takes a place for it.
func (c *checker) connect(ctx context.Context, s *mail.Session) (f mail.Finding, over bool, err error) {
	client, network := clientOf(s.Addr()), networkOf(s.Addr())
	if f, over, err = c.connections(ctx, client, s); over || err != nil {
		return f, over, err
	}
	f, over, err = c.f.take(ctx, demand{network, mail.RateConnections, c.f.cfg.Network.Connections, 1, " connections"})
	if over || err != nil {
		return f, over, err
	}
	limit, _, ok := c.f.access.ClientConnections(s)
	if !ok {
		limit = c.f.cfg.Client.Concurrent
	}
	if f, over, err = c.enter(ctx, client, s.ID, limit); over || err != nil {
		return f, over, err
	}
	return c.enter(ctx, network, s.ID, c.f.cfg.Network.Concurrent)
}

// connections counts connections of an address: as sendmail does where the
// access map has a limit, those that it refuses, too.
func (c *checker) connections(ctx context.Context, client party, s *mail.Session) (mail.Finding, bool, error) {
	limit, why, ok := c.f.access.ClientRate(s)
	if !ok {
		return c.f.take(ctx, demand{client, mail.RateConnections, c.f.cfg.Client.Connections, 1, " connections"})
	}
	if limit <= 0 {
		return mail.Finding{}, false, nil
	}
	n, err := c.f.store.Count(ctx, client.key("ClientRate"), 1, window)
	if err != nil || n <= limit {
		return mail.Finding{}, false, err
	}
	return mail.Finding{Name: mail.FindingRate, Value: mail.RateConnections, Text: fmt.Sprintf("%s has had %d connections in %v, the limit is %d: %s", client, n, window, limit, why)}, true, nil
}

// enter takes one of limit places.
func (c *checker) enter(ctx context.Context, p party, id string, limit int) (mail.Finding, bool, error) {
	if limit <= 0 {
		return mail.Finding{}, false, nil
	}
	at := place{p.key(mail.RateConcurrency), id, limit}
	n, entered, err := c.f.store.Enter(ctx, at.key, at.id, limit, stayTime)
	switch {
	case err != nil:
		return mail.Finding{}, false, err
	case !entered:
		return mail.Finding{Name: mail.FindingRate, Value: mail.RateConcurrency, Text: fmt.Sprintf("%s has %d connections open, the limit is %d", p, n, limit)}, true, nil
	}
	c.places = append(c.places, at)
	return mail.Finding{}, false, nil
}

// stay keeps the places of a client that goes on. That one could not be kept is
// no reason to refuse anything.
func (c *checker) stay(ctx context.Context) {
	for _, at := range c.places {
		_, _, _ = c.f.store.Enter(ctx, at.key, at.id, at.limit, stayTime)
	}
}

// leaveTime is for all places of a session: the store ends them by itself, too.
const leaveTime = 2 * time.Second

// Close gives the places back.
func (c *checker) Close() {
	if len(c.places) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), leaveTime) // that of the session is over
	defer cancel()
	for _, at := range c.places {
		_ = c.f.store.Leave(ctx, at.key, at.id)
	}
	c.places = nil
}
