package clamav

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"

	"gatepost/filters"
	"gatepost/internal/mail"
)

const name = "clamav"

// FindingSuspicious is what clamd reports that is no infection. Value: the
// signature's name.
const FindingSuspicious = "suspicious"

// Filter asks clamd.
type Filter struct {
	cfg      Config
	backends *filters.Backends

	// streams is set when clamd on a unix socket can't take descriptors.
	streams atomic.Bool
}

// New checks the configuration. It does no I/O.
func New(cfg Config) (*Filter, error) {
	def := DefaultConfig()
	if len(cfg.Address) == 0 {
		cfg.Address = def.Address
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = def.Timeout
	}
	if cfg.MaxSize == 0 {
		cfg.MaxSize = def.MaxSize
	}
	if cfg.MaxConcurrent == 0 {
		cfg.MaxConcurrent = def.MaxConcurrent
	}
	backends, err := filters.ParseBackends(cfg.Address, "unix", "tcp")
	errs := []error{err, cfg.OnError.Validate()}
	if cfg.Timeout < 0 {
		errs = append(errs, errors.New("timeout: is negative"))
	}
	if cfg.MaxSize < 0 {
		errs = append(errs, errors.New("max_size: is negative"))
	}
	if cfg.MaxConcurrent < 0 {
		errs = append(errs, errors.New("max_concurrent: is negative"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &Filter{cfg: cfg, backends: backends}, nil
}

// Step puts the filter into its place, with the limits of its configuration.
func (f *Filter) Step() filters.Step {
	return filters.Step{
		Name:          name,
		Filter:        f,
		Stages:        []mail.Stage{mail.StageMessage},
		Timeout:       f.cfg.Timeout,
		OnError:       f.cfg.OnError,
		MaxConcurrent: f.cfg.MaxConcurrent,
	}
}

// Check scans the message.
func (f *Filter) Check(ctx context.Context, tx *mail.Transaction) (filters.Report, error) {
	if size := contentSize(tx.Message); size > f.cfg.MaxSize {
		return notScanned("too large", fmt.Sprintf("%d bytes, max_size is %d", size, f.cfg.MaxSize)), nil
	}
	ctx, cancel := context.WithTimeout(ctx, f.cfg.Timeout)
	defer cancel()
	a, err := f.scan(ctx, tx.Message)
	if err != nil {
		return filters.Report{}, fmt.Errorf("%s: %w", name, err)
	}
	switch a.result {
	case infected:
		return report(classify(a.signature)), nil
	case tooLarge:
		return notScanned("too large", "clamd's StreamMaxLength is below max_size"), nil
	case clean:
		return cleanUnlessOpaque(tx.Message)
	}
	return filters.Report{}, fmt.Errorf("%s: no result", name)
}

// cleanUnlessOpaque doubts a clean answer about what clamd could not open.
func cleanUnlessOpaque(m *mail.Message) (filters.Report, error) {
	what, err := opaque(m.Body())
	if err != nil {
		return filters.Report{}, fmt.Errorf("%s: read the message: %w", name, err)
	}
	if what != "" {
		return notScanned(what, "clamd can't look inside"), nil
	}
	return report(mail.Finding{Name: mail.FindingClean}), nil
}

func report(f mail.Finding) filters.Report {
	return filters.Report{Findings: []mail.Finding{f}}
}

func notScanned(why, text string) filters.Report {
	return report(mail.Finding{Name: mail.FindingNotScanned, Value: why, Text: text})
}

// scan asks one clamd after the other until one has a result. A clamd that
// hangs up over a descriptor may not be allowed to take it (AppArmor, SELinux):
// then it gets a stream, now and later.
func (f *Filter) scan(ctx context.Context, m *mail.Message) (answer, error) {
	if f.streams.Load() {
		return f.try(ctx, m, false)
	}
	a, err := f.try(ctx, m, true)
	if !errors.Is(err, errNotTaken) {
		return a, err
	}
	if a, err = f.try(ctx, m, false); err == nil {
		f.streams.Store(true)
	}
	return a, err
}

func (f *Filter) try(ctx context.Context, m *mail.Message, descriptors bool) (a answer, err error) {
	err = f.backends.Do(ctx, func(conn net.Conn) (err error) {
		if unixConn, ok := conn.(*net.UnixConn); ok && descriptors {
			a, err = fildes(unixConn, m)
		} else {
			a, err = instream(conn, m)
		}
		return err
	})
	return a, err
}

// Ping asks whether a clamd is there.
func (f *Filter) Ping(ctx context.Context) error {
	if err := f.backends.Do(ctx, ping); err != nil {
		return fmt.Errorf("%s: ping: %w", name, err)
	}
	return nil
}
