package policy

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"gatepost/internal/mail"
)

// Entry is a line of a list.
type Entry struct {
	Key   string // the form that is looked for
	Until time.Time
	More  string // what is said of it, as it stands in the line
}

// ReadEntry reads a line; one without an entry has no Key.
func ReadEntry(kind ListType, line string) (Entry, error) {
	text, more := splitEntry(line)
	if text == "" {
		return Entry{}, nil
	}
	l := newList("", kind)
	l.files = []string{""}
	r, expired, at := &report{}, 0, spot{line: 1}
	if more != "" && !l.annotate(at, more, time.Time{}, Problem{}, &expired, r) && len(r.problems) > 0 {
		return Entry{}, fmt.Errorf("%s; %s", r.problems[0].What, r.problems[0].Do)
	}
	if err := l.add(text, at); err != nil {
		return Entry{}, err
	}
	e := Entry{Key: text, Until: l.until[at], More: more}
	for key := range l.exact {
		e.Key = key
	}
	for net := range l.nets {
		e.Key = net.String()
	}
	return e, nil
}

// Refang makes an entry of what reports about attacks write, so that nobody
// clicks on it: hxxp://www.example[.]com/x.
func Refang(kind ListType, text string) string {
	text = strings.Trim(strings.TrimSpace(text), "<>\"'")
	text = strings.NewReplacer("[.]", ".", "(.)", ".", "{.}", ".", "[dot]", ".", "[:]", ":", "[@]", "@", "[at]", "@", "[://]", "://").Replace(text)
	if scheme, rest, ok := strings.Cut(text, "://"); ok && len(scheme) < 10 {
		text = strings.ReplaceAll(strings.ToLower(scheme), "xx", "tt") + "://" + rest
	}
	switch kind {
	case ListHost, ListDomain:
		if u, err := url.Parse(text); err == nil && u.Host != "" {
			return u.Hostname()
		}
		text, _, _ = strings.Cut(text, "/")
		return strings.TrimSuffix(text, ".")
	case ListAddress:
		return strings.TrimPrefix(text, "mailto:")
	case ListCIDR:
		if p, err := netip.ParsePrefix(text); err == nil {
			return p.Masked().String()
		}
	}
	return mail.CleanText(text)
}
