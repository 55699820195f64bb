package clamav

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"

	"gatepost/filters"
	"gatepost/internal/mail"
)

const name = "clamav"

// FindingSuspicious is what clamd reports that is no infection. Value: the
// signature's name.
const FindingSuspicious = "suspicious"

// FindingOutdated says that clamd's signatures are older than max_age. Value: of
// when they are.
const FindingOutdated = "outdated"

// Filter asks clamd.
type Filter struct {
	cfg      Config
	backends *filters.Backends

	// streams is set when clamd on a unix socket can't take descriptors.
	streams atomic.Bool
	version atomic.Pointer[Version] // nil: nobody asked yet
}

// New checks the configuration. It does no I/O.
func New(cfg Config) (*Filter, error) {
	cfg = cfg.withDefaults()
	backends, err := filters.ParseBackends(cfg.Address, "unix", "tcp")
	if err := errors.Join(err, cfg.Validate()); err != nil {
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

// Check scans the message as it came and then, where there is more to it than
// plain text, everything that a mail program could see in it.
func (f *Filter) Check(ctx context.Context, tx *mail.Transaction) (filters.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, f.cfg.Timeout)
	defer cancel()
	found := f.outdated()
	if size := contentSize(tx.Message); size > f.cfg.MaxSize {
		return filters.Report{Findings: append(found, notScanned("too large", fmt.Sprintf("%d bytes, max_size is %d", size, f.cfg.MaxSize)))}, nil
	}
	a, err := f.scan(ctx, tx.Message)
	if err != nil {
		return filters.Report{}, fmt.Errorf("%s: %w", name, err)
	}
	what := f.finding(a, "")
	if !isVirus(what) && !isPlain(tx) {
		more, err := f.views(ctx, tx.Message)
		if err != nil {
			return filters.Report{}, fmt.Errorf("%s: parts: %w", name, err)
		}
		what = merge(what, more)
	}
	if len(what) == 0 {
		if what, err = f.cleanUnlessOpaque(tx); err != nil {
			return filters.Report{}, err
		}
	}
	return filters.Report{Findings: append(found, what...)}, nil
}

// finding is what an answer says; nothing when it is clean.
func (f *Filter) finding(a answer, part string) []mail.Finding {
	var found mail.Finding
	switch a.result {
	case clean:
		return nil
	case infected:
		found = f.cfg.classify(a.signature)
	default:
		found = notScanned("too large", "clamd's StreamMaxLength is below max_size")
	}
	if part != "" {
		found.Text = strings.TrimPrefix(found.Text+", in part "+mail.CleanText(part), ", ")
	}
	return []mail.Finding{found}
}

func isVirus(found []mail.Finding) bool {
	return slices.ContainsFunc(found, func(f mail.Finding) bool { return f.Name == mail.FindingVirus })
}

// maxFindings bounds what one message is reported for.
const maxFindings = 20

// merge adds what was not found yet.
func merge(found, more []mail.Finding) []mail.Finding {
	for _, m := range more {
		known := slices.ContainsFunc(found, func(f mail.Finding) bool { return f.Name == m.Name && f.Value == m.Value })
		if !known && (len(found) < maxFindings || m.Name == mail.FindingVirus) {
			found = append(found, m)
		}
	}
	return found
}

// cleanUnlessOpaque doubts a clean answer about what clamd could not open.
func (f *Filter) cleanUnlessOpaque(tx *mail.Transaction) ([]mail.Finding, error) {
	what, err := opaque(tx.Message.Body())
	if err != nil {
		return nil, fmt.Errorf("%s: read the message: %w", name, err)
	}
	if what == "" && tx.Inside != nil {
		for _, p := range tx.Inside.Parts {
			if p.Encrypted && p.Archive != "" {
				what = "encrypted " + p.Archive
			}
		}
	}
	if what != "" {
		return []mail.Finding{f.cfg.Encrypted.of(what, "clamd can't look inside")}, nil
	}
	return []mail.Finding{{Name: mail.FindingClean}}, nil
}

func notScanned(why, text string) mail.Finding {
	return mail.Finding{Name: mail.FindingNotScanned, Value: why, Text: text}
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
