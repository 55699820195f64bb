package main

import (
	"time"

	"gatepost/filters/clamav"
	"gatepost/filters/icap"
	"gatepost/internal/config"
	"gatepost/internal/console"
)

// daemon is a scanner that tells its version.
type daemon struct {
	filter  string
	version func() (text string, made time.Time, late, ok bool)
}

// clamav makes a filter of that kind.
func (b *builder) clamav(f config.Filter) (stepper, error) {
	cfg := *f.ClamAV
	cfg.Name, cfg.Inside, cfg.Log = f.Name, b.cfg.MIME, b.log.With("filter", f.Name)
	if b.stats != nil {
		cfg.Stats = b.stats
	}
	made, err := clamav.New(cfg)
	if err != nil {
		return nil, err
	}
	b.daemons = append(b.daemons, daemon{f.Name, func() (string, time.Time, bool, bool) {
		v, late, ok := made.Signatures()
		return v.Text, v.Made, late, ok
	}})
	return made, nil
}

// icap makes a filter of that kind.
func (b *builder) icap(f config.Filter) (stepper, error) {
	cfg := *f.ICAP
	cfg.Inside = b.cfg.MIME
	made, err := icap.New(cfg)
	if err != nil {
		return nil, err
	}
	b.daemons = append(b.daemons, daemon{f.Name, func() (string, time.Time, bool, bool) {
		text := made.Version()
		return text, time.Time{}, false, text != ""
	}})
	return made, nil
}

// daemonStatus is what the scanners of the present generation say of
// themselves.
func (g *gateway) daemonStatus() []console.Daemon {
	list := []console.Daemon{}
	present := g.daemons.Load()
	if present == nil {
		return list
	}
	for _, d := range *present {
		s := console.Daemon{Filter: d.filter}
		if text, made, late, ok := d.version(); ok {
			s.Version, s.Late = text, late
			if !made.IsZero() {
				s.Signatures = &made
			}
		}
		list = append(list, s)
	}
	return list
}

// describe is one line on a scanner.
func describe(d console.Daemon) string {
	switch {
	case d.Version == "":
		return "has not told its version"
	case d.Signatures == nil:
		return d.Version
	}
	text := d.Version + ", signatures of " + d.Signatures.Local().Format(time.DateTime)
	if d.Late {
		text += ", which is LATE: is freshclam running?"
	}
	return text
}
