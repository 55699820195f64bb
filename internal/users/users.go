// Package users knows who may log in to send mail: from a file of our own, an
// LDAP directory, Dovecot, or the next hop. Passwords are compared here or
// there; none is kept or logged.
//
// An answer takes as long for a user who does not exist as for one who does. An
// error means that nobody could tell, and is never a yes.
package users

import (
	"context"
	"errors"
	"strings"
)

// Login is what a client has given.
type Login struct {
	User, Password string
	Client         string // address, for those who log it
}

// Source checks logins.
type Source interface {
	// Verify returns the name under which the user is known from here on, and
	// whether the login is good.
	Verify(ctx context.Context, l Login) (user string, ok bool, err error)
}

// ScramSource is a Source that can let users prove that they know a password
// without sending it (RFC 5802).
type ScramSource interface {
	Source
	// Scram returns the name under which a user is known, and what is kept of
	// him for SCRAM-SHA-256. For one who does not exist it makes something up,
	// the same each time, and known is false.
	Scram(ctx context.Context, user string) (name string, c Credentials, known bool, err error)
	// HasScram reports whether all users can log in so.
	HasScram() bool
}

// SenderSource is a Source that knows which senders a user may be.
type SenderSource interface {
	// Senders returns addresses and "@domain"s; nil where nothing is said.
	Senders(ctx context.Context, user string) ([]string, error)
}

// Limits on what a client may give (RFC 4616 2 has no smaller ones).
const (
	maxUser     = 255
	maxPassword = 1024
)

// plausible reports whether a login is worth a look. An empty password is none:
// to LDAP it would be an anonymous bind, which succeeds (RFC 4513 5.1.2).
func plausible(l Login) bool {
	if l.User == "" || l.Password == "" || len(l.User) > maxUser || len(l.Password) > maxPassword {
		return false
	}
	if strings.TrimSpace(l.User) != l.User {
		return false // to a directory it would be the name without
	}
	for _, s := range []string{l.User, l.Password} {
		for i := 0; i < len(s); i++ {
			if s[i] == 0 || s[i] == '\r' || s[i] == '\n' {
				return false
			}
		}
	}
	return true
}

var errBusy = errors.New("users: too many logins at a time")
