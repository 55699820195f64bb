package config

import (
	"strings"

	"gatepost/filters/auth"
	"gatepost/filters/blocklist"
	"gatepost/filters/client"
	"gatepost/filters/dnsbl"
	"gatepost/filters/greylist"
	"gatepost/filters/rates"
)

// readReputation reads a filter that looks at who sends, and reports whether the
// section is of one.
func (c *Config) readReputation(top table, s named, kind string, f *Filter, extra any) bool {
	switch kind {
	case "dnsbl":
		cfg := dnsbl.DefaultConfig()
		s.bind(&cfg, extra)
		f.DNSBL = &cfg
		s.attach(split(cfg.Validate()), &cfg)
	case "greylist":
		cfg := greylist.DefaultConfig()
		s.bind(&cfg, extra)
		f.Greylist = &cfg
		c.checkGreylist(top, s, &cfg)
	case "rates":
		cfg := rates.DefaultConfig()
		s.bind(&cfg, extra)
		f.Rates = &cfg
		s.attach(split(cfg.Validate()), &cfg)
	case "client":
		cfg := client.DefaultConfig()
		cfg.Hostname = c.Hostname
		s.bind(&cfg, extra)
		f.Client = &cfg
		s.attach(split(cfg.Validate()), &cfg)
	case "blocklist":
		cfg := blocklist.DefaultConfig()
		s.bind(&cfg, extra)
		f.Blocklist = &cfg
		s.attach(split(cfg.Validate()), &cfg)
	case "auth":
		cfg := auth.DefaultConfig()
		s.bind(&cfg, extra)
		f.Auth = &cfg
		s.attach(split(cfg.Validate()), &cfg)
	default:
		return false
	}
	return true
}

// checkGreylist reads the lists of exceptions, too.
func (c *Config) checkGreylist(top table, s named, cfg *greylist.Config) {
	var files []string
	for _, list := range [][]string{cfg.Networks, cfg.Clients, cfg.Senders, cfg.Recipients} {
		for _, entry := range list {
			if path, ok := strings.CutPrefix(entry, "file:"); ok {
				files = append(files, path)
			}
		}
	}
	_, err := greylist.Load(*cfg, nil, nil)
	texts := split(err)
	for i, text := range texts {
		texts[i] = strings.TrimPrefix(text, "greylist: ")
	}
	c.attachFiles(top, s.table, texts, cfg, files...)
}
