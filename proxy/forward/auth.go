package forward

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"github.com/emersion/go-sasl"

	"gatepost/internal/mail"
)

// Auth is a way to log in.
type Auth string

// The ways, the best first. "" takes the best that is offered.
const (
	AuthSCRAM Auth = "scram-sha-256"
	AuthPlain Auth = "plain"
	AuthLogin Auth = "login"
)

// Validate reports a way that there is not.
func (a Auth) Validate() error {
	switch a {
	case "", AuthSCRAM, AuthPlain, AuthLogin:
		return nil
	}
	return fmt.Errorf("auth %q: want plain, login or scram-sha-256", string(a))
}

// account is who we are at a next hop; the zero account is nobody.
type account struct {
	user, password string
	auth           Auth
}

// client returns the best of what is offered, nil where nothing fits.
func (a account) client(offered []string) sasl.Client {
	for _, way := range []Auth{AuthSCRAM, AuthPlain, AuthLogin} {
		if a.auth != "" && a.auth != way || !slices.Contains(offered, strings.ToUpper(string(way))) {
			continue
		}
		switch way {
		case AuthSCRAM:
			return &scram{user: a.user, password: a.password}
		case AuthPlain:
			return sasl.NewPlainClient("", a.user, a.password)
		case AuthLogin:
			return &login{answers: []string{a.user, a.password}}
		}
	}
	return nil
}

// login is LOGIN without an initial response, which many servers do not take,
// and whatever words they ask with. It is a sasl.Client.
type login struct{ answers []string }

// Start returns the name.
func (l *login) Start() (mech string, ir []byte, err error) { return "LOGIN", nil, nil }

// Next answers with the user's name, then the password.
func (l *login) Next([]byte) ([]byte, error) {
	if len(l.answers) == 0 {
		return nil, sasl.ErrUnexpectedServerChallenge
	}
	answer := l.answers[0]
	l.answers = l.answers[1:]
	return []byte(answer), nil
}

// maxLoginSteps is more than any mechanism takes.
const maxLoginSteps = 6

// login tells the next hop who we are (RFC 4954). That it does not believe us is
// a fault of the configuration: nothing bounces because of it.
func (c *conn) login() *failure {
	a := c.host.account
	if c.tls == "" {
		return badLogin("no password is given over a connection in clear")
	}
	client := a.client(c.ext.auth)
	if client == nil {
		return badLogin("the next hop offers no way to log in that we may use, only %q: see auth of the route", strings.Join(c.ext.auth, " "))
	}
	mech, first, err := client.Start()
	if err != nil {
		return badLogin("%s: %v", mech, err)
	}
	command := "AUTH " + mech
	if first != nil {
		command += " " + base64.StdEncoding.EncodeToString(first)
	}
	r, err := c.ask(command, c.host.command)
	for step := 0; err == nil && r.Code == 334; step++ {
		answer, wrong := respond(client, r, step)
		if wrong != nil {
			_, err = c.ask("*", c.host.command) // RFC 4954 4: we give up
			if err != nil {
				break
			}
			return badLogin("%s as %s: %v", mech, a.user, wrong)
		}
		r, err = c.ask(answer, c.host.command)
	}
	switch s, mutual := client.(*scram); {
	case err != nil:
		return broken("logging in", err)
	case r.Code == 421:
		return hungUp(r)
	case r.Code != 235:
		return badLogin("the next hop refuses %s as %s: %s; check username and password_file of the route", mech, a.user, r)
	case mutual && !s.proved:
		return badLogin("%s as %s: the next hop did not prove that it knows the password", mech, a.user)
	}
	return nil
}

// respond makes the answer to one challenge.
func respond(client sasl.Client, r mail.Reply, step int) (string, error) {
	if step == maxLoginSteps {
		return "", sasl.ErrUnexpectedServerChallenge
	}
	challenge, err := base64.StdEncoding.DecodeString(strings.TrimSpace(r.Text))
	if err != nil {
		return "", fmt.Errorf("challenge %.60q: %w", r.Text, err)
	}
	answer, err := client.Next(challenge)
	return base64.StdEncoding.EncodeToString(answer), err
}

func badLogin(format string, args ...any) *failure {
	return &failure{loud: true, reply: mail.Reply{Code: 451, Detail: "7.8", Text: "login: " + fmt.Sprintf(format, args...)}}
}
