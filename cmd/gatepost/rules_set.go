package main

import (
	"io"

	"gatepost/internal/config"
	"gatepost/rules"
)

// setOf reads rules as newJudge does, for those who judge no mail by them.
func setOf(cfg *config.Config, to router, files []string, open func(string) (io.ReadCloser, error)) (*rules.Set, error) {
	with := cfg.Rules
	with.Routed = routedBy(to)
	with.Refused = to.Refusal
	with.Files.Files, with.Files.Open = files, open
	return rules.Load(with)
}
