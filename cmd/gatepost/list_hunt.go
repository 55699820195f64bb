package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"gatepost/internal/history"
	"gatepost/internal/mail"
	"gatepost/rules/policy"
)

// huntFlags is how to hunt.
type huntFlags struct {
	since, list string
	recall      bool
}

func (a *app) huntCommand() *cobra.Command {
	f := huntFlags{since: "7d"}
	c := &cobra.Command{
		Use:   "hunt (--list NAME | ENTRY…)",
		Short: "Find delivered mail that matches what is known only now",
		Long: `Searches the history for messages that somebody got, and that have something of
ENTRYs: a SHA-256 of an attachment, the host of a link (with all below it), a sender
(user@example.com, @example.com), a client (address or network), or
subject:WORDS. --list takes the entries of a list that "gatepost list" fills.

--recall prints who got them, one recipient a line, for whoever can take them out of
mailboxes. Exits with 1 when something was found.`,
		Example: `  gatepost hunt --since 30d evil[.]example 275a021bbfb6489e54d471899f7db9d1663fc695ec2fe2a2c4538aabf651fd0f
  gatepost hunt --list bad-hashes --recall`,
		RunE: func(c *cobra.Command, args []string) error { return a.hunt(c.Context(), args, f) },
	}
	c.Flags().StringVar(&f.since, "since", f.since, "not before this `time`")
	c.Flags().StringVar(&f.list, "list", "", "the `name` of a list")
	c.Flags().BoolVar(&f.recall, "recall", false, "print recipients: recipient, Message-ID, time, sender, subject")
	return c
}

// prey is what is hunted.
type prey struct {
	hashes  map[string]bool
	hosts   map[string]bool
	senders map[string]bool // addresses, and domains with @
	nets    []netip.Prefix
	words   []string // of subjects, in lower case
}

func (p *prey) empty() bool {
	return len(p.hashes)+len(p.hosts)+len(p.senders)+len(p.nets)+len(p.words) == 0
}

// add takes an entry of a list.
func (p *prey) add(kind policy.ListType, text string) error {
	e, err := policy.ReadEntry(kind, text)
	if err != nil {
		return err
	}
	switch kind {
	case policy.ListHash:
		p.hashes[e.Key] = true
	case policy.ListHost, policy.ListDomain:
		p.hosts[strings.TrimPrefix(e.Key, ".")] = true
	case policy.ListAddress:
		p.senders[e.Key] = true
	case policy.ListCIDR:
		net, err := netip.ParsePrefix(e.Key)
		if err != nil {
			return err
		}
		p.nets = append(p.nets, net)
	default:
		return fmt.Errorf("entries of type %q can't be hunted", string(kind))
	}
	return nil
}

// guess adds an entry by its form.
func (p *prey) guess(text string) error {
	if words, ok := strings.CutPrefix(text, "subject:"); ok && strings.TrimSpace(words) != "" {
		p.words = append(p.words, strings.ToLower(strings.TrimSpace(words)))
		return nil
	}
	for _, kind := range []policy.ListType{policy.ListHash, policy.ListCIDR, policy.ListAddress, policy.ListHost} {
		value := policy.Refang(kind, text)
		if kind == policy.ListHost && strings.Contains(value, "@") {
			continue
		}
		if e, err := policy.ReadEntry(kind, value); err == nil && e.Key != "" {
			return p.add(kind, value)
		}
	}
	return exit(exitUsage, "%q is no hash, address, network, sender or host", text)
}

// found says what of a record is hunted; "" nothing.
func (p *prey) found(r *history.Record) string {
	if r.Inside != nil {
		for _, part := range r.Inside.Parts {
			if p.hashes[part.SHA256] {
				return "attachment " + part.SHA256
			}
		}
		for _, u := range r.Inside.URLs {
			if host := p.host(u.Host); host != "" {
				return "link to " + u.Host
			}
		}
	}
	if a, err := mail.ParseAddress(r.Sender.Address, true); err == nil && !a.IsNull() {
		key := strings.ToLower(a.Local) + "@" + strings.ToLower(a.ASCIIDomain())
		if p.senders[key] || p.senders["@"+strings.ToLower(a.ASCIIDomain())] || p.senders[strings.ToLower(a.Local)+"@"] {
			return "sender " + r.Sender.Address
		}
	}
	if r.Session.Client.IsValid() {
		ip := r.Session.Client.Addr().Unmap().WithZone("")
		if slices.ContainsFunc(p.nets, func(n netip.Prefix) bool { return n.Contains(ip) }) {
			return "client " + ip.String()
		}
	}
	subject := strings.ToLower(r.Subject)
	if slices.ContainsFunc(p.words, func(w string) bool { return strings.Contains(subject, w) }) {
		return "subject"
	}
	return ""
}

// host is a hunted host that a host is, or is below.
func (p *prey) host(name string) string {
	for name = strings.ToLower(name); name != ""; {
		if p.hosts[name] {
			return name
		}
		_, above, ok := strings.Cut(name, ".")
		if !ok {
			return ""
		}
		name = above
	}
	return ""
}

// bounty is a message that was found.
type bounty struct {
	ID         string    `json:"id"`
	Time       time.Time `json:"time"`
	MessageID  string    `json:"message_id"`
	Client     string    `json:"client"`
	From       string    `json:"from"`
	Recipients []string  `json:"recipients"` // who got it
	Subject    string    `json:"subject"`
	Why        string    `json:"why"`
}

func (a *app) hunt(ctx context.Context, args []string, f huntFlags) error {
	p := &prey{hashes: map[string]bool{}, hosts: map[string]bool{}, senders: map[string]bool{}}
	for _, text := range args {
		if err := p.guess(text); err != nil {
			return err
		}
	}
	if f.list != "" {
		if err := a.huntList(ctx, f.list, p); err != nil {
			return err
		}
	}
	if p.empty() {
		return exit(exitUsage, "what is to be hunted? Give entries, or --list with one that has some")
	}
	since, err := moment("since", f.since, time.Now())
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	if !a.json && !f.recall {
		fmt.Fprintln(w, "TIME\tID\tCLIENT\tFROM\tTO\tSUBJECT\tWHY")
	}
	n, m := 0, a.meter("records", 0)
	err = a.withHistory(func(ctx context.Context, h history.Finder) error {
		return h.Each(ctx, history.Query{Since: since, Stage: mail.StageMessage.String()}, func(r history.Record) error {
			m.Add(1)
			why := p.found(&r)
			if why == "" {
				return nil
			}
			b := newBounty(&r, why)
			if len(b.Recipients) == 0 {
				return nil
			}
			n++
			return a.printBounty(w, b, f.recall)
		})
	})
	m.End()
	if err = errors.Join(err, because(w.Flush())); err != nil {
		return err
	}
	if n > 0 {
		return silent(1)
	}
	return nil
}

// huntList takes the entries of a managed list.
func (a *app) huntList(ctx context.Context, name string, p *prey) error {
	client, err := a.ruleClient()
	if err != nil {
		return err
	}
	l, err := client.ManagedList(ctx, name)
	if err != nil {
		return ruleError(err)
	}
	for _, entry := range l.Entries {
		if err := p.add(policy.ListType(l.Type), entry); err != nil {
			return exit(exitData, "list %s: %w", name, err)
		}
	}
	return nil
}

func newBounty(r *history.Record, why string) bounty {
	b := bounty{ID: r.ID, Time: r.Time, MessageID: r.MessageID, From: orNull(r.Sender.Address), Subject: r.Subject, Why: why}
	if r.Session.Client.IsValid() {
		b.Client = r.Session.Client.Addr().String()
	}
	for _, p := range r.Recipients {
		if p.Stage == "" && actionNamed(p.Action).Delivers() {
			b.Recipients = append(b.Recipients, p.Address)
		}
	}
	return b
}

func (a *app) printBounty(w *tabwriter.Writer, b bounty, recall bool) (err error) {
	switch {
	case a.json:
		err = json.NewEncoder(a.out).Encode(b)
	case recall:
		for _, to := range b.Recipients {
			_, err = fmt.Fprintf(a.out, "%s\t%s\t%s\t%s\t%s\n", line(to), cell(b.MessageID), b.Time.UTC().Format(time.RFC3339), line(b.From), cell(b.Subject))
		}
	default:
		to := fits(b.Recipients[0], 40)
		if len(b.Recipients) > 1 {
			to += fmt.Sprintf(" +%d", len(b.Recipients)-1)
		}
		_, err = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", b.Time.Local().Format(time.DateTime), b.ID, cell(b.Client), fits(b.From, 40), to, fits(b.Subject, 40), fits(b.Why, 60))
	}
	return because(err)
}
