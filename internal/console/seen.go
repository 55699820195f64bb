package console

import (
	"context"
	"slices"
	"strings"

	"gatepost/internal/history"
)

// What is recorded of mail for several people is for each of their helpdesks only
// what concerns its own.

// seen is what somebody may see of a record; ok is false for nothing.
func seen(id Identity, r history.Record) (_ history.Record, ok bool) {
	if !id.SeesAll() {
		own := func(all []history.Recipient) []history.Recipient {
			return slices.DeleteFunc(slices.Clone(all), func(p history.Recipient) bool { return !id.SeesRecipient(p.Address) })
		}
		if r.Recipients = own(r.Recipients); len(r.Recipients) == 0 {
			return r, false
		}
		r.Omitted = 0
		r.Findings = slices.DeleteFunc(slices.Clone(r.Findings), func(f history.Finding) bool { return id.hides(f.Rcpt) })
		r.Rules = slices.DeleteFunc(slices.Clone(r.Rules), func(h history.Rule) bool { return id.hides(h.Rcpt) })
		id.hideRecord(&r)
	}
	if !id.Role.May(ViewContent) {
		r.Header = nil
		if r.Inside != nil {
			inside := *r.Inside
			inside.Text = ""
			r.Inside = &inside
		}
	}
	return r, true
}

// hides reports whether what is said of a recipient is not for this one; "" is
// nobody in particular.
func (id Identity) hides(recipient string) bool {
	return recipient != "" && !id.SeesRecipient(recipient)
}

// seenLife is what somebody may see of a message.
func seenLife(id Identity, l history.Life) (_ history.Life, ok bool) {
	visible := []history.Record{}
	for _, one := range l.Records {
		if one, ok := seen(id, one); ok {
			visible = append(visible, one)
		}
	}
	if id.SeesAll() {
		l.Records = visible
		return l, true
	}
	if len(visible) == 0 {
		return l, false
	}
	l.Records = visible
	l.Events = slices.DeleteFunc(slices.Clone(l.Events), func(e history.Event) bool { return id.hides(e.Rcpt) })
	sender := strings.ToLower(visible[0].Sender.Address)
	for i := range l.Events {
		l.Events[i].Text = id.hide(l.Events[i].Text, sender)
	}
	return l, true
}

// mayAskFor refuses to look for other people's recipients: that something was
// found would tell that they got it.
func mayAskFor(id Identity, q history.Query) bool {
	return id.SeesAll() || q.To == "" || id.SeesRecipient(asAddress(q.To))
}

// asAddress makes an address of "@domain", and of "@.domain" one below it.
func asAddress(s string) string {
	if domain, ok := strings.CutPrefix(s, "@"); ok {
		return "x@" + strings.TrimPrefix(domain, ".")
	}
	return s
}

// Bounds of a search for somebody who sees little of what is there.
const (
	usualPage = 50
	mostPages = 20
)

// searchFor is a page of what somebody may see. Where that is little, more is
// looked through for it, to an end: the page may then be short, and not the last.
func searchFor(ctx context.Context, h history.Finder, id Identity, q history.Query) (history.Page, error) {
	if !mayAskFor(id, q) {
		return history.Page{Records: []history.Record{}}, nil
	}
	if !id.SeesAll() && q.To == "" && len(id.Domains) == 1 {
		q.To = "@" + id.Domains[0]
	}
	want := q.Limit
	if want <= 0 {
		want = usualPage
	}
	out := history.Page{Records: []history.Record{}}
	for range mostPages {
		page, err := h.Search(ctx, q)
		if err != nil {
			return out, err
		}
		for _, one := range page.Records {
			if one, ok := seen(id, one); ok {
				out.Records = append(out.Records, one)
			}
		}
		out.Next, q.After = page.Next, page.Next
		if q.Limit = want - len(out.Records); page.Next == "" || q.Limit <= 0 {
			break
		}
	}
	return out, nil
}
