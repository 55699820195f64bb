package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"gatepost/internal/config"
	"gatepost/internal/console"
	"gatepost/internal/dns"
)

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Look for what keeps mail from coming in, or going out",
		Long: `Looks at the configuration, the disk, the clock, the DNS and its lists, our own
name in it, certificates, the daemons behind filters, stores, directories and next
hops, and tries to relay through us as a stranger would. Each line is OK, WARN or
FAIL, with what to do. Nothing is changed, and no mail is sent.

Exit code 0: nothing failed. 65: something did. 78: the configuration can't be
read.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return a.doctor() },
	}
}

// Marks of what was looked at.
const (
	markOK   = "OK"
	markWarn = "WARN"
	markFail = "FAIL"
)

// checkup is one thing that was looked at.
type checkup struct {
	Mark string `json:"mark"`
	What string `json:"what"`
	Text string `json:"text"`
	Do   string `json:"do,omitempty"` // against it
}

// doctor looks at one gateway.
type doctor struct {
	a       *app
	cfg     *config.Config
	log     *slog.Logger // of what is made only to be looked at
	dns     *dns.Client
	status  *console.Status // nil: none runs
	failed  bool
	written error
}

// Times of the doctor: each thing that does not answer, and all together.
const (
	lookTime   = 10 * time.Second
	doctorTime = 5 * time.Minute
)

func (a *app) doctor() error {
	cfg, err := a.load()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, doctorTime)
	defer cancel()
	d := &doctor{a: a, cfg: cfg, log: slog.New(slog.DiscardHandler)}
	if d.dns, err = dns.NewClient(cfg.DNS); err != nil {
		return because(err)
	}
	d.configuration()
	d.running(ctx)
	for _, look := range []func(context.Context){
		d.disk, d.clock, d.limits, d.certificates, d.resolver, d.ourName, d.lists, d.keys, d.filters, d.store, d.directories, d.nextHops, d.networks, d.relayRules, d.relayListeners,
	} {
		if ctx.Err() != nil {
			return exit(exitTemporary, "not everything was looked at: %w", ctx.Err())
		}
		look(ctx)
	}
	switch {
	case d.written != nil:
		return d.written
	case d.failed:
		return silent(exitData)
	}
	return nil
}

// say prints what was found; do is for WARN and FAIL.
func (d *doctor) say(mark, what, do, format string, args ...any) {
	c := checkup{mark, what, line(fmt.Sprintf(format, args...)), line(do)}
	d.failed = d.failed || mark == markFail
	if d.written != nil {
		return
	}
	if d.a.json {
		d.written = d.a.printJSON(c)
		return
	}
	text := fmt.Sprintf("%-4s %-12s %s\n", c.Mark, c.What, c.Text)
	if c.Do != "" {
		text += fmt.Sprintf("%17s -> %s\n", "", c.Do)
	}
	if _, err := fmt.Fprint(d.a.out, text); err != nil {
		d.written = exit(exitSystem, "writing: %w", err)
	}
}

func (d *doctor) ok(what, format string, args ...any) { d.say(markOK, what, "", format, args...) }

func (d *doctor) warn(what, do, format string, args ...any) {
	d.say(markWarn, what, do, format, args...)
}

func (d *doctor) fail(what, do, format string, args ...any) {
	d.say(markFail, what, do, format, args...)
}

func (d *doctor) configuration() {
	for _, w := range d.cfg.Warnings {
		d.warn("config", w.Do, "%s:%d: %s: %s", w.File, w.Line, w.Key, w.What)
	}
	if len(d.cfg.Warnings) == 0 {
		d.ok("config", "%s", d.cfg.File)
	}
}

// running asks the gateway how it is.
func (d *doctor) running(ctx context.Context) {
	client := console.NewClient(d.cfg.Control)
	s, err := asked(ctx, client.Status)
	switch {
	case err == nil:
	case nobodyThere(err):
		d.warn("gateway", "start it: systemctl start gatepost", "none runs with this configuration")
		return
	case errors.Is(err, fs.ErrPermission):
		d.fail("gateway", "run the doctor as root or as the gateway's user", "%s can't be opened: %v", d.cfg.Control, err)
		return
	default:
		d.fail("gateway", "look at its log: journalctl -u gatepost", "it does not answer on %s: %v", d.cfg.Control, err)
		return
	}
	d.status = &s
	if s.NotReady != "" {
		d.fail("gateway", "look at its log: journalctl -u gatepost", "it takes no mail: %s", s.NotReady)
		return
	}
	if s.Version != thisBuild().Version {
		d.warn("gateway", "restart it: systemctl restart gatepost", "version %s runs, and this is %s", s.Version, thisBuild().Version)
		return
	}
	d.ok("gateway", "process %d takes mail, since %s", s.PID, s.Started.Local().Format(time.DateTime))
}
