package dnsbl

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"gatepost/filters"
	"gatepost/internal/mail"

	"golang.org/x/net/publicsuffix"
)

const name = "dnsbl"

// Stats counts. The names of lists are those of the configuration.
type Stats interface {
	// Look counts an answer: listed, clean, refused, failed.
	Look(list, result string)
	// ListUp tells whether a list is asked.
	ListUp(list string, up bool)
}

// Deps is what the filter works with.
type Deps struct {
	Resolver Resolver
	Stats    Stats // nil: nothing is counted
	Log      *slog.Logger
}

// Filter asks DNS lists.
type Filter struct {
	cfg   Config
	lists []*list
	asked chan struct{} // holds one item for each question on its way
}

// maxQuestions are on their way at a time, of all mails.
const maxQuestions = 256

// New checks the configuration. It does no I/O.
func New(cfg Config, deps Deps) (*Filter, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if deps.Stats == nil {
		deps.Stats = nobody{}
	}
	f := &Filter{cfg: cfg, asked: make(chan struct{}, maxQuestions)}
	for _, n := range slices.Sorted(maps.Keys(cfg.List)) {
		f.lists = append(f.lists, newList(n, cfg.List[n], cfg.TestEvery, deps))
	}
	return f, nil
}

// grace is what the filter has beyond its own timeout, to say what it knows.
const grace = 2 * time.Second

// Step puts the filter into its place, with the limits of its configuration.
func (f *Filter) Step() filters.Step {
	s := filters.Step{
		Name: name, Filter: f, Timeout: f.cfg.Timeout + grace, OnError: f.cfg.OnError, MaxConcurrent: f.cfg.MaxConcurrent,
	}
	if f.wants(Client) || f.wants(Helo) || f.wants(Sender) {
		s.Stages = append(s.Stages, mail.StageMail)
	}
	if f.wants(Body) {
		s.Stages = append(s.Stages, mail.StageMessage)
	}
	return s
}

// Rejects reports whether a list may lead to a refusal of recipients.
func (c Config) Rejects() bool {
	return slices.ContainsFunc(slices.Collect(maps.Values(c.List)), func(l List) bool { return l.Reject })
}

func (f *Filter) wants(s Subject) bool {
	return slices.ContainsFunc(f.lists, func(l *list) bool { return l.asks(s) })
}

// question is one name that one list is asked about.
type question struct {
	list  *list
	name  string // with a final dot, before the zone
	about string // for people
}

// answer is what came of it.
type answer struct {
	hit  bool
	text string
	err  error
}

// Check asks about who sends at MAIL, and about links at the message.
func (f *Filter) Check(ctx context.Context, tx *mail.Transaction) (filters.Report, error) {
	if tx.Session.IsOurs() || tx.Session.IsLocal() {
		return filters.Report{}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, f.cfg.Timeout)
	defer cancel()
	var questions []question
	var err error
	if tx.Stage == mail.StageMessage {
		questions, err = f.aboutBody(ctx, tx)
	} else {
		questions = f.aboutSender(ctx, tx)
	}
	if err != nil {
		return filters.Report{}, err
	}
	return f.report(questions, f.askAll(ctx, questions))
}

// aboutSender has the questions about client, HELO and sender.
func (f *Filter) aboutSender(ctx context.Context, tx *mail.Transaction) (all []question) {
	helo, sender := names(tx.Session.Helo), names(tx.Envelope.Sender.ASCIIDomain())
	client := tx.Session.Addr()
	for _, l := range f.usable(ctx, Client, Helo, Sender) {
		if l.asks(Client) && (client.Is4() || !l.NoIPv6) {
			all = append(all, question{l, reversed(client), "client " + client.String()})
		}
		if l.asks(Helo) {
			for _, n := range helo {
				all = append(all, question{l, n + ".", "name " + n})
			}
		}
		if l.asks(Sender) {
			for _, n := range sender {
				all = append(all, question{l, n + ".", "domain " + n})
			}
		}
	}
	return all
}

// aboutBody has the questions about hosts of links.
func (f *Filter) aboutBody(ctx context.Context, tx *mail.Transaction) (all []question, err error) {
	lists := f.usable(ctx, Body)
	if len(lists) == 0 {
		return nil, nil
	}
	hosts, err := linked(tx.Message, f.cfg.MaxHosts)
	if err != nil {
		return nil, fmt.Errorf("%s: read the message: %w", name, err)
	}
	for _, l := range lists {
		for _, h := range hosts {
			all = append(all, question{l, h + ".", "link to " + h})
		}
	}
	return all, nil
}

// usable returns the lists that are asked about one of these, and work.
func (f *Filter) usable(ctx context.Context, about ...Subject) (all []*list) {
	ok := make([]bool, len(f.lists))
	var wg sync.WaitGroup
	for i, l := range f.lists {
		if slices.ContainsFunc(about, l.asks) {
			wg.Go(func() { ok[i] = l.usable(ctx) })
		}
	}
	wg.Wait()
	for i, l := range f.lists {
		if ok[i] {
			all = append(all, l)
		}
	}
	return all
}

// names are the forms in which lists know a name: itself, and the domain that
// somebody registered. An address, or a name without a dot, has none.
func names(host string) []string {
	host, err := mail.ParseDomain(host)
	if err != nil || strings.HasPrefix(host, "[") || !strings.Contains(host, ".") {
		return nil
	}
	host = mail.ASCIIDomain(host)
	registered, err := publicsuffix.EffectiveTLDPlusOne(host)
	if err != nil || registered == host {
		return []string{host}
	}
	return []string{host, registered}
}

// askAll asks all questions side by side. It returns soon after ctx ends.
func (f *Filter) askAll(ctx context.Context, questions []question) []answer {
	answers := make([]answer, len(questions))
	var wg sync.WaitGroup
	for i, q := range questions {
		wg.Go(func() {
			select {
			case f.asked <- struct{}{}:
			case <-ctx.Done():
				answers[i].err = fmt.Errorf("%s: %w", q.list.name, ctx.Err())
				return
			}
			defer func() { <-f.asked }()
			answers[i].hit, answers[i].text, answers[i].err = q.list.ask(ctx, q.name, q.about)
		})
	}
	wg.Wait()
	return answers
}

// report has one finding for each list that hit, in the order of the lists.
func (f *Filter) report(questions []question, answers []answer) (r filters.Report, err error) {
	var failures []error
	var last *list // that has hit
	for i, a := range answers {
		l := questions[i].list
		switch {
		case a.err != nil:
			failures = append(failures, a.err)
		case a.hit && l != last:
			last = l
			r.Findings = append(r.Findings, l.finding(a.text))
		}
	}
	if len(failures) == 0 {
		return r, nil
	}
	err = fmt.Errorf("%s: %w", name, errors.Join(failures...))
	if len(failures) == len(answers) {
		return filters.Report{}, err
	}
	r.Findings = append(r.Findings, mail.Finding{Name: mail.FindingFailed, Value: string(f.cfg.OnError), Text: mail.CleanText(err.Error())})
	return r, nil
}

func (l *list) finding(text string) mail.Finding {
	f := mail.Finding{Name: mail.FindingListed, Value: l.name, Score: l.Score, Text: text}
	switch {
	case l.Allow:
		f.Name, f.Score = mail.FindingAllowed, -l.Score
	case l.Reject:
		f.Name = mail.FindingDenied
	}
	return f
}

type nobody struct{}

func (nobody) Look(string, string) {}
func (nobody) ListUp(string, bool) {}
