package web

import (
	"context"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"gatepost/internal/console"
	"gatepost/internal/history"
	"gatepost/internal/mail"
)

func trackingPage() page {
	return page{path: "/tracking", title: "Tracking", nav: true, needs: console.ViewMail, file: "tracking.html", load: (*Server).tracking}
}

// trackingView is what a search found.
type trackingView struct {
	Words   string // as they were typed
	Records []history.Record
	Older   string // the next page; "" when there is none
	Asked   bool
	Unknown []string // words that mean nothing here
}

func (s *Server) tracking(r *http.Request) (any, error) {
	v := trackingView{Words: strings.TrimSpace(r.FormValue("q"))}
	queries, unknown := parseSearch(v.Words, time.Now())
	if v.Unknown = unknown; len(unknown) > 0 {
		return v, nil
	}
	v.Asked = v.Words != ""
	if id := v.Words; mail.ValidID(id) {
		queries = nil
		life, err := s.api.History().Life(r.Context(), id)
		if err == nil {
			v.Records = life.Records
		}
	}
	var err error
	after := r.FormValue("after")
	for i := range queries {
		q := &queries[i]
		q.Limit, q.Descending = perPage, true
		if before, ok := timeOfPage(after); !ok {
			q.After = after
		} else if q.Until.IsZero() || before.Before(q.Until) {
			q.Until = before
		}
	}
	v.Records, v.Older, err = s.search(r.Context(), queries, v.Records)
	if v.Older != "" {
		v.Older = "/tracking?" + url.Values{"q": {v.Words}, "after": {v.Older}}.Encode()
	}
	return v, err
}

// search merges what several queries find, the newest first, each once.
func (s *Server) search(ctx context.Context, queries []history.Query, found []history.Record) (_ []history.Record, next string, err error) {
	for _, q := range queries {
		p, err := s.api.History().Search(ctx, q)
		if err != nil {
			return nil, "", err
		}
		found = append(found, p.Records...)
		if len(queries) == 1 {
			next = p.Next
		}
	}
	slices.SortStableFunc(found, func(a, b history.Record) int { return b.Time.Compare(a.Time) })
	found = slices.CompactFunc(found, func(a, b history.Record) bool { return a.ID == b.ID && a.Time.Equal(b.Time) })
	if len(queries) > 1 && len(found) > perPage {
		found = found[:perPage]
		next = pageTime + found[perPage-1].Time.UTC().Format(time.RFC3339Nano)
	}
	return found, next, nil
}

// pageTime begins the name of a page of several queries: it has what is older than
// a time.
const pageTime = "before:"

func timeOfPage(name string) (t time.Time, ok bool) {
	text, ok := strings.CutPrefix(name, pageTime)
	if !ok {
		return t, false
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	return t, err == nil
}

// parseSearch reads the words of the search box: "from:x to:y subject:z is:held",
// or one thing alone, which is looked for wherever it may stand. Words that can't
// be right are returned with why.
func parseSearch(words string, now time.Time) (queries []history.Query, wrong []string) {
	q := history.Query{}
	var free []string
	for _, word := range fields(words) {
		key, value, ok := strings.Cut(word, ":")
		set := searchWords[strings.ToLower(key)]
		if !ok || set == nil {
			free = append(free, word)
			continue
		}
		if why := set(&q, value, now); why != "" {
			wrong = append(wrong, word+": "+why)
		}
	}
	return guess(q, strings.Join(free, " ")), wrong
}

// searchWords are the keys of the search box.
var searchWords = map[string]func(q *history.Query, value string, now time.Time) (wrong string){
	"from":    func(q *history.Query, v string, _ time.Time) string { q.From = v; return "" },
	"to":      func(q *history.Query, v string, _ time.Time) string { q.To = v; return "" },
	"domain":  func(q *history.Query, v string, _ time.Time) string { q.Domain = v; return "" },
	"subject": func(q *history.Query, v string, _ time.Time) string { q.Subject = v; return "" },
	"rule":    func(q *history.Query, v string, _ time.Time) string { q.Rule = v; return "" },
	"virus":   func(q *history.Query, v string, _ time.Time) string { q.Virus = v; return "" },
	"hash":    func(q *history.Query, v string, _ time.Time) string { q.SHA256 = strings.ToLower(v); return "" },
	"host":    func(q *history.Query, v string, _ time.Time) string { q.Host = strings.ToLower(v); return "" },
	"msgid":   func(q *history.Query, v string, _ time.Time) string { q.MessageID = v; return "" },
	"ip":      setClient,
	"is":      setAction,
	"since": func(q *history.Query, v string, now time.Time) (wrong string) {
		q.Since, wrong = when(v, now)
		return wrong
	},
	"until": func(q *history.Query, v string, now time.Time) (wrong string) {
		q.Until, wrong = when(v, now)
		return wrong
	},
}

func setClient(q *history.Query, value string, _ time.Time) (wrong string) {
	p, err := parsePrefix(value)
	if err != nil {
		return "is no address; write 192.0.2.1 or 192.0.2.0/24"
	}
	q.Client = p
	return ""
}

// actionWords are what helpdesks call the actions.
var actionWords = map[string]mail.Action{
	"accepted": mail.Accept, "delivered": mail.Accept, "clean": mail.Accept, "held": mail.Quarantine, "quarantined": mail.Quarantine,
	"refused": mail.Reject, "put-off": mail.TempFail, "rejected": mail.Reject, "dropped": mail.Discard, "discarded": mail.Discard, "later": mail.TempFail, "deferred": mail.TempFail,
}

func setAction(q *history.Query, value string, _ time.Time) (wrong string) {
	for a := mail.Accept; a <= mail.Reject; a++ {
		if a.String() == value {
			q.Action = value
			return ""
		}
	}
	a, ok := actionWords[strings.ToLower(value)]
	if !ok {
		return "is nothing that mail can be; write accepted, held, refused, dropped or later"
	}
	q.Action = a.String()
	return ""
}

// when reads "2026-11-21", "2026-11-21T10:00", "24h" or "7d", which are ago.
func when(value string, now time.Time) (t time.Time, wrong string) {
	for _, layout := range []string{time.DateOnly, "2006-01-02T15:04", "2006-01-02T15:04:05"} {
		if t, err := time.ParseInLocation(layout, value, now.Location()); err == nil {
			return t, ""
		}
	}
	unit := time.Duration(1)
	if days, ok := strings.CutSuffix(value, "d"); ok {
		value, unit = days+"h", 24
	}
	d, err := time.ParseDuration(value)
	if err != nil || d < 0 || d > 100*365*24*time.Hour {
		return t, "is no time; write 2026-11-21, 2026-11-21T10:00, 24h or 7d"
	}
	return now.Add(-d * unit), ""
}

// fields splits words; quotes keep blanks in one.
func fields(s string) (all []string) {
	var b strings.Builder
	quoted := false
	for _, r := range s + " " {
		switch {
		case r == '"':
			quoted = !quoted
		case unicode.IsSpace(r) && !quoted:
			if b.Len() > 0 {
				all = append(all, b.String())
			}
			b.Reset()
		default:
			b.WriteRune(r)
		}
	}
	if rest := strings.TrimSpace(b.String()); rest != "" { // a quote without its end
		all = append(all, rest)
	}
	return all
}

// guess finds out what a word without a key is.
func guess(q history.Query, free string) []history.Query {
	with := func(change func(*history.Query)) history.Query {
		other := q
		change(&other)
		return other
	}
	prefix, err := parsePrefix(free)
	switch {
	case free == "":
		return []history.Query{q}
	case err == nil:
		return []history.Query{with(func(q *history.Query) { q.Client = prefix })}
	case strings.HasPrefix(free, "<") && strings.Contains(free, "@"):
		return []history.Query{with(func(q *history.Query) { q.MessageID = free })}
	case strings.Contains(free, "@") && !strings.Contains(free, " "):
		return []history.Query{
			with(func(q *history.Query) { q.From = free }), with(func(q *history.Query) { q.To = free }),
			with(func(q *history.Query) { q.MessageID = "<" + free + ">" }),
		}
	}
	subject := with(func(q *history.Query) { q.Subject = free })
	if _, err := mail.ParseDomain(free); err == nil && strings.Contains(free, ".") {
		return []history.Query{with(func(q *history.Query) { q.From = "@" + free }), with(func(q *history.Query) { q.To = "@" + free }), subject}
	}
	return []history.Query{subject}
}

func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	return netip.ParsePrefix(s)
}
