package main

import (
	"os"

	"gatepost/internal/progress"
)

// meter shows how far a long command is, on a terminal; elsewhere it is nil.
func (a *app) meter(what string, total int) *progress.Meter {
	f, ok := a.err.(*os.File)
	if !ok || a.json || !isTerminal(f) {
		return nil
	}
	return progress.New(f, what, total)
}
