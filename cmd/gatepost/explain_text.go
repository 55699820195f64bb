package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"gatepost/internal/history"
	"gatepost/internal/mail"
)

const stampLayout = "2006-01-02 15:04:05.000"

// printLife tells a message's life in plain words. All values go through cell
// or line: whoever wrote them must not reach the terminal.
func (a *app) printLife(l history.Life) error {
	w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	t := &teller{w: w}
	for i := range l.Records {
		t.record(&l.Records[i])
	}
	t.events(l)
	if err := w.Flush(); err != nil {
		return exit(exitSystem, "writing: %w", err)
	}
	return nil
}

type teller struct{ w *tabwriter.Writer }

func (t *teller) fact(name, value string) {
	if value != "" {
		fmt.Fprintf(t.w, "%s:\t%s\n", name, line(value))
	}
}

// head begins a part; the columns of another are no concern of it.
func (t *teller) head(format string, args ...any) {
	_ = t.w.Flush() // the last one tells
	fmt.Fprintf(t.w, "\n%s\n", line(fmt.Sprintf(format, args...)))
}

func (t *teller) record(r *history.Record) {
	if r.Again {
		t.head("Judged again")
	}
	t.fact("ID", r.ID)
	t.fact("Time", r.Time.Local().Format(stampLayout))
	t.fact("Client", clientText(r))
	t.fact("Sender", cmp.Or(r.Sender.Address, "<>")+argsText(r.Sender.Args))
	t.fact("From", r.From)
	t.fact("To", r.To)
	t.fact("Subject", r.Subject)
	t.fact("Message-ID", r.MessageID)
	if r.Size > 0 {
		t.fact("Size", fmt.Sprintf("%d bytes", r.Size))
	}
	t.decision(r)
	t.recipients(r)
	t.filters(r)
	t.findings(r)
	t.rules(r)
	t.list("Changes", r.Edits)
	t.inside(r)
	var gaps []string
	for _, g := range r.Unknown() {
		gaps = append(gaps, string(g))
	}
	t.list("Not recorded", gaps)
}

func clientText(r *history.Record) string {
	s := &r.Session
	text := cmp.Or(s.Name, "unknown")
	if s.Client.IsValid() {
		text += "[" + s.Client.Addr().String() + "]"
	}
	if s.Helo != "" {
		text += ", HELO " + s.Helo
	}
	if s.User != "" {
		text += ", user " + s.User
	}
	if s.TLS != nil {
		text += ", " + s.TLS.Version
	}
	return text + ", by " + s.Via + cmp.Or(" on "+s.Listener, "")
}

func argsText(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return " " + strings.Join(args, " ")
}

func (t *teller) decision(r *history.Record) {
	when := "for the message"
	if r.Stage != mail.StageMessage.String() {
		when = "at " + strings.ToUpper(r.Stage)
	}
	t.head("Decided %s: %s", when, verdictName(actionNamed(r.Action)))
	t.fact("Reply", r.Reply)
	t.fact("Reason", r.Reason)
	if r.Score != 0 {
		t.fact("Score", fmt.Sprintf("%.1f", r.Score))
	}
	if r.Took > 0 {
		t.fact("After", short(r.Took))
	}
	t.fact("Rules of", r.Generation)
}

// actionNamed is the reverse of mail.Action's String.
func actionNamed(name string) mail.Action {
	for a := mail.Continue; a < mail.Reject; a++ {
		if a.String() == name {
			return a
		}
	}
	return mail.Reject
}

func (t *teller) recipients(r *history.Record) {
	if len(r.Recipients) == 0 {
		return
	}
	t.head("Recipients")
	for _, p := range r.Recipients {
		action := "not decided"
		if p.Action != "" {
			action = verdictName(actionNamed(p.Action))
		}
		if p.Stage != "" {
			action += " at " + strings.ToUpper(p.Stage)
		}
		why := p.Reply
		if p.Reason != "" {
			why = strings.TrimSpace(why + " (" + p.Reason + ")")
		}
		fmt.Fprintf(t.w, "  %s\t%s\t%s\n", cell(p.Address), cell(action), line(why))
		for _, e := range p.Edits {
			fmt.Fprintf(t.w, "  \t%s\n", cell(e))
		}
	}
	if r.Omitted > 0 {
		fmt.Fprintf(t.w, "  and %d more\n", r.Omitted)
	}
}

const bars = 30 // characters of the longest time

// filters shows who was asked when, on one scale.
func (t *teller) filters(r *history.Record) {
	if len(r.Asked) == 0 {
		return
	}
	asked := slices.Clone(r.Asked)
	slices.SortStableFunc(asked, func(a, b history.Asked) int { return cmp.Compare(a.Start, b.Start) })
	begin, end := asked[0].Start, time.Duration(0)
	for _, q := range asked {
		end = max(end, q.Start+q.Took)
	}
	scale := max(end-begin, time.Microsecond)
	t.head("Filters, within %s", short(scale))
	for _, q := range asked {
		from := min(int(int64(q.Start-begin)*bars/int64(scale)), bars-1)
		width := min(max(int(int64(q.Took)*bars/int64(scale)), 1), bars-from)
		bar := strings.Repeat(" ", from) + strings.Repeat("#", width) + strings.Repeat(" ", bars-from-width)
		result := q.Result
		if q.Shadow {
			result += " (shadow)"
		}
		fmt.Fprintf(t.w, "  %s\t%s\t%s\t%s\t|%s|\n", cell(q.Filter), cell(q.Stage), cell(result), short(q.Took), bar)
	}
}

func (t *teller) findings(r *history.Record) {
	if len(r.Findings) == 0 {
		return
	}
	t.head("Findings")
	var long []history.Finding
	for _, f := range r.Findings {
		if strings.Contains(f.Text, "\n") && f.Score == 0 && f.Rcpt == "" {
			long = append(long, f)
			continue
		}
		score := ""
		if f.Score != 0 {
			score = fmt.Sprintf("%+.1f", f.Score)
		}
		text := f.Text
		if f.Rcpt != "" {
			text = strings.TrimSpace(text + " for " + f.Rcpt)
		}
		fmt.Fprintf(t.w, "  %s\t%s\t%s\t%s\t%s\n", cell(f.Filter), cell(f.Name), cell(f.Value), cell(score), line(text))
	}
	for _, f := range long { // each line behind a bar, so that nobody writes a part of ours
		t.head("What %s says: %s %s", f.Filter, f.Name, f.Value)
		for text := range strings.Lines(f.Text) {
			fmt.Fprintf(t.w, "  | %s\n", strings.ReplaceAll(strings.TrimRight(visible(text), "\r\n"), "\t", " "))
		}
	}
}

func (t *teller) rules(r *history.Record) {
	if len(r.Rules) == 0 {
		return
	}
	t.head("Rules that matched")
	for _, h := range r.Rules {
		did := h.Did
		if h.Observe {
			did = "only watches: " + did
		}
		if h.Rcpt != "" {
			did += " for " + h.Rcpt
		}
		fmt.Fprintf(t.w, "  %s\t%s\t%s\n", cell(h.Rule), cell(h.Where), cell(did))
	}
}

func (t *teller) list(name string, values []string) {
	if len(values) == 0 {
		return
	}
	t.head("%s", name)
	for _, v := range values {
		fmt.Fprintf(t.w, "  %s\n", line(v))
	}
}

func (t *teller) inside(r *history.Record) {
	if r.Inside == nil {
		return
	}
	if len(r.Inside.Parts) > 0 {
		t.head("Parts")
	}
	for _, p := range r.Inside.Parts {
		fmt.Fprintf(t.w, "  %s\t%s\t%s\t%d bytes\t%s\n", cell(p.Path), cell(strings.Join(p.Names, " or ")), cell(cmp.Or(p.Detected, p.Declared)), p.Size, cell(p.SHA256))
	}
	var links []string
	for _, u := range r.Inside.URLs {
		links = append(links, u.Text)
	}
	t.list("Links", links)
	t.list("Ambiguous", r.Inside.Ambiguous)
	t.list("Not looked into", r.Inside.Unseen)
}

func (t *teller) events(l history.Life) {
	if len(l.Events) == 0 {
		return
	}
	t.head("What became of it")
	for _, e := range l.Events {
		text := eventText(e)
		if len(l.Records) == 0 || e.ID != l.Records[0].ID { // a part of it, or a notification
			text += " [" + e.ID + "]"
		}
		fmt.Fprintf(t.w, "  %s\t%s\n", e.Time.Local().Format(stampLayout), cell(text))
	}
}

// eventText tells an event in words.
func eventText(e history.Event) string {
	switch e.What {
	case mail.EventAttempt:
		verb := map[string]string{"sent": "delivered", "bounced": "failed", "deferred": "put off"}[e.Status]
		return fmt.Sprintf("%s: %s by %s: %s", e.Rcpt, cmp.Or(verb, e.Status), cmp.Or(e.Remote, "us"), e.Text)
	case mail.EventNotified:
		return "the sender is told: " + e.Text
	case mail.EventSilent:
		return "the sender is not told: " + e.Text
	case mail.EventMoved:
		return "moved to the lane " + e.Text
	case mail.EventAsked:
		return e.By + " asks: " + e.Text
	case mail.EventHeld, mail.EventReleased, mail.EventRemoved:
		if e.Text != "" {
			return string(e.What) + ": " + e.Text
		}
	case mail.EventJudged:
		return "judged again: " + e.Text
	}
	return strings.TrimSpace(string(e.What) + " " + e.Text)
}
