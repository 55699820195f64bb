package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"gatepost/internal/config"
	"gatepost/internal/console"
	"gatepost/internal/history"
)

// withHistory does something with the history of the gateway that runs or, when
// none does, with the file itself.
func (a *app) withHistory(do func(ctx context.Context, h history.Finder) error) error {
	cfg, err := a.load()
	if err != nil {
		return err
	}
	if cfg.History.Path == "" {
		return exit(exitConfig, `%s: no history is kept; write history = "sqlite:/var/lib/gatepost/history.db"`, cfg.File)
	}
	ctx := context.Background()
	client := console.NewClient(cfg.Control)
	err = probe(ctx, client)
	var refused *console.Refusal
	switch {
	case err == nil, errors.As(err, &refused):
		return historyError(do(ctx, client.History()))
	case errors.Is(err, fs.ErrPermission):
		return exit(exitPermission, "%s: only root and the user of the gateway may use it: %w", cfg.Control, fs.ErrPermission)
	case !nobodyThere(err):
		return exit(exitUnavailable, "the gateway does not answer on %s: %w", cfg.Control, err)
	}
	return historyAtRest(ctx, cfg, do)
}

// historyAtRest opens the file of a gateway that does not run.
func historyAtRest(ctx context.Context, cfg *config.Config, do func(ctx context.Context, h history.Finder) error) error {
	path := cfg.History.Path
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return exit(exitNoInput, "nothing is recorded yet: %w", err)
	}
	if err := becomeOwner(path); err != nil { // files that root makes beside it are in the gateway's way
		return err
	}
	r, err := history.OpenReader(path)
	if err != nil {
		return because(err)
	}
	defer r.Close()
	return historyError(do(ctx, r))
}

// historyError gives what a search meets its exit code.
func historyError(err error) error {
	var done *exitError
	switch {
	case errors.As(err, &done):
		return err
	case errors.Is(err, history.ErrQuery):
		return &exitError{exitUsage, err}
	case errors.Is(err, history.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return &exitError{exitNoInput, err}
	}
	return because(err)
}

// moment reads a time as people write it: how long ago ("2h", "7d"), a day, or
// a day and a time, in the zone of this host.
func moment(flag, s string, now time.Time) (time.Time, error) {
	year, month, day := now.Date()
	today := time.Date(year, month, day, 0, 0, 0, 0, now.Location())
	switch s {
	case "":
		return time.Time{}, nil
	case "now":
		return now, nil
	case "today":
		return today, nil
	case "yesterday":
		return today.AddDate(0, 0, -1), nil
	}
	if d, err := config.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.DateOnly, "2006-01-02 15:04", time.DateTime, "2006-01-02T15:04", "2006-01-02T15:04:05"} {
		if t, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			return t, nil
		}
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	return time.Time{}, exit(exitUsage, `--%s %q: write how long ago ("2h", "7d"), "today", "yesterday", or a time like "2026-11-21 17:00"`, flag, s)
}

// fits cuts a text for a column.
func fits(s string, n int) string {
	runes := []rune(line(s))
	if len(runes) <= n {
		return string(runes)
	}
	return string(runes[:n-1]) + "…"
}

// short is a duration that people can read.
func short(d time.Duration) string {
	switch {
	case d < 0:
		return "0ms"
	case d < time.Second:
		return fmt.Sprintf("%.1fms", float64(d.Microseconds())/1000)
	case d < time.Minute:
		return fmt.Sprintf("%.2fs", d.Seconds())
	}
	return strings.TrimSuffix(d.Round(time.Second).String(), "0s")
}
