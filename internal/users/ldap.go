package users

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// LDAPConfig is users in a directory: found by a search, or by a template of
// their names, and checked by a bind as the user.
type LDAPConfig struct {
	// Servers are asked in this order until one answers: ldap://host,
	// ldaps://host, ldapi://%2Fpath.
	Servers []string `toml:"servers"`
	// StartTLS encrypts what goes to ldap://. Default true.
	StartTLS bool `toml:"starttls"`
	// CAFile holds the only issuers that are believed, in PEM. Default: the
	// system's.
	CAFile string `toml:"ca_file"`
	// BindDN searches, with the password in BindPasswordFile. Default: nobody,
	// anonymously.
	BindDN           string `toml:"bind_dn"`
	BindPasswordFile string `toml:"bind_password_file"`
	// Base and Filter find a user; %u stands for the name that was given. The
	// default filter is "(uid=%u)".
	Base   string `toml:"base"`
	Filter string `toml:"filter"`
	// DN is the name of a user, in place of a search: "uid=%u,ou=people,dc=…".
	DN string `toml:"dn"`
	// Senders names the attributes with addresses that the user may send from,
	// as "user@example.com" or "smtp:user@example.com".
	Senders []string `toml:"senders"`
	// Timeout is for one login. Default 10s.
	Timeout time.Duration `toml:"timeout"`
	// MaxConcurrent is how many there may be at a time. Default 20.
	MaxConcurrent int `toml:"max_concurrent"`
}

// DefaultLDAPConfig returns what a section that sets nothing has.
func DefaultLDAPConfig() LDAPConfig {
	return LDAPConfig{StartTLS: true, Filter: "(uid=%u)", Timeout: 10 * time.Second, MaxConcurrent: 20}
}

// LDAP is a Source.
type LDAP struct {
	cfg      LDAPConfig
	servers  []ldapServer
	password string // of BindDN
	slots    chan struct{}
}

type ldapServer struct {
	network, address string
	tls              *tls.Config // nil: none
	start            bool        // with StartTLS
}

// maxDirectoryAnswer is what one login may make us read.
const maxDirectoryAnswer = 1 << 20

// NewLDAP checks cfg and reads the files that it names. It asks nobody.
func NewLDAP(cfg LDAPConfig) (*LDAP, error) {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	l := &LDAP{cfg: cfg}
	roots, err := issuers(cfg.CAFile)
	if err != nil {
		bad("ca_file: %w", err)
	}
	for _, s := range cfg.Servers {
		server, err := newLDAPServer(s, cfg.StartTLS, &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})
		if err != nil {
			bad("servers: %w", err)
		}
		l.servers = append(l.servers, server)
	}
	if len(cfg.Servers) == 0 {
		bad(`servers: missing; write servers = ["ldaps://ldap.example.com"]`)
	}
	switch {
	case (cfg.BindDN == "") != (cfg.BindPasswordFile == ""):
		bad("bind_dn: belongs together with bind_password_file")
	case cfg.BindDN != "":
		if l.password, err = ReadSecret(cfg.BindPasswordFile); err != nil {
			bad("bind_password_file: %w", err)
		}
	}
	switch {
	case cfg.DN != "" && cfg.Base != "":
		bad("dn: stands in place of base; remove one of the two")
	case cfg.DN != "":
		if _, err := ldap.ParseDN(strings.ReplaceAll(cfg.DN, "%u", "x")); err != nil || !strings.Contains(cfg.DN, "%u") {
			bad(`dn: %q; write one like "uid=%%u,ou=people,dc=example,dc=com"`, cfg.DN)
		}
	case cfg.Base == "":
		bad(`base: missing; write base = "ou=people,dc=example,dc=com", or dn = "uid=%%u,…"`)
	}
	if _, err := ldap.CompileFilter(strings.ReplaceAll(cfg.Filter, "%u", "x")); err != nil || !strings.Contains(cfg.Filter, "%u") {
		bad(`filter: %q; write one like "(&(objectClass=person)(uid=%%u))"`, cfg.Filter)
	}
	bad2 := checkLimits(cfg.Timeout, cfg.MaxConcurrent)
	l.slots = make(chan struct{}, max(cfg.MaxConcurrent, 1))
	return l, errors.Join(append(errs, bad2)...)
}

func newLDAPServer(text string, start bool, cfg *tls.Config) (ldapServer, error) {
	advice := fmt.Errorf(`%q; write "ldap://host", "ldaps://host" or "ldapi://%%2Fpath%%2Fof%%2Fsocket"`, text)
	if path, ok := strings.CutPrefix(text, "ldapi://"); ok {
		path, err := url.PathUnescape(path)
		if err != nil || !strings.HasPrefix(path, "/") {
			return ldapServer{}, advice
		}
		return ldapServer{network: "unix", address: path}, nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.Scheme != "ldap" && u.Scheme != "ldaps" || strings.Trim(u.Path, "/") != "" || u.User != nil {
		return ldapServer{}, advice
	}
	s := ldapServer{network: "tcp", start: u.Scheme == "ldap"}
	if s.start {
		s.address = net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), ldap.DefaultLdapPort))
	} else {
		s.address = net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), ldap.DefaultLdapsPort))
	}
	if !s.start || start {
		s.tls = cfg.Clone()
		s.tls.ServerName = u.Hostname()
	}
	return s, nil
}

// Verify is of Source.
func (l *LDAP) Verify(ctx context.Context, login Login) (name string, ok bool, err error) {
	if !plausible(login) {
		return "", false, nil
	}
	err = l.with(ctx, func(c *ldap.Conn) error {
		dn, err := l.find(c, login.User)
		if err != nil || dn == "" {
			return err
		}
		err = c.Bind(dn, login.Password) // never empty: that would be no login, and succeed
		ok = err == nil
		if isNo(err) {
			return nil
		}
		return err
	})
	return fold(login.User), ok && err == nil, err
}

// isNo tells a refusal of this user from a directory that has a problem.
func isNo(err error) bool {
	return err != nil && ldap.IsErrorAnyOf(err, ldap.LDAPResultInvalidCredentials, ldap.LDAPResultNoSuchObject, ldap.LDAPResultInvalidDNSyntax,
		ldap.LDAPResultInappropriateAuthentication, ldap.LDAPResultConstraintViolation, ldap.LDAPResultUnwillingToPerform)
}

// find returns the name of a user's entry, "" for one who is not there.
func (l *LDAP) find(c *ldap.Conn, user string) (dn string, err error) {
	if l.cfg.DN != "" {
		return strings.ReplaceAll(l.cfg.DN, "%u", ldap.EscapeDN(user)), nil
	}
	e, err := l.search(c, user)
	if err != nil || e == nil {
		return "", err
	}
	return e.DN, nil
}

// search finds the entry of a user, nil for none.
func (l *LDAP) search(c *ldap.Conn, user string) (*ldap.Entry, error) {
	if err := l.bindReader(c); err != nil {
		return nil, err
	}
	base, filter, scope := l.cfg.Base, strings.ReplaceAll(l.cfg.Filter, "%u", ldap.EscapeFilter(user)), ldap.ScopeWholeSubtree
	if l.cfg.DN != "" {
		base, filter, scope = strings.ReplaceAll(l.cfg.DN, "%u", ldap.EscapeDN(user)), "(objectClass=*)", ldap.ScopeBaseObject
	}
	// Without attributes that we want, "1.1" asks for none (RFC 4511 4.5.1.8).
	attributes := l.cfg.Senders
	if len(attributes) == 0 {
		attributes = []string{"1.1"}
	}
	r, err := c.Search(ldap.NewSearchRequest(base, scope, ldap.NeverDerefAliases, 2, int(l.cfg.Timeout/time.Second)+1, false, filter, attributes, nil))
	switch {
	case l.cfg.DN != "" && ldap.IsErrorAnyOf(err, ldap.LDAPResultNoSuchObject, ldap.LDAPResultInvalidDNSyntax):
		return nil, nil
	case err != nil && !ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded):
		return nil, err
	case err != nil || len(r.Entries) > 1:
		return nil, fmt.Errorf("more than one entry for %q; make the filter stricter", user)
	case len(r.Entries) == 0:
		return nil, nil
	}
	return r.Entries[0], nil
}

func (l *LDAP) bindReader(c *ldap.Conn) error {
	if l.cfg.BindDN == "" {
		return nil
	}
	if err := c.Bind(l.cfg.BindDN, l.password); err != nil {
		return fmt.Errorf("as %s: %w", l.cfg.BindDN, err)
	}
	return nil
}

// Senders is of SenderSource.
func (l *LDAP) Senders(ctx context.Context, user string) (senders []string, err error) {
	if len(l.cfg.Senders) == 0 {
		return nil, nil
	}
	err = l.with(ctx, func(c *ldap.Conn) error {
		e, err := l.search(c, user)
		if err != nil || e == nil {
			return err
		}
		for _, a := range l.cfg.Senders {
			for _, v := range e.GetEqualFoldAttributeValues(a) {
				if kind, rest, ok := strings.Cut(v, ":"); ok {
					if !strings.EqualFold(kind, "smtp") {
						continue // X500:, SIP:, …
					}
					v = rest
				}
				senders = append(senders, v)
			}
		}
		return nil
	})
	return slices.Clip(senders), err
}

// with does something with a connection to the first server that answers. All
// of it has the timeout.
func (l *LDAP) with(ctx context.Context, do func(*ldap.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
	defer cancel()
	select {
	case l.slots <- struct{}{}:
		defer func() { <-l.slots }()
	case <-ctx.Done():
		return errors.Join(errBusy, ctx.Err())
	}
	var errs []error
	for _, s := range l.servers {
		c, err := s.dial(ctx, l.cfg.Timeout)
		if err == nil {
			err = do(c)
			_ = c.Close() // nothing is lost with it
		}
		if err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("users: %s: %w", s.address, err))
		if ldap.IsErrorWithCode(err, ldap.LDAPResultInvalidCredentials) {
			break // of bind_dn: another server would count one more failure
		}
	}
	return errors.Join(errs...)
}

// dial connects within ctx's time, which is also what all that follows has.
func (s ldapServer) dial(ctx context.Context, timeout time.Duration) (*ldap.Conn, error) {
	var d net.Dialer
	// A server that is silent leaves time for the next one.
	dialing, cancel := context.WithTimeout(ctx, timeout/2)
	defer cancel()
	raw, err := d.DialContext(dialing, s.network, s.address)
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	if err := raw.SetDeadline(deadline); err != nil {
		_ = raw.Close()
		return nil, err
	}
	var conn net.Conn = &limitedConn{Conn: raw, left: maxDirectoryAnswer}
	if s.tls != nil && !s.start {
		secure := tls.Client(conn, s.tls)
		if err := secure.HandshakeContext(dialing); err != nil {
			_ = raw.Close()
			return nil, err
		}
		conn = secure
	}
	c := ldap.NewConn(conn, s.tls != nil && !s.start)
	c.SetTimeout(time.Until(deadline))
	c.Start()
	if s.tls != nil && s.start {
		if err := c.StartTLS(s.tls); err != nil {
			_ = c.Close()
			return nil, fmt.Errorf("StartTLS: %w", err)
		}
	}
	return c, nil
}
