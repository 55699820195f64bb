package main

import (
	"context"
	"net/http"
	"sync/atomic"

	"gatepost/internal/config"
	"gatepost/internal/console/web"
	"gatepost/internal/users"
)

// consoleUsers are those who may log in to the console, as last read.
type consoleUsers struct{ file atomic.Pointer[users.File] }

func (c *consoleUsers) Verify(ctx context.Context, l users.Login) (string, bool, error) {
	return c.file.Load().Verify(ctx, l)
}

func (c *consoleUsers) Account(name string) users.Account { return c.file.Load().Account(name) }

// newPages makes the pages of the console.
func (g *gateway) newPages(cfg *config.Config) (http.Handler, error) {
	deps := web.Deps{API: g.control.Handler(), Throttle: g.throttle, Audit: g.audit, Log: g.log}
	if cfg.ConsoleUsers != nil {
		g.consoleUsers.file.Store(cfg.ConsoleUsers)
		deps.Accounts = &g.consoleUsers
	}
	s, err := web.New(web.Config{Hostname: cfg.Hostname, Secure: cfg.Console.Certificate != ""}, deps)
	if err != nil {
		return nil, err
	}
	return s.Handler(), nil
}

// updateConsole takes over users and certificates.
func (g *gateway) updateConsole(cfg *config.Config) error {
	if g.public == nil {
		return nil
	}
	if cfg.ConsoleUsers != nil {
		g.consoleUsers.file.Store(cfg.ConsoleUsers)
	}
	return g.public.Update(cfg.Console)
}
