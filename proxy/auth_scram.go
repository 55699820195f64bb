package proxy

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"gatepost/internal/users"
)

const mechScram = "SCRAM-SHA-256"

// maxNonce keeps our challenge in one reply line.
const maxNonce = 128

// scram is SCRAM-SHA-256 (RFC 5802, RFC 7677), without channel binding. A user
// who does not exist gets a salt like all others, and fails at the end.
type scram struct {
	s    *session
	step int

	user   string
	header string // gs2-header, as the client gave it
	bare   string // client-first-message-bare
	first  string // our answer
	nonce  string // both halves
	source users.Source
	name   string
	cred   users.Credentials
	known  bool
	who    *account
}

func (c *scram) claimed() string { return c.user }

func (c *scram) next(ctx context.Context, response []byte) (challenge []byte, who *account, err error) {
	if response == nil {
		return []byte{}, nil, nil
	}
	if !utf8.Valid(response) {
		return nil, nil, errLoginSyntax
	}
	c.step++
	switch c.step {
	case 1:
		challenge, err = c.start(ctx, string(response))
		return challenge, nil, err
	case 2:
		challenge, err = c.prove(string(response))
		return challenge, nil, err
	}
	// RFC 4954 4: what the server says with its success is one more challenge.
	if len(response) != 0 {
		return nil, nil, errLoginSyntax
	}
	return nil, c.who, nil
}

// start reads client-first-message: n,a=authzid,n=user,r=nonce.
func (c *scram) start(ctx context.Context, text string) ([]byte, error) {
	flag, rest, ok := strings.Cut(text, ",")
	authzid, bare, ok2 := strings.Cut(rest, ",")
	if !ok || !ok2 || flag != "n" && flag != "y" {
		return nil, errLoginSyntax // "p=": we offered no channel binding
	}
	c.header, c.bare = flag+","+authzid+",", bare
	name, rest, ok := strings.Cut(bare, ",")
	name, isName := strings.CutPrefix(name, "n=")
	nonce, _, _ := strings.Cut(rest, ",")
	nonce, isNonce := strings.CutPrefix(nonce, "r=")
	if !ok || !isName || !isNonce || !isNonceText(nonce) {
		return nil, errLoginSyntax
	}
	if c.user, ok = decodeSaslname(name); !ok {
		return nil, errLoginSyntax
	}
	if authzid != "" {
		id, isID := strings.CutPrefix(authzid, "a=")
		if id, ok = decodeSaslname(id); !isID || !ok {
			return nil, errLoginSyntax
		}
		if !isSelf(id, c.user) {
			return nil, errLoginFailed
		}
	}
	if err := c.s.admitted(ctx, c.user); err != nil {
		return nil, err
	}
	if err := c.find(ctx); err != nil {
		return nil, err
	}
	c.nonce = nonce + rand.Text()
	c.first = fmt.Sprintf("r=%s,s=%s,i=%d", c.nonce, base64.StdEncoding.EncodeToString(c.cred.Salt), c.cred.Iterations)
	return []byte(c.first), nil
}

// find takes the credentials of the first source that knows the user, or what
// the first of all makes up.
func (c *scram) find(ctx context.Context) error {
	var errs []error
	for _, src := range c.s.set.Sources {
		sc, ok := src.(users.ScramSource)
		if !ok {
			return errLoginFailed // it is not offered then
		}
		name, cred, known, err := sc.Scram(ctx, c.user)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if known || c.source == nil {
			c.source, c.name, c.cred, c.known = src, name, cred, known
		}
		if known {
			return nil
		}
	}
	return errors.Join(errs...)
}

// prove reads client-final-message: c=header,r=nonce,p=proof.
func (c *scram) prove(text string) ([]byte, error) {
	i := strings.LastIndex(text, ",p=")
	if i < 0 {
		return nil, errLoginSyntax
	}
	final := text[:i]
	proof, err := base64.StdEncoding.Strict().DecodeString(text[i+len(",p="):])
	f := strings.Split(final, ",")
	if err != nil || len(f) < 2 {
		return nil, errLoginSyntax
	}
	if f[0] != "c="+base64.StdEncoding.EncodeToString([]byte(c.header)) || f[1] != "r="+c.nonce {
		return nil, errLoginFailed
	}
	signature, ok := c.cred.Check(c.bare+","+c.first+","+final, proof)
	if !ok || !c.known || c.name == "" {
		return nil, errLoginFailed
	}
	c.who = &account{c.name, c.source}
	return []byte("v=" + base64.StdEncoding.EncodeToString(signature)), nil
}

// isNonceText checks printable ASCII without a comma (RFC 5802 7).
func isNonceText(s string) bool {
	return s != "" && len(s) <= maxNonce && isPrintable(s) && !strings.ContainsAny(s, ", ")
}

// decodeSaslname reads a name in which "=2C" and "=3D" stand for a comma and an
// equals sign (RFC 5802 5.1).
func decodeSaslname(s string) (string, bool) {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(s, "=")
		b.WriteString(before)
		switch {
		case !found:
			return b.String(), b.Len() > 0
		case strings.HasPrefix(after, "2C"):
			b.WriteByte(',')
		case strings.HasPrefix(after, "3D"):
			b.WriteByte('=')
		default:
			return "", false
		}
		s = after[2:]
	}
}
