package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/pprof"
	"syscall"

	"github.com/spf13/cobra"

	"gatepost/internal/maillog"
	"gatepost/internal/metrics"
)

func (a *app) serveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Run the gateway",
		Long: `Runs the gateway in the foreground; its log goes to standard error.

SIGTERM and SIGINT drain: nothing new is taken, what is on its way may end. A
second one stops at once; no accepted mail is lost by that. SIGHUP reads the
configuration again; a file with an error changes nothing. SIGUSR1 opens log files
again, for logrotate. SIGUSR2 writes what all goroutines do to standard error.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return a.serve() },
	}
}

func (a *app) serve() error {
	cfg, err := a.load()
	if err != nil {
		return err
	}
	level := new(slog.LevelVar)
	level.Set(cfg.Log.Level)
	m := metrics.New(thisBuild().Version)
	logs, err := maillog.Open(cfg.Log, maillog.Deps{Stderr: a.err, Level: level, Hostname: cfg.Hostname, Version: thisBuild().Version, Lost: m.LogLost})
	if err != nil {
		return because(err)
	}
	defer logs.Close()
	log := logs.Logger
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(signals)

	for _, w := range cfg.Warnings {
		log.Warn("configuration", "warning", w.Error())
	}
	g, err := assemble(cfg, log, level, m)
	if err != nil {
		return because(err)
	}
	if err := g.listen(); err != nil {
		g.close()
		return because(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- g.run(ctx) }()
	err = g.obey(ctx, stop, signals, ended, logs, a.err)
	if err == errAtOnce {
		// The goroutines go with the process, as after a crash.
		log.Warn("stopped before all had ended")
		return silent(exitTemporary)
	}
	g.close()
	return err
}

var errAtOnce = exit(exitTemporary, "stopped at once")

// obey does what signals say until the gateway has ended.
func (g *gateway) obey(ctx context.Context, stop context.CancelFunc, signals <-chan os.Signal, ended <-chan error, logs *maillog.Logs, dump io.Writer) error {
	for {
		select {
		case err := <-ended:
			return err
		case s := <-signals:
			switch s {
			case syscall.SIGHUP:
				_ = g.reload(ctx) // it has logged why not
			case syscall.SIGUSR1:
				if err := logs.Reopen(); err != nil {
					g.log.Error("log not opened again, the old file goes on", "error", err)
				}
			case syscall.SIGUSR2:
				_ = pprof.Lookup("goroutine").WriteTo(dump, 1)
			default:
				if ctx.Err() != nil {
					return errAtOnce
				}
				stop()
			}
		}
	}
}
