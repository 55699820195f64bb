package spamassassin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"

	"github.com/teamwork/spamc"

	"gatepost/filters"
	"gatepost/internal/mail"
)

const name = "spamassassin"

// maxRules is how many rules are reported; a real message hits a few dozen.
const maxRules = 500

// Filter asks spamd.
type Filter struct {
	cfg      Config
	backends *filters.Backends
}

// goodUser is what may stand in spamd's User header.
var goodUser = regexp.MustCompile(`^[a-z0-9._-]{1,64}$`)

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
	backends, err := filters.ParseBackends(cfg.Address, "unix", "tcp", "tls")
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
	if cfg.User != "" && !goodUser.MatchString(cfg.User) {
		errs = append(errs, fmt.Errorf("user: %q is no user name; write up to 64 of a-z, 0-9, dot, hyphen, underscore", cfg.User))
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

// Check judges the message.
func (f *Filter) Check(ctx context.Context, tx *mail.Transaction) (filters.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, f.cfg.Timeout)
	defer cancel()
	x := f.excerpt(tx)
	var said *spamc.ResponseReport
	err := f.backends.Do(ctx, func(conn net.Conn) (err error) {
		said, err = askReport(ctx, conn, f.cfg.User, x)
		return err
	})
	if err != nil {
		return filters.Report{}, fmt.Errorf("%s: %w", name, err)
	}
	return filters.Report{Findings: findings(said, x)}, nil
}

// findings are the score and what made it.
func findings(said *spamc.ResponseReport, x excerpt) []mail.Finding {
	found := []mail.Finding{{
		Name:  mail.FindingSpamScore,
		Score: said.Score,
		Text:  points(said.Score) + " / " + points(said.BaseScore),
	}}
	if x.judged < x.whole {
		found = append(found, mail.Finding{
			Name:  mail.FindingPartial,
			Value: fmt.Sprintf("%d of %d bytes", x.judged, x.whole),
			Text:  "larger than max_size",
		})
	}
	for i, rule := range said.Report.Table {
		if i == maxRules {
			break
		}
		// Its score is part of the sum above, so it must not count again.
		found = append(found, mail.Finding{Name: mail.FindingSpamRule, Value: rule.Rule, Text: points(rule.Points)})
	}
	return found
}

func points(score float64) string { return strconv.FormatFloat(score, 'f', -1, 64) }

// Ping asks whether a spamd is there.
func (f *Filter) Ping(ctx context.Context) error {
	err := f.backends.Do(ctx, func(conn net.Conn) error { return askPing(ctx, conn) })
	if err != nil {
		return fmt.Errorf("%s: ping: %w", name, err)
	}
	return nil
}
