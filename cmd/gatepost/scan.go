package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"gatepost/internal/config"
	"gatepost/internal/mail"
	"gatepost/internal/maillog"
	"gatepost/internal/state"
	"gatepost/proxy"
	"gatepost/proxy/forward"
)

// scanFlags is the envelope of the messages that are judged.
type scanFlags struct {
	ip, helo, from string
	rcpts          []string
}

func (a *app) scanCommand() *cobra.Command {
	var f scanFlags
	c := &cobra.Command{
		Use:   "scan FILE…",
		Short: "Judge message files as if they came in now",
		Long: `Judges messages as if they came in now: access map, filters, rules.
Nothing is delivered or kept, and who may relay is not asked. "-" is standard
input. Files with LF at the ends of their lines, as is usual on disk, are judged
with CRLF, as they would be sent.

Exits with 1 when a message would not be delivered, with 75 when none of that
kind was there but a scanner could not tell.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return a.scan(context.Background(), f, args) },
	}
	scanEnvelope(c, &f)
	return c
}

// scanEnvelope adds the flags for the envelope of a file.
func scanEnvelope(c *cobra.Command, f *scanFlags) {
	c.Flags().StringVar(&f.ip, "ip", "", "the client's `address` (default: unknown; the message's own Received fields count)")
	c.Flags().StringVar(&f.helo, "helo", "unknown", "the client's `name` in EHLO")
	c.Flags().StringVar(&f.from, "from", "", "the envelope's sender, an `address` (default: unknown)")
	c.Flags().StringArrayVar(&f.rcpts, "rcpt", nil, "a recipient, an `address`; can be given again (default: postmaster)")
}

func (a *app) scan(ctx context.Context, f scanFlags, names []string) error {
	cfg, err := config.LoadForScan(a.file)
	if err != nil {
		return because(err)
	}
	s, err := newScanner(cfg, f, a)
	if err != nil {
		return err
	}
	defer s.routes.Close()
	var results []scanResult
	code := exitOK
	m := a.meter("files", len(names))
	for _, name := range names {
		r, err := s.file(ctx, name)
		m.Add(1)
		if err != nil {
			fmt.Fprintf(a.err, "gatepost: %s: %s\n", line(name), line(err.Error()))
			code = max(code, codeOf(err))
			continue
		}
		results = append(results, r)
	}
	m.End()
	if err := a.printResults(results); err != nil {
		return err
	}
	if code == exitOK {
		code = worst(results)
	}
	if code != exitOK {
		return silent(code)
	}
	return nil
}

// worst is the exit code of the worst verdict.
func worst(results []scanResult) int {
	code := exitOK
	for _, r := range results {
		switch {
		case r.action == mail.TempFail:
			if code == exitOK {
				code = exitTemporary
			}
		case !r.action.Delivers():
			code = 1
		}
	}
	return code
}

// scanner judges files with one configuration and one envelope.
type scanner struct {
	newHandler func() mail.Handler
	routes     *forward.Forwarder
	session    mail.Session
	sender     mail.Path
	rcpts      []mail.Path
	limit      int64
	stdin      io.Reader

	hostname string
}

func newScanner(cfg *config.Config, f scanFlags, a *app) (*scanner, error) {
	s := &scanner{stdin: a.in, limit: proxy.DefaultConfig().Limits.MaxSize}
	for _, l := range cfg.Listeners {
		s.limit = max(s.limit, l.Limits.MaxSize)
	}
	if err := s.envelope(cfg, f); err != nil {
		return nil, err
	}
	if err := s.client(context.Background(), cfg, f); err != nil {
		return nil, err
	}
	log, err := maillog.New(a.err, maillog.Text, slog.LevelError)
	if err != nil {
		return nil, because(err)
	}
	if s.routes, err = forward.New(cfg.Forward, log); err != nil {
		return nil, because(err)
	}
	judge, err := newJudge(cfg, s.routes, tools{store: state.NewMemory(nil), log: log})
	if err != nil {
		return nil, because(err)
	}
	s.newHandler = judge.Handler
	return s, nil
}

// envelope reads the flags.
func (s *scanner) envelope(cfg *config.Config, f scanFlags) error {
	sender, err := mail.ParseAddress(strings.Trim(f.from, "<>"), true)
	if err != nil {
		return exit(exitUsage, "--from %q: %w", f.from, err)
	}
	s.sender.Address = sender
	for _, text := range f.rcpts {
		a, err := mail.ParseAddress(strings.Trim(text, "<>"), true)
		if err != nil || a.IsNull() {
			return exit(exitUsage, "--rcpt %q is no address", text)
		}
		s.rcpts = append(s.rcpts, mail.Path{Address: a})
	}
	if len(s.rcpts) == 0 {
		s.rcpts = []mail.Path{{Address: cfg.Postmaster()}}
	}
	return nil
}

// client looks at the client as a listener does.
func (s *scanner) client(ctx context.Context, cfg *config.Config, f scanFlags) error {
	s.hostname = cfg.Hostname
	s.session = mail.Session{Via: mail.ViaScan, Helo: line(f.helo), ESMTP: true}
	if f.ip == "" {
		return nil
	}
	ip, err := netip.ParseAddr(f.ip)
	if err != nil {
		return exit(exitUsage, "--ip: %w", err)
	}
	names, err := clientNames(cfg)
	if err != nil {
		return because(err)
	}
	s.session.Client = netip.AddrPortFrom(ip.Unmap(), 0)
	s.session.Name = names.ClientName(ctx, ip)
	s.session.Trusted = isOurs(cfg, ip.Unmap())
	return nil
}

// printResults prints a table, or one JSON object a line.
func (a *app) printResults(results []scanResult) error {
	if a.json {
		for _, r := range results {
			if err := a.printJSON(r); err != nil {
				return err
			}
		}
		return nil
	}
	if len(results) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "FILE\tVERDICT\tSCORE\tFINDINGS\tREASON\tREPLY")
	for _, r := range results {
		fmt.Fprintf(w, "%s\t%s\t%.1f\t%s\t%s\t%s\n", cell(r.File), r.Verdict, r.Score, cell(r.summary()), cell(r.Reason), cell(r.Reply))
		for _, p := range r.Recipients {
			fmt.Fprintf(w, "  %s\t%s\t\t\t%s\t%s\n", cell(p.Address), p.Verdict, cell(p.Reason), cell(p.Reply))
		}
	}
	if err := w.Flush(); err != nil {
		return exit(exitSystem, "writing: %w", err)
	}
	return nil
}

// cell is text for a column: never empty, so that columns can be counted.
func cell(s string) string {
	if s = line(s); s == "" {
		return "-"
	}
	return s
}
