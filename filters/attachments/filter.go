package attachments

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"gatepost/filters"
	"gatepost/internal/mail"
)

// Filter holds parts against the lists.
type Filter struct {
	cfg   Config
	lists *lists
}

// Validate reports all that is wrong with c but for the files that it names.
func (c Config) Validate() error {
	_, err := load(c, false)
	return err
}

// Load reads the files that cfg names. Its error names each mistake with its
// key, or as "path:line: what; what to do".
func Load(cfg Config) (*Filter, error) {
	set, err := load(cfg, true)
	if err != nil {
		return nil, fmt.Errorf("attachments: %w", err)
	}
	return &Filter{cfg: cfg, lists: set}, nil
}

// Step is the filter's step.
func (f *Filter) Step() filters.Step {
	return filters.Step{Name: "attachments", Filter: f, Timeout: f.cfg.Timeout, OnError: f.cfg.OnError, MaxConcurrent: 1000}
}

const (
	maxParts    = 500    // that one list may name
	maxFindings = 10_000 // of one message: recipients times parts
)

var (
	errNotTaken = errors.New("the message was not taken apart")
	errTooMany  = fmt.Errorf("more than %d findings", maxFindings)
)

// Check compares what is in the message with all lists.
func (f *Filter) Check(ctx context.Context, tx *mail.Transaction) (filters.Report, error) {
	if tx.Inside == nil {
		return filters.Report{}, errNotTaken
	}
	parts := make([]*seen, len(tx.Inside.Parts))
	for i, p := range tx.Inside.Parts {
		parts[i] = look(p)
	}
	c := &check{tx: tx, parts: parts}
	for i := range f.lists.deny {
		l := &f.lists.deny[i]
		c.list(&l.scope, func(p *seen) match { return l.match(p) })
		if ctx.Err() != nil {
			return filters.Report{}, ctx.Err()
		}
	}
	c.allowed(f.lists.allow)
	if len(c.findings) > maxFindings {
		return filters.Report{}, errTooMany
	}
	return filters.Report{Findings: c.findings}, ctx.Err()
}

// check is one message on its way through the lists.
type check struct {
	tx       *mail.Transaction
	parts    []*seen
	findings []mail.Finding
}

// list notes what one list does not want, for those whom it is for.
func (c *check) list(s *scope, of func(*seen) match) {
	whose := c.whose(s.has)
	if len(whose) == 0 {
		return
	}
	found := 0
	for _, p := range c.parts {
		m := of(p)
		if m.class == "" {
			continue
		}
		if found++; found > maxParts {
			c.note(s, whose, nil, match{m.class, fmt.Sprintf("more than %d parts", maxParts)})
			return
		}
		c.note(s, whose, p, m)
	}
}

// whose are the recipients whom has names: the zero address alone for all.
func (c *check) whose(has func(mail.Address) bool) []mail.Address {
	all := c.tx.Envelope.Recipients
	if len(all) == 0 { // a message on the command line
		all = []mail.Path{{}}
	}
	var some []mail.Address
	for _, r := range all {
		if has(r.Address) {
			some = append(some, r.Address)
		}
	}
	if len(some) == len(all) {
		return []mail.Address{{}}
	}
	return some
}

// allowed holds the parts against the allow lists of each recipient. Those with
// the same lists are looked at together; where several lists are somebody's,
// what one of them allows passes.
func (c *check) allowed(all []allowList) {
	if len(all) == 0 {
		return
	}
	byLists := make(map[string][]mail.Address)
	var order []string
	for _, r := range c.tx.Envelope.Recipients {
		key := listsOf(all, r.Address)
		if byLists[key] == nil {
			order = append(order, key)
		}
		byLists[key] = append(byLists[key], r.Address)
	}
	if len(order) == 0 { // a message without recipients, on the command line
		order = []string{listsOf(all, mail.Address{})}
		byLists[order[0]] = []mail.Address{{}}
	}
	for _, key := range order {
		whose := byLists[key]
		if len(order) == 1 {
			whose = []mail.Address{{}}
		}
		c.anyAllows(all, key, whose)
	}
}

// listsOf names the lists of a recipient, one letter for each: "y" or "n".
func listsOf(all []allowList, to mail.Address) string {
	var b strings.Builder
	for i := range all {
		if all[i].has(to) {
			b.WriteByte('y')
		} else {
			b.WriteByte('n')
		}
	}
	return b.String()
}

// anyAllows notes the parts that none of the chosen lists allows. The first of
// them says why.
func (c *check) anyAllows(all []allowList, chosen string, whose []mail.Address) {
	first := strings.IndexByte(chosen, 'y')
	if first < 0 {
		return
	}
	before := len(c.findings)
	for _, p := range c.parts {
		var why match
		for i := range all {
			if chosen[i] != 'y' {
				continue
			}
			m := all[i].match(p)
			if m.class == "" {
				why = match{}
				break
			}
			if why.class == "" {
				why = m
			}
		}
		if why.class != "" {
			c.note(&all[first].scope, whose, p, why)
		}
		if len(c.findings)-before > maxFindings {
			return
		}
	}
	if unseen := c.tx.Inside.Unseen; len(unseen) > 0 {
		c.note(&all[first].scope, whose, nil, match{mail.AttachmentUnseen, "could not be looked into: " + unseen[0]})
	}
}

// note adds a finding for each of those whom it is about. Without a part it is
// about the message.
func (c *check) note(s *scope, whose []mail.Address, p *seen, m match) {
	f := mail.Finding{Name: mail.FindingAttachment, Value: m.class, List: s.name, Text: m.why}
	if p != nil {
		f.Part, f.Text = p.Path, Title(p.Part)+" "+m.why
	}
	for _, a := range whose {
		if len(c.findings) > maxFindings {
			return
		}
		f.Rcpt = a
		c.findings = append(c.findings, f)
	}
}

const maxTitle = 80 // runes of a name that people are told

// Title is what people are told of a part: its name in quotes, and in which
// archive it lies.
func Title(p mail.Part) string {
	name := "a part without a name"
	if len(p.Names) > 0 {
		name = `"` + clean(p.Names[0]) + `"`
	}
	place, inner, ok := strings.Cut(p.Path, "/")
	if !ok || place == "" || p.Depth == 0 {
		return name
	}
	if around := strings.Split(inner, "/"); len(around) > 1 {
		return name + ` in "` + clean(around[0]) + `"`
	}
	return name + " in an archive"
}
