package rates

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/state"
)

// party is whom a limit is for.
type party struct {
	kind string // "client", "network", "sender", "recipient", "user"
	id   string
}

func (p party) String() string { return p.kind + " " + p.id }

// key is where the store counts something for a party.
func (p party) key(what string) string { return "rate " + what + " " + p.String() }

// key has the period, so that a limit of an hour and one of a day, of two
// filters, don't count in one place.
func (d demand) key() string { return d.party.key(d.what + " " + d.rate.Period.String()) }

// demand is one question: may this party have n of that?
type demand struct {
	party
	what string
	rate Rate
	n    int
	per  string // unit, for people
}

// clientOf and networkOf are the parties that an address belongs to.
func clientOf(a netip.Addr) party { return party{"client", a.String()} }

func networkOf(a netip.Addr) party {
	bits := 64
	if a.Is4() {
		bits = 24
	}
	p, _ := a.Prefix(bits) // a is valid: Wants
	return party{"network", p.String()}
}

// mailbox is an address as a party.
func mailbox(kind string, a mail.Address) party {
	return party{kind, strings.ToLower(a.Local) + "@" + a.ASCIIDomain()}
}

// take asks for all demands, until one can't be had. Those that have no rate ask
// nobody.
func (f *Filter) take(ctx context.Context, demands ...demand) (mail.Finding, bool, error) {
	for _, d := range demands {
		if d.rate.Limit == 0 {
			continue
		}
		// More than all of it can never be had: such a message waits until
		// nothing is used up.
		n := min(d.n, d.rate.Limit)
		wait, err := f.store.Take(ctx, d.key(), state.Rate(d.rate), n)
		if err != nil {
			return mail.Finding{}, false, err
		}
		if wait > 0 {
			text := fmt.Sprintf("%s has had %d%s in %v; again in %v", d.party, d.rate.Limit, d.per, d.rate.Period, wait.Truncate(time.Second)+time.Second)
			return mail.Finding{Name: mail.FindingRate, Value: d.what, Text: mail.CleanText(text)}, true, nil
		}
	}
	return mail.Finding{}, false, nil
}

// transfer is what is asked at MAIL, RCPT or the message, of those that send.
func (f *Filter) transfer(tx *mail.Transaction, what string, n int, per string, rate func(MessageLimits) Rate) []demand {
	s := tx.Session
	if s.User != "" {
		return []demand{{party{"user", strings.ToLower(s.User)}, what, rate(f.cfg.User), n, per}}
	}
	list := []demand{
		{clientOf(s.Addr()), what, rate(f.cfg.Client.MessageLimits), n, per},
		{networkOf(s.Addr()), what, rate(f.cfg.Network.MessageLimits), n, per},
	}
	if from := tx.Envelope.Sender.Address; !from.IsNull() {
		list = append(list, demand{mailbox("sender", from), what, rate(f.cfg.Sender), n, per})
	}
	return list
}
