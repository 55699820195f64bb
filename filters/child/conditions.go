package child

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"gatepost/internal/mail"
)

// asks reports whether the conditions let the milter be asked at the stage of
// tx, as far as they are known there. The client may authenticate until MAIL.
func (c Config) asks(tx *mail.Transaction) bool {
	s := tx.Session
	switch {
	case len(c.Listeners) > 0 && !slices.Contains(c.Listeners, s.Listener):
		return false
	case len(c.Networks) > 0 && !within(c.Networks, s.Client.Addr()):
		return false
	case within(c.NotNetworks, s.Client.Addr()):
		return false
	case c.Authenticated == Any:
	case tx.Stage < mail.StageMail || (c.Authenticated == Yes) != (s.User != ""):
		return false
	}
	switch tx.Stage {
	case mail.StageMail, mail.StageData:
		return c.asksSize(declared(tx))
	case mail.StageRcpt:
		to := tx.Envelope.Recipients
		return c.asksSize(declared(tx)) && c.asksRecipient(to[len(to)-1])
	case mail.StageMessage:
		return c.asksSize(tx.Message.Size()) && slices.ContainsFunc(tx.Envelope.Recipients, c.asksRecipient)
	}
	return true
}

// declared is the size that the client gave with MAIL (RFC 1870), -1 for none.
func declared(tx *mail.Transaction) int64 {
	v, _ := tx.Envelope.Sender.Arg("SIZE")
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		return -1
	}
	return n
}

func (c Config) asksSize(n int64) bool {
	return n < 0 || n >= c.MinSize && (c.MaxSize == 0 || n <= c.MaxSize)
}

func (c Config) asksRecipient(p mail.Path) bool {
	return len(c.Domains) == 0 || slices.ContainsFunc(c.Domains, func(d string) bool {
		if below, ok := strings.CutPrefix(d, "."); ok {
			clean, _ := mail.ParseDomain(below)
			return strings.HasSuffix(p.Domain, "."+clean)
		}
		clean, _ := mail.ParseDomain(d)
		return p.Domain == clean
	})
}

func within(networks []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(a) })
}
