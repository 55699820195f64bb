package main

import (
	"gatepost/internal/config"
	"gatepost/internal/mail"
	"gatepost/proxy"
)

// assembleRescan makes the one who judges what was taken while a filter was
// away.
func (g *gateway) assembleRescan(cfg *config.Config, fail func(string) error) (err error) {
	g.handlerOf = make(map[string]func() mail.Handler)
	g.rescan, err = proxy.NewRescanner(cfg.Queue.UnscannedMaxAge, proxy.RescanDeps{
		Spool: g.spool, Queue: g.queue, NewHandler: g.handlerFor, Up: g.judges.up,
		Admin: &g.admin, Stats: g.metrics, Recorder: g.told, Log: g.log, Failpoint: fail,
	})
	return err
}

// handlerFor returns a handler for a message that came in by a listener or a
// milter entry; one that is gone since had the filters for a handler.
func (g *gateway) handlerFor(listener string) mail.Handler {
	if handlers := g.handlerOf[listener]; handlers != nil {
		return handlers()
	}
	return g.judges.handler()
}
