package main

import (
	"gatepost/internal/config"
	"gatepost/internal/mail"
	"gatepost/proxy/journal"
)

// newJournals makes the journals of a generation, with their directories.
func (g *gateway) newJournals(cfg *config.Config) (*journal.Set, error) {
	s, err := journal.New(cfg.Journals, journal.Deps{Spool: g.spool, Queue: g.queue, Log: g.log})
	if err != nil {
		return nil, err
	}
	return s, s.Prepare()
}

// Handler puts the journals around the filters.
func (r *ruled) Handler() mail.Handler { return r.journals.Handler(r.Multiplexer.Handler()) }
