package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"time"

	"gatepost/internal/config"
	"gatepost/internal/console"
	"gatepost/internal/maillog"
	"gatepost/internal/state"
)

// withState does something with the store of the gateway that runs or, when none
// does, with the store itself.
func (a *app) withState(changes bool, do func(ctx context.Context, s console.Store) error) error {
	cfg, err := a.load()
	if err != nil {
		return err
	}
	ctx := context.Background()
	client := console.NewClient(cfg.Control)
	asked, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	status, err := client.Status(asked)
	switch {
	case err == nil:
		if status.State.Away != "" {
			fmt.Fprintf(a.err, "gatepost: %s is away: this is what one gateway knows; what is changed is told to it later\n", line(status.State.Name))
		}
		return do(ctx, client.Store())
	case errors.Is(err, fs.ErrPermission):
		return exit(exitPermission, "%s: only root and the user of the gateway may use it: %w", cfg.Control, fs.ErrPermission)
	case !nobodyThere(err):
		return exit(exitUnavailable, "the gateway does not answer on %s: %w", cfg.Control, err)
	}
	return a.withStore(cfg, changes, do)
}

// patience is how long a command waits for a store: longer than a session.
const patience = 5 * time.Second

// withStore opens the store itself. A file that is not there yet is not made only
// to be looked at.
func (a *app) withStore(cfg *config.Config, changes bool, do func(ctx context.Context, s console.Store) error) (err error) {
	s, err := a.openStore(cfg, changes)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := s.Close(); err == nil {
			err = because(cerr)
		}
	}()
	return do(context.Background(), s)
}

func (a *app) openStore(cfg *config.Config, changes bool) (state.Store, error) {
	log, err := maillog.New(a.err, maillog.Text, slog.LevelWarn)
	if err != nil {
		return nil, because(err)
	}
	o := state.Options{Timeout: patience, Log: log}
	if cfg.Store.Kind != state.KindSQLite {
		s, err := state.NewRedis(cfg.Store, o)
		return s, because(err)
	}
	owner := cfg.Store.Path
	if _, err := os.Stat(owner); errors.Is(err, fs.ErrNotExist) {
		if !changes {
			return state.NewMemory(nil), nil
		}
		owner = cfg.Spool // who will use the file
	}
	if _, err := os.Stat(owner); err == nil {
		if err := becomeOwner(owner); err != nil {
			return nil, err
		}
	}
	return state.NewSQLite(cfg.Store.Path, o), nil
}

// stateError gives an error of a store its exit code.
func stateError(err error) error {
	var refused *console.Refusal
	switch {
	case errors.Is(err, state.ErrBad), errors.As(err, &refused) && refused.Status == http.StatusBadRequest:
		return exit(exitData, "%w", err)
	case errors.Is(err, fs.ErrPermission):
		return exit(exitPermission, "%w", err)
	case errors.Is(err, state.ErrBusy):
		return exit(exitTemporary, "%w", err)
	case errors.Is(err, state.ErrAway), refused != nil:
		return exit(exitUnavailable, "%w", err)
	}
	return exit(exitSystem, "%w", err)
}
