package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"gatepost/internal/backscatter"
	foreignq "gatepost/internal/mailq"
)

// cleanOptions is the command line of "queue clean".
type cleanOptions struct {
	bounces         bool
	above           string
	mta, mtaConfig  string
	hosts           []string
	max             int
	dryRun, verbose bool
	report          bool
}

const (
	mtaOwn      = "gatepost"
	mtaPostfix  = "postfix"
	mtaSendmail = "sendmail"
)

const sendmailCF = "/etc/mail/sendmail.cf"

func (a *app) queueCleanCommand() *cobra.Command {
	var o cleanOptions
	c := &cobra.Command{
		Use:   "clean --bounces",
		Short: "Delete bounces of spam, for cron",
		Long: `Deletes bounces that this host made itself and that answer spam: those whose
returned message has a spam score above the limit. Their senders are forged, so
they reach strangers or nobody, and fill the queue meanwhile.

It looks into our own queue, or with --mta into the one of Postfix or sendmail on
this host, under the locks of these. What it never deletes: mail that has a
sender; bounces that came from elsewhere; a score that is the limit exactly, or
none; bounces to those who had authenticated or sent from this host; what
somebody holds; what is being delivered right now.

It says nothing when all went well, so that cron sends no mail. It ends with 75
when --max was reached, when some could not be deleted, or when another run is at
work; nothing is broken then, and the next run goes on.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			limit, err := o.check()
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
			defer stop()
			return a.queueClean(ctx, o, limit)
		},
	}
	f := c.Flags()
	f.BoolVar(&o.bounces, "bounces", false, "clean bounces; there is nothing else to clean, but it must be said")
	f.StringVar(&o.above, "score-above", "10", "delete where the `score` of the cause is above this, not where it is equal")
	f.StringVar(&o.mta, "mta", mtaOwn, "whose `queue`: gatepost, postfix or sendmail")
	f.StringVar(&o.mtaConfig, "mta-config", "", "the configuration directory of Postfix, or sendmail's `file` (default "+sendmailCF+")")
	f.StringArrayVar(&o.hosts, "host", nil, "one more `name` under which this host makes bounces")
	f.IntVar(&o.max, "max", 0, "stop after this `number` of deletions; 0 is no limit")
	f.BoolVarP(&o.dryRun, "dry-run", "n", false, "only say what would be done")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "say of every message what becomes of it, and why")
	f.BoolVar(&o.report, "report", false, "print a summary at the end")
	return c
}

// check returns the limit.
func (o cleanOptions) check() (backscatter.Score, error) {
	limit, err := backscatter.ParseScore(o.above)
	switch {
	case !o.bounces:
		return limit, errors.New("clean needs --bounces: nothing else is ever cleaned")
	case err != nil:
		return limit, fmt.Errorf("--score-above: %q is no score; write a number like 10 or 7.5", o.above)
	case o.max < 0:
		return limit, fmt.Errorf("--max: %d is no number of messages", o.max)
	case o.mta != mtaOwn && o.mta != mtaPostfix && o.mta != mtaSendmail:
		return limit, fmt.Errorf("--mta: %q is none of gatepost, postfix, sendmail", o.mta)
	case o.mta == mtaOwn && o.mtaConfig != "":
		return limit, errors.New("--mta-config needs --mta postfix or --mta sendmail; our own configuration is --config")
	}
	return limit, nil
}

func (a *app) queueClean(ctx context.Context, o cleanOptions, limit backscatter.Score) error {
	c := newCleaning(a, o, backscatter.Rule{Limit: limit, Hosts: o.hosts})
	switch o.mta {
	case mtaPostfix:
		return c.postfix(ctx)
	case mtaSendmail:
		return c.sendmail(ctx)
	}
	return c.own(ctx)
}

// visitable is a queue of another MTA.
type visitable interface {
	Visit(ctx context.Context, v foreignq.Visitor) error
}

func (c *cleaning) postfix(ctx context.Context) error {
	// postcat and postsuper want it.
	if os.Geteuid() != 0 {
		return exit(exitPermission, "only root may read and delete in the queue of Postfix")
	}
	p, err := foreignq.NewPostfix(c.o.mtaConfig)
	if err != nil {
		return cleanError(err)
	}
	host, err := p.Host(ctx)
	if err != nil {
		return cleanError(err)
	}
	dir, err := p.Dir(ctx)
	if err != nil {
		return cleanError(err)
	}
	c.rule.Hosts = append(c.rule.Hosts, host)
	return c.alone(dir, func() error { return c.foreign(ctx, p) })
}

func (c *cleaning) sendmail(ctx context.Context) error {
	cf := c.o.mtaConfig
	if cf == "" {
		cf = sendmailCF
	}
	s, err := foreignq.NewSendmail(cf)
	if err != nil {
		return cleanError(err)
	}
	host := s.Host()
	if name, err := os.Hostname(); host == "" && err == nil && strings.Contains(name, ".") {
		host = name
	}
	if host != "" {
		c.rule.Hosts = append(c.rule.Hosts, host)
	}
	if len(c.rule.Hosts) == 0 {
		return exit(exitConfig, "%s does not say the name of this host (Dj), nor does the system: add --host", cf)
	}
	return c.alone(s.Dir(), func() error { return c.foreign(ctx, s) })
}

func (c *cleaning) foreign(ctx context.Context, q visitable) error {
	return c.end(ctx, q.Visit(ctx, c))
}

// alone does something while no other run can. What only looks need not wait.
func (c *cleaning) alone(dir string, do func() error) error {
	c.dir = dir
	if c.o.dryRun {
		return do()
	}
	lock, err := foreignq.Lock(dir)
	if err != nil {
		return cleanError(err)
	}
	defer lock.Close()
	return do()
}

// end says what is to be said, and how it went.
func (c *cleaning) end(ctx context.Context, err error) error {
	if perr := c.summary(); perr != nil {
		return perr
	}
	switch {
	case errors.Is(err, errMax):
		return exit(exitTemporary, "stopped after %s, as --max says: there are more", count(c.deleted, "deletion"))
	case err != nil && ctx.Err() != nil:
		return exit(exitTemporary, "ended by a signal after %s; the queue is sound", count(c.deleted, "deletion"))
	case err != nil:
		return cleanError(err)
	case c.failed > 0:
		return exit(exitTemporary, "%s could not be deleted", count(c.failed, "spam bounce"))
	}
	return nil
}

// cleanError gives an error of a queue its exit code.
func cleanError(err error) error {
	var ended *exec.ExitError
	switch {
	case errors.Is(err, foreignq.ErrLocked):
		return &exitError{exitTemporary, err}
	case errors.Is(err, exec.ErrNotFound), errors.As(err, &ended):
		return &exitError{exitUnavailable, err}
	}
	return because(err)
}

// Judge implements mailq.Visitor.
func (c *cleaning) Judge(_ context.Context, m foreignq.Message, content io.Reader) (bool, error) {
	return c.judge(m, backscatter.Candidate{Null: m.Null, Foreign: m.Foreign, Recipients: m.Recipients}, content)
}
