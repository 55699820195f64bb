package proxy

import (
	"context"
	"fmt"
	"strings"

	"gatepost/internal/mail"
	"gatepost/internal/users"
)

// SenderLogin is what becomes of mail whose sender is not the user's.
type SenderLogin string

// The choices.
const (
	SenderLoginOff    SenderLogin = "off"
	SenderLoginWarn   SenderLogin = "warn"
	SenderLoginReject SenderLogin = "reject"
)

// Validate checks that the choice is known.
func (l SenderLogin) Validate() error {
	switch l {
	case SenderLoginOff, SenderLoginWarn, SenderLoginReject:
		return nil
	}
	return fmt.Errorf("unknown sender_login %q: want off, warn or reject", string(l))
}

// refusesStart says why a client may not send mail here at all.
func (s *session) refusesStart() mail.Reply {
	switch {
	case s.set.Role != Submission:
		return mail.Reply{}
	case s.facts.TLS == nil:
		return mail.Reply{Code: 530, Detail: "7.0", Text: "send STARTTLS first"} // RFC 3207 4
	case s.facts.User == "":
		return mail.Reply{Code: 530, Detail: "7.0", Text: "log in first"} // RFC 4954 6
	}
	return mail.Reply{}
}

// checkSender holds a user to his own addresses. Notices have no sender.
func (s *session) checkSender(ctx context.Context, sender mail.Address) mail.Reply {
	if s.facts.User == "" || s.set.SenderLogin == SenderLoginOff || sender.IsNull() {
		return mail.Reply{}
	}
	may, err := s.maySend(ctx, sender)
	switch {
	case err != nil:
		s.log.Error("senders of a user", "client", s.client, "user", s.facts.User, "error", err)
		if s.set.SenderLogin == SenderLoginReject {
			return ourFault()
		}
	case may:
	case s.set.SenderLogin == SenderLoginWarn:
		s.log.Warn("sender is not the user's", "client", s.client, "user", s.facts.User, "from", sender.String())
	default:
		return mail.Reply{Code: 553, Detail: "7.1", Text: "this sender is not yours"}
	}
	return mail.Reply{}
}

// maySend asks whether an address is the user's: his name is one, or his source
// says so.
func (s *session) maySend(ctx context.Context, sender mail.Address) (bool, error) {
	if own, err := mail.ParseAddress(s.facts.User, true); err == nil && sameMailbox(own, sender) {
		return true, nil
	}
	src, ok := s.source.(users.SenderSource)
	if !ok {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	list, err := src.Senders(ctx, s.facts.User)
	for _, entry := range list {
		if domain, whole := strings.CutPrefix(entry, "@"); whole {
			if name, err := mail.ParseDomain(domain); err == nil && (mail.Address{Domain: name}).ASCIIDomain() == sender.ASCIIDomain() {
				return true, nil
			}
			continue
		}
		if a, err := mail.ParseAddress(entry, true); err == nil && sameMailbox(a, sender) {
			return true, nil
		}
	}
	return false, err
}

// sameMailbox does not look at case: these are our own mailboxes.
func sameMailbox(a, b mail.Address) bool {
	return strings.EqualFold(a.Local, b.Local) && a.Domain != "" && a.ASCIIDomain() == b.ASCIIDomain()
}
