package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"gatepost/internal/console"
	book "gatepost/internal/generations"
	"gatepost/internal/mail"
	"gatepost/rules/policy"
)

// Bounds of a managed list.
const (
	maxManaged = 1_000_000 // entries
	maxWrong   = 50        // that are named
)

// managedList finds a list that commands may fill.
func (b ruleBook) managedList(name string) (policy.ListInfo, error) {
	var known []string
	for _, l := range b.rulesInUse().Policies().Lists() {
		if l.Name == name && l.Managed {
			return l, nil
		}
		if l.Managed {
			known = append(known, l.Name)
		}
	}
	if len(known) == 0 {
		return policy.ListInfo{}, fmt.Errorf("no list is filled by commands; a rule file declares one with [list.%s], type = \"hash\" and managed = true", name)
	}
	return policy.ListInfo{}, fmt.Errorf("no list %q is filled by commands; those are %s", name, strings.Join(known, ", "))
}

// lines of a managed list, as they are in use.
func (b ruleBook) lines(is book.Generation, l policy.ListInfo) ([]string, error) {
	text, err := b.book.Text(is, policy.ManagedFile(b.boot.Rules.Files.Managed, l.Name))
	if errors.Is(err, fs.ErrNotExist) {
		return []string{}, nil
	}
	if err != nil {
		return nil, err
	}
	return slices.Collect(strings.Lines(string(text))), nil
}

// List implements console.RuleBook.
func (b ruleBook) List(name string) (console.ManagedList, error) {
	l, err := b.managedList(name)
	if err != nil {
		return console.ManagedList{}, err
	}
	is, err := b.book.Current()
	if err != nil {
		return console.ManagedList{}, err
	}
	lines, err := b.lines(is, l)
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], "\r\n")
	}
	return console.ManagedList{Name: name, Type: string(l.Type), Where: l.Where, Entries: lines}, err
}

// ChangeList implements console.RuleBook: all of it is done, or nothing.
func (b ruleBook) ChangeList(_ context.Context, who string, c console.ListChange) (out console.ListChanged, err error) {
	b.reloading.Lock()
	defer b.reloading.Unlock()
	l, err := b.managedList(c.Name)
	if err != nil {
		return out, err
	}
	if c.Type != "" && c.Type != string(l.Type) {
		return out, fmt.Errorf("the list %q has entries of type %q, not %q", c.Name, l.Type, c.Type)
	}
	is, err := b.book.Current()
	if err != nil {
		return out, err
	}
	lines, err := b.lines(is, l)
	if err != nil {
		return out, err
	}
	now := time.Now()
	entries := readManaged(l.Type, lines, now, &out)
	change(l.Type, entries, c, now, &out)
	if len(out.Wrong) > 0 || out.Added+out.Renewed+out.Dropped+out.Expired == 0 {
		return out, nil
	}
	if len(entries) > maxManaged {
		return out, fmt.Errorf("the list %q would have more than %d entries", c.Name, maxManaged)
	}
	var text strings.Builder
	for _, key := range slices.Sorted(maps.Keys(entries)) {
		text.WriteString(strings.TrimSpace(key+" "+entries[key]) + "\n")
	}
	draft := b.book.Again(is)
	if err := draft.Put(policy.ManagedFile(b.boot.Rules.Files.Managed, c.Name), strings.NewReader(text.String())); err != nil {
		return out, err
	}
	reason := c.Reason
	if reason == "" {
		reason = fmt.Sprintf("%d added, %d renewed, %d dropped, %d expired %s %s", out.Added, out.Renewed, out.Dropped, out.Expired, c.Ticket, c.Source)
	}
	out.RuleChanged, err = changed(b.gateway.change(ruleChange{
		who: who, reason: strings.TrimSpace(reason), from: "list " + c.Name, again: draft, rules: is.Rules, site: is.Site,
	}))
	return out, err
}

// readManaged are the entries of lines, without those that have ended.
func readManaged(kind policy.ListType, lines []string, now time.Time, out *console.ListChanged) map[string]string {
	entries := make(map[string]string)
	for _, line := range lines {
		e, err := policy.ReadEntry(kind, line)
		switch {
		case err != nil || e.Key == "": // it was read when it was taken
		case !e.Until.IsZero() && !now.Before(e.Until):
			out.Expired++
		default:
			entries[e.Key] = e.More
		}
	}
	return entries
}

// change does what is wanted to entries.
func change(kind policy.ListType, entries map[string]string, c console.ListChange, now time.Time, out *console.ListChanged) {
	wrong := func(value string, err error) {
		if len(out.Wrong) < maxWrong {
			out.Wrong = append(out.Wrong, fmt.Sprintf("%q: %s", value, strings.TrimPrefix(err.Error(), fmt.Sprintf("%q ", value))))
		}
	}
	out.Wrong = []string{}
	for _, a := range c.Add {
		if strings.ContainsAny(a.Value, "\r\n") {
			wrong(a.Value, errors.New("has more than one line"))
			continue
		}
		e, err := policy.ReadEntry(kind, policy.Refang(kind, a.Value))
		if err == nil && e.Key == "" {
			continue
		}
		until := a.Until
		if until.IsZero() {
			until = c.Until
		}
		if err == nil && !until.IsZero() && !now.Before(until) {
			err = errors.New("would have ended already")
		}
		if err != nil {
			wrong(a.Value, err)
			continue
		}
		if _, there := entries[e.Key]; there {
			out.Renewed++
		} else {
			out.Added++
		}
		entries[e.Key] = said(c, a, until)
	}
	for _, value := range c.Drop {
		e, err := policy.ReadEntry(kind, policy.Refang(kind, value))
		if err != nil {
			wrong(value, err)
			continue
		}
		if _, there := entries[e.Key]; there {
			out.Dropped++
			delete(entries, e.Key)
		}
	}
}

// said is what stands behind an entry.
func said(c console.ListChange, a console.ListEntry, until time.Time) string {
	var all []string
	word := func(key, value string) {
		if value = strings.Join(strings.Fields(mail.CleanText(value)), "_"); value != "" {
			all = append(all, key+"="+value)
		}
	}
	if !until.IsZero() {
		word("until", until.UTC().Format(time.RFC3339))
	}
	word("ticket", c.Ticket)
	word("source", c.Source)
	note := a.Note
	if note == "" {
		note = c.Note
	}
	if note = strings.Join(strings.Fields(mail.CleanText(note)), " "); note != "" {
		all = append(all, "note="+note)
	}
	return strings.Join(all, " ")
}
