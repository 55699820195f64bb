package queue

import (
	"iter"
	"regexp"
	"slices"
	"strings"
	"time"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// Filter chooses messages; its zero value chooses all. What is set must hold.
// Recipients count that the message still waits for, not those that have it.
type Filter struct {
	IDs        []string // of these, in this order; nil: of all
	Lanes      []Lane   // one of them
	Sender     string   // an address, or "@domain"; in any case
	NullSender bool
	Recipient  string // an address, or "@domain"; in any case
	Domain     string // of a recipient; ".domain" stands for those below it
	Route      string // destination of a recipient, as Deliverer.Route names it; or what that has before a space
	Listener   string
	User       string          // who authenticated
	Older      time.Duration   // received at least so long ago
	Younger    time.Duration   // received less than so long ago
	SizeAbove  int64           // bytes
	SizeBelow  int64           // bytes; 0 is no limit
	ScoreAbove *float64        // nil is no limit
	ScoreBelow *float64        // nil is no limit
	Subject    string          // is in the subject, in any case
	Kinds      []mail.HeldKind // held for one of these
	Reason     *regexp.Regexp  // matches the reason of hold or a recipient's last reply
}

// List iterates over the messages that f chooses, as the spool knows them: the
// oldest first, or those of Filter.IDs in their order.
func (q *Queue) List(f Filter) iter.Seq[Info] {
	return func(yield func(Info) bool) {
		now := q.now()
		for m := range q.candidates(f) {
			if f.ofMessage(m) && f.ofAge(now.Sub(m.Received)) && f.ofReason(m) && q.ofRecipients(f, m) && !yield(q.info(m)) {
				return
			}
		}
	}
}

// candidates are the messages that a filter looks at. Unknown IDs are left out.
func (q *Queue) candidates(f Filter) iter.Seq[*spool.Message] {
	if f.IDs == nil {
		return q.spool.All()
	}
	return func(yield func(*spool.Message) bool) {
		for _, id := range f.IDs {
			if m, err := q.spool.Get(id); err == nil && !yield(m) {
				return
			}
		}
	}
}

func (f Filter) ofMessage(m *spool.Message) bool {
	switch {
	case f.Lanes != nil && !slices.Contains(f.Lanes, LaneOf(m)):
	case f.NullSender && !m.Envelope.Sender.IsNull():
	case f.Sender != "" && !matchAddress(f.Sender, m.Envelope.Sender.Address):
	case f.Kinds != nil && !slices.Contains(f.Kinds, kindOf(m)):
	case f.Subject != "" && !strings.Contains(strings.ToLower(mail.DecodeWords(m.Subject)), strings.ToLower(f.Subject)):
	case f.Listener != "" && m.Listener != f.Listener:
	case f.User != "" && m.User != f.User:
	case f.SizeAbove > 0 && m.Size <= f.SizeAbove:
	case f.SizeBelow > 0 && m.Size >= f.SizeBelow:
	case f.ScoreAbove != nil && m.Score <= *f.ScoreAbove:
	case f.ScoreBelow != nil && m.Score >= *f.ScoreBelow:
	default:
		return true
	}
	return false
}

func (f Filter) ofAge(age time.Duration) bool {
	return (f.Older == 0 || age >= f.Older) && (f.Younger == 0 || age < f.Younger)
}

func (f Filter) ofReason(m *spool.Message) bool {
	if f.Reason == nil || m.Progress.Reason != "" && f.Reason.MatchString(m.Progress.Reason) {
		return true
	}
	for _, r := range m.Recipients {
		if r.Status == mail.Deferred && !r.Reply.IsZero() && f.Reason.MatchString(r.Reply.String()) {
			return true
		}
	}
	return false
}

func (q *Queue) ofRecipients(f Filter, m *spool.Message) bool {
	return (f.Recipient == "" || anyWaiting(m, func(a mail.Address) bool { return matchAddress(f.Recipient, a) })) &&
		(f.Domain == "" || anyWaiting(m, func(a mail.Address) bool { return matchDomain(f.Domain, a.Domain) })) &&
		(f.Route == "" || anyWaiting(m, func(a mail.Address) bool {
			dest, ok := q.route(m, a)
			key, _, _ := strings.Cut(dest, " ") // of a route with a destination for each domain
			return ok && (strings.EqualFold(dest, f.Route) || strings.EqualFold(key, f.Route))
		}))
}

func anyWaiting(m *spool.Message, is func(mail.Address) bool) bool {
	for i, r := range m.Recipients {
		if r.Status == mail.Deferred && is(m.Envelope.Recipients[i].Address) {
			return true
		}
	}
	return false
}

func matchAddress(pattern string, a mail.Address) bool {
	if domain, ok := strings.CutPrefix(pattern, "@"); ok {
		return matchDomain(domain, a.Domain)
	}
	if strings.EqualFold(pattern, a.String()) {
		return true
	}
	at := strings.LastIndexByte(pattern, '@') // the domain may be in its other spelling
	return at > 0 && !strings.HasPrefix(pattern[at+1:], ".") && matchDomain(pattern[at+1:], a.Domain) &&
		strings.EqualFold(pattern[:at], strings.TrimSuffix(a.String(), "@"+a.Domain))
}

// matchDomain compares domains in any case, and in both spellings of IDNA. A
// pattern that begins with a dot means what is below it.
func matchDomain(pattern, domain string) bool {
	below, ok := strings.CutPrefix(pattern, ".")
	below = mail.ASCIIDomain(strings.ToLower(below))
	domain = mail.ASCIIDomain(strings.ToLower(domain))
	if ok {
		return below != "" && strings.HasSuffix(domain, "."+below)
	}
	return domain != "" && domain == below
}
