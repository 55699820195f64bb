package proxy

import (
	"context"
	"strings"
	"unicode/utf8"
)

// mechanism is the server's part of one SASL exchange.
type mechanism interface {
	// next takes a response, nil for none yet, and returns the next challenge,
	// or who the client is.
	next(ctx context.Context, response []byte) (challenge []byte, who *account, err error)
	// claimed is whom the client wants to be, as far as it has said.
	claimed() string
}

// mechanism starts one by its name; nil is none that is offered.
func (s *session) mechanism(name string) mechanism {
	for _, m := range s.offered() {
		if m != name {
			continue
		}
		switch m {
		case mechScram:
			return &scram{s: s}
		case "PLAIN":
			return &plain{s: s}
		case "LOGIN":
			return &login{s: s}
		}
	}
	return nil
}

// plain is PLAIN (RFC 4616): authzid NUL authcid NUL password.
type plain struct {
	s    *session
	user string
}

func (p *plain) claimed() string { return p.user }

func (p *plain) next(ctx context.Context, response []byte) ([]byte, *account, error) {
	if response == nil {
		return []byte{}, nil, nil
	}
	f := strings.Split(string(response), "\x00")
	if len(f) != 3 || f[1] == "" || !utf8.Valid(response) {
		return nil, nil, errLoginSyntax
	}
	p.user = f[1]
	if !isSelf(f[0], f[1]) {
		return nil, nil, errLoginFailed
	}
	who, err := p.s.verify(ctx, f[1], f[2])
	return nil, who, err
}

// isSelf: nobody acts for somebody else (CVE-2023-27582 was that one could).
func isSelf(authzid, user string) bool { return authzid == "" || authzid == user }

// login is LOGIN, which no standard has and many clients know: two questions,
// the words of which don't matter. The first may be answered with the command.
type login struct {
	s     *session
	asked bool
	user  string
}

func (l *login) claimed() string { return l.user }

func (l *login) next(ctx context.Context, response []byte) ([]byte, *account, error) {
	switch {
	case response == nil:
		return []byte("Username:"), nil, nil
	case !utf8.Valid(response):
		return nil, nil, errLoginSyntax
	case !l.asked:
		if l.user = string(response); l.user == "" {
			return nil, nil, errLoginSyntax
		}
		l.asked = true
		return []byte("Password:"), nil, nil
	}
	who, err := l.s.verify(ctx, l.user, string(response))
	return nil, who, err
}
