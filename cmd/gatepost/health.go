package main

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"gatepost/filters"
	"gatepost/internal/config"
	"gatepost/internal/console"
	"gatepost/internal/metrics"
)

// mostHops is how many destinations are shown: domains of mail to the Internet
// may be very many.
const mostHops = 50

// health is how the parts are now, and what they did in the last minutes.
func (g *gateway) health() console.Health {
	now, then, err := g.recent.Now()
	if err != nil {
		g.log.Error("health", "error", err)
	}
	h := console.Health{Time: now.Time, Over: now.Time.Sub(then.Time), Connections: now.Connections, Messages: now.Messages}
	if then.Filters == nil { // nothing is remembered yet
		h.Over = now.Time.Sub(g.started)
	}
	h.Filters = g.filterHealth(now, then)
	h.NextHops = g.hopHealth(now, then)
	h.Lists = []console.ListHealth{}
	for _, name := range slices.Sorted(maps.Keys(now.Lists)) {
		d := now.Lists[name].Since(then.Lists[name])
		h.Lists = append(h.Lists, console.ListHealth{Name: name, Down: d.Down, Results: d.Results})
	}
	h.Certificates = []console.Certificate{}
	ends := g.certificates()
	for _, name := range slices.Sorted(maps.Keys(ends)) {
		h.Certificates = append(h.Certificates, console.Certificate{Name: name, Ends: ends[name]})
	}
	counts := g.queue.Counts()
	for _, lane := range console.Lanes() {
		for name, c := range counts {
			if string(name) == lane {
				h.Lanes = append(h.Lanes, console.LaneHealth{Lane: lane, Messages: c.Messages, Oldest: c.Oldest})
			}
		}
	}
	if h.SpoolFree, err = g.spoolFree(); err != nil {
		g.log.Error("health", "error", err)
	}
	return h
}

// filterHealth is of the filters in their order.
func (g *gateway) filterHealth(now, then metrics.Figures) []console.FilterHealth {
	list := []console.FilterHealth{}
	steps := g.steps.Load()
	if steps == nil {
		return list
	}
	busy := g.judges.busy()
	for _, s := range *steps {
		d := now.Filters[s.Name].Since(then.Filters[s.Name])
		f := console.FilterHealth{
			Name: s.Name, OnError: string(s.OnError), Timeout: s.Timeout, Concurrent: s.MaxConcurrent, Busy: busy[s.Name],
			Shadow: s.Shadow, Modifies: s.Modifies, Down: d.Down, Results: d.Results, Latency: latency(d),
		}
		for _, stage := range s.Stages {
			f.Stages = append(f.Stages, stage.String())
		}
		list = append(list, f)
	}
	return list
}

// hopHealth is of the destinations that have work, trouble or had deliveries.
func (g *gateway) hopHealth(now, then metrics.Figures) []console.NextHopHealth {
	list := []console.NextHopHealth{}
	known := make(map[string]bool)
	add := func(h console.NextHopHealth) {
		d := now.Routes[h.Name].Since(then.Routes[h.Name])
		h.Results, h.Latency = d.Results, latency(d)
		known[h.Name] = true
		list = append(list, h)
	}
	for _, h := range g.queue.Hops(mostHops) {
		add(console.NextHopHealth{Name: h.Name, State: h.State, Waiting: h.Waiting, Active: h.Active, Failures: h.Failures, Reply: h.Reply})
	}
	for _, name := range slices.Sorted(maps.Keys(now.Routes)) {
		if !known[name] && len(list) < mostHops {
			add(console.NextHopHealth{Name: name})
		}
	}
	return list
}

func latency(f *metrics.Figure) console.Latency {
	return console.Latency{Count: f.Count, Mean: f.Mean().Round(time.Microsecond), Half: f.Quantile(.5), Most: f.Quantile(.95)}
}

// effective steps have what they left out filled in, as the multiplexer does it.
func effective(steps []filters.Step) []filters.Step {
	out := slices.Clone(steps)
	for i := range out {
		out[i] = out[i].WithDefaults()
	}
	return out
}

// settings is the configuration in use.
func (g *gateway) settings() []console.Setting { return settingsOf(g.current.Load()) }

func settingsOf(cfg *config.Config) []console.Setting {
	list := make([]console.Setting, len(cfg.Settings))
	for i, s := range cfg.Settings {
		list[i] = console.Setting(s)
	}
	return list
}

// knownUsers lists who may log in to the console.
func (g *gateway) knownUsers() []console.User {
	list := []console.User{}
	file := g.consoleUsers.file.Load()
	if file == nil {
		return list
	}
	for _, name := range file.Names() {
		a := file.Account(name)
		list = append(list, console.User{Name: name, Role: a.Role, Domains: a.Domains, Senders: a.Senders})
	}
	slices.SortFunc(list, func(a, b console.User) int { return cmp.Compare(a.Name, b.Name) })
	return list
}
