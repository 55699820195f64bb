package spamassassin

import (
	"regexp"
	"slices"
	"strings"

	"gatepost/internal/mail"
)

// Words for Config.User.
const (
	userRecipient = "recipient"
	userLocal     = "local-part"
	userDomain    = "domain"
)

// goodUser is what may stand in spamd's User header. spamd may make the name of
// a directory of it, so it must not begin with a dot.
var goodUser = regexp.MustCompile(`^[a-z0-9_][a-z0-9._-]{0,63}$`)

// goodAddress is a user named by a whole address.
var goodAddress = regexp.MustCompile(`^[a-z0-9_][a-z0-9._-]{0,63}@[a-z0-9][a-z0-9.-]{0,252}$`)

// question is one that spamd is asked: about the mail of these recipients, with
// this user's preferences.
type question struct {
	user  string // "": spamd's own
	rcpts []mail.Path
}

// questions lists those about one message.
func (f *Filter) questions(tx *mail.Transaction) []question {
	rcpts := tx.Envelope.Recipients
	if !f.cfg.byRecipient() {
		return []question{{f.cfg.User, rcpts}}
	}
	var list []question
	for _, r := range rcpts {
		user := f.userOf(r.Address)
		i := slices.IndexFunc(list, func(q question) bool { return q.user == user })
		if i < 0 {
			i, list = len(list), append(list, question{user: user})
		}
		list[i].rcpts = append(list[i].rcpts, r)
	}
	switch {
	case len(list) == 1:
		return list
	case len(list) == 0 || f.cfg.PerRecipient == One:
		return []question{{f.cfg.DefaultUser, rcpts}}
	case len(list) > f.cfg.MaxUsers:
		others := question{user: f.cfg.DefaultUser}
		for _, q := range list[f.cfg.MaxUsers:] {
			others.rcpts = append(others.rcpts, q.rcpts...)
		}
		list = append(list[:f.cfg.MaxUsers:f.cfg.MaxUsers], others)
	}
	return list
}

// userOf is the user of a recipient. An address that can't be one's name is
// judged as the default user: it must not choose a name by being odd.
func (f *Filter) userOf(a mail.Address) string {
	a = a.ToASCII()
	local, domain := strings.ToLower(a.Local), strings.ToLower(a.Domain)
	local, _, _ = strings.Cut(local, "+")
	user, good := local, goodUser
	switch f.cfg.User {
	case userDomain:
		user = domain
	case userRecipient:
		user, good = local+"@"+domain, goodAddress
	}
	if !good.MatchString(user) {
		return f.cfg.DefaultUser
	}
	return user
}
