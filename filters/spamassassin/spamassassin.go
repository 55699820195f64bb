package spamassassin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"

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

// New checks the configuration. It does no I/O.
func New(cfg Config) (*Filter, error) {
	cfg = cfg.withDefaults()
	backends, err := filters.ParseBackends(cfg.Address, "unix", "tcp", "tls")
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

// Unscanned is the value of mail.FindingPartial for mail that was too large to
// be judged at all.
const Unscanned = "unscanned: size"

// Check judges the message, for each user whose word counts.
func (f *Filter) Check(ctx context.Context, tx *mail.Transaction) (filters.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, f.cfg.Timeout)
	defer cancel()
	var all []judged
	for _, q := range f.questions(tx) {
		x := f.excerpt(tx, q.rcpts)
		if x.judged < x.whole && f.cfg.Oversize == Skip {
			return filters.Report{Findings: []mail.Finding{{
				Name: mail.FindingPartial, Value: Unscanned, Text: fmt.Sprintf("%d bytes, max_size is %d", x.whole, f.cfg.MaxSize),
			}}}, nil
		}
		var said answer
		err := f.backends.Do(ctx, func(conn net.Conn) (err error) {
			said, err = askReport(ctx, conn, q.user, x)
			return err
		})
		if err != nil {
			return filters.Report{}, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, judged{q, said, x})
	}
	return filters.Report{Findings: findings(all)}, nil
}

// judged is what spamd said to one question.
type judged struct {
	question
	said answer
	x    excerpt
}

// findings are the highest score and what made it and, where several were
// asked for, each one's own.
func findings(all []judged) []mail.Finding {
	top := all[0]
	for _, j := range all {
		if j.said.Score > top.said.Score {
			top = j
		}
	}
	found := []mail.Finding{{
		Name:  mail.FindingSpamScore,
		Score: top.said.Score,
		Text:  points(top.said.Score) + " / " + points(top.said.BaseScore),
	}}
	if top.x.judged < top.x.whole {
		found = append(found, mail.Finding{
			Name:  mail.FindingPartial,
			Value: fmt.Sprintf("%d of %d bytes", top.x.judged, top.x.whole),
			Text:  "larger than max_size",
		})
	}
	if len(all) > 1 {
		for _, j := range all {
			for _, r := range j.rcpts {
				found = append(found, mail.Finding{Name: mail.FindingScoreFor, Value: points(j.said.Score), Text: "as " + cmp.Or(j.user, "spamd's own user"), Rcpt: r.Address})
			}
		}
	}
	for i, rule := range top.said.Report.Table {
		if i == maxRules {
			break
		}
		// Its score is part of the sum above, so it must not count again.
		found = append(found, mail.Finding{Name: mail.FindingSpamRule, Value: mail.CleanText(rule.Rule), Text: points(rule.Points)})
	}
	if top.said.text != "" {
		found = append(found, mail.Finding{Name: mail.FindingReport, Text: top.said.text})
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
