package config

import (
	"gatepost/filters/icap"
)

// readScanner reads a scanner's section, if the kind is that of one.
func (c *Config) readScanner(s named, kind string, f *Filter, extra any) bool {
	switch kind {
	case "icap":
		cfg := icap.DefaultConfig()
		s.bind(&cfg, extra)
		checked := cfg
		checked.Preview = 1 // 0 is a word for none
		s.notZero(&checked)
		f.ICAP = &cfg
		if cfg.Service == "" && !s.has("service") {
			s.child("service").missing(`service = "avscan", the name of the service on the ICAP server`)
			return true
		}
		_, err := icap.New(cfg)
		s.attach(split(err), &cfg, "icap: ")
		return true
	}
	return false
}
