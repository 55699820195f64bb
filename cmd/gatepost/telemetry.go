package main

import (
	"context"
	"sync"

	"gatepost/internal/config"
	"gatepost/internal/telemetry"
)

// assembleTraces makes who makes traces, where there is a collector for them.
func (g *gateway) assembleTraces(cfg *config.Config) error {
	if cfg.Telemetry.OTLP == "" {
		return nil
	}
	t, err := telemetry.New(cfg.Telemetry, telemetry.Deps{Hostname: cfg.Hostname, Version: thisBuild().Version, Log: g.log, Stats: g.metrics})
	if err != nil {
		return err
	}
	g.told.traces = t
	return nil
}

// records keeps and sends what witnesses hear, until ctx ends.
func (g *gateway) records(ctx context.Context) error {
	var sending sync.WaitGroup
	defer sending.Wait()
	if t, ok := g.told.traces.(*telemetry.Traces); ok {
		sending.Go(func() {
			if err := t.Run(ctx); err != nil {
				g.log.Error("no traces are made", "error", err)
			}
		})
	}
	if g.history != nil {
		return g.history.Run(ctx)
	}
	<-ctx.Done()
	return nil
}
