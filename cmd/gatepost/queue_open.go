package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"gatepost/internal/config"
	"gatepost/internal/console"
	"gatepost/internal/dns"
	"gatepost/internal/maillog"
	"gatepost/internal/state"
	"gatepost/proxy/queue"
	"gatepost/proxy/spool"
)

// withQueue does something with the queue of the gateway that runs or, when none
// does, with the spool itself.
func (a *app) withQueue(do func(ctx context.Context, q admin) error) error {
	cfg, err := a.load()
	if err != nil {
		return err
	}
	ctx := context.Background()
	client := console.NewClient(cfg.Control)
	err = probe(ctx, client)
	var refused *console.Refusal
	switch {
	case err == nil, errors.As(err, &refused):
		return do(ctx, client)
	case errors.Is(err, fs.ErrPermission):
		return exit(exitPermission, "%s: only root and the user of the gateway may use it: %w", cfg.Control, fs.ErrPermission)
	case !nobodyThere(err):
		return exit(exitUnavailable, "the gateway does not answer on %s: %w", cfg.Control, err)
	}
	return a.withSpool(cfg, do)
}

// probe asks whether a gateway is there; one that hangs is not waited for.
func probe(ctx context.Context, c *console.Client) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_, err := c.Status(ctx)
	return err
}

// nobodyThere reports whether an error means that no gateway listens.
func nobodyThere(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
}

// withSpool opens the spool for as long as do takes. Its upkeep does not run:
// that would make files of some size, for one look at a list.
func (a *app) withSpool(cfg *config.Config, do func(ctx context.Context, q admin) error) (err error) {
	if err := becomeOwner(cfg.Spool); err != nil {
		return err
	}
	log, err := maillog.New(a.err, maillog.Text, slog.LevelWarn)
	if err != nil {
		return because(err)
	}
	sp, err := spool.Open(spool.Options{Dir: cfg.Spool, Log: log})
	if errors.Is(err, spool.ErrLocked) {
		return exit(exitTemporary, "%w, but nobody answers on the control socket %s: a gateway with another configuration, or one that starts or stops", err, cfg.Control)
	}
	if err != nil {
		return because(err)
	}
	defer func() {
		if cerr := sp.Close(); err == nil {
			err = because(cerr)
		}
	}()
	next, err := newHops(cfg, log)
	if err != nil {
		return because(err)
	}
	defer next.Close()
	client, err := dns.NewClient(cfg.DNS)
	if err != nil {
		return because(err)
	}
	lives, end, err := keepLives(cfg, log)
	if err != nil {
		return because(err)
	}
	defer end()
	q, err := queue.New(cfg.Queue, queue.Deps{
		Spool: sp, Deliverer: next, Recorder: lives, Log: log, Hostname: cfg.Hostname,
		Forged: func(ctx context.Context, e *spool.Entry) string { return forged(ctx, client, e) },
	})
	if err != nil {
		return because(err)
	}
	held := mailQueue{q, new(sync.Mutex), lives}
	lists := &listsAtRest{open: func() (state.Store, error) { return a.openStore(cfg, true) }}
	defer lists.close()
	return do(context.Background(), console.Local{
		Queue: held, Held: heldQueue{held, func() personalLists { return lists }, func() *config.Config { return cfg }},
	})
}

// becomeOwner changes root into the user that owns the spool: files that root
// made there could not be read by the gateway.
func becomeOwner(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return because(fmt.Errorf("no gateway runs, and there is no spool: %w", err))
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if os.Geteuid() != 0 || !ok || owner.Uid == 0 {
		return nil
	}
	for _, err := range []error{
		syscall.Setgroups(nil), syscall.Setgid(int(owner.Gid)), syscall.Setuid(int(owner.Uid)),
	} {
		if err != nil {
			return exit(exitPermission, "becoming the owner of %s: %w", dir, err)
		}
	}
	return nil
}
