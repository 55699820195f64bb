package main

import (
	"context"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"gatepost/internal/config"
	"gatepost/internal/drac"
	"gatepost/internal/state"
)

// windows are the addresses that may relay for now, in the store.
type windows struct {
	store state.Store
	now   func() time.Time
	log   *slog.Logger
	away  atomic.Bool // said already
}

// Open reports whether a client may relay. Where the store can't tell, it may
// not.
func (w *windows) Open(ctx context.Context, client netip.Addr) bool {
	_, open, err := w.store.Get(ctx, state.Windows, client.Unmap().WithZone("").String())
	switch {
	case err == nil:
		w.away.Store(false)
	case !w.away.Swap(true):
		w.log.Error("relay windows can't be looked up: nobody has one", "error", err)
	}
	return open && err == nil
}

// add opens a window, or makes it last anew. As rpc.dracd counts, in whole
// seconds, it is still open in the second in which it ends.
func (w *windows) add(ctx context.Context, addr netip.Addr, window time.Duration) error {
	now := w.now()
	end := now.Truncate(time.Second).Add(window + time.Second)
	return w.store.Put(ctx, state.Windows, addr.Unmap().WithZone("").String(), "drac", end.Sub(now))
}

// assembleDRAC makes the service that opens windows, if one is wanted.
func (g *gateway) assembleDRAC(cfg *config.Config) (err error) {
	g.windows = &windows{store: g.state, now: time.Now, log: g.log}
	if cfg.DRAC.Address == "" && cfg.DRAC.Socket == "" {
		return nil
	}
	g.drac, err = drac.New(cfg.DRAC, g.windows.add, g.log)
	return err
}
