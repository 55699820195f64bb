package recipients

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-ldap/ldap/v3"

	"gatepost/internal/mail"
)

// LDAP is [ldap.NAME]: a directory that knows recipients.
type LDAP struct {
	// Servers are servers of the same directory, tried in order: "ldap://host",
	// "ldaps://host", "ldapi:///path" with ports where they are others.
	Servers []string `toml:"servers"`
	// StartTLS encrypts the connection to an ldap:// server. Default false.
	StartTLS bool `toml:"starttls"`
	// CAFile has the issuers of the servers' certificates; the system's if empty.
	CAFile string `toml:"ca_file"`
	// BindDN and BindPasswordFile (a name in $CREDENTIALS_DIRECTORY, or an absolute
	// path) are who we are; both empty: anonymous.
	BindDN           string `toml:"bind_dn"`
	BindPasswordFile string `toml:"bind_password_file"`
	// Base is where the search begins.
	Base string `toml:"base"`
	// Filter finds an address: %s is it, %u its local part, %d its domain.
	// Default (|(proxyAddresses=smtp:%s)(mail=%s)).
	Filter string `toml:"filter"`
	// Timeout is for one answer. Default 5s.
	Timeout time.Duration `toml:"timeout"`
	// OnError is what it means that there is none. Default tempfail.
	OnError OnError `toml:"on_error"`
	// MaxConcurrent is how many questions are under way, each over a connection
	// of its own. Default 4.
	MaxConcurrent int `toml:"max_concurrent"`

	// Sync is how often all addresses are read into memory, in pages of PageSize
	// entries; then nobody waits for the directory. Default 0: each address is
	// looked up. SyncFilter finds the entries (default: Filter with * for the
	// address), Attributes are what holds addresses (default proxyAddresses and
	// mail). PageSize is 500 by default.
	Sync       time.Duration `toml:"sync"`
	SyncFilter string        `toml:"sync_filter"`
	Attributes []string      `toml:"attributes"`
	PageSize   int           `toml:"page_size"`
	// MaxAge is how old what was read may be for an unknown recipient to be
	// refused. Default 24h; from then on it is as if there were no answer.
	MaxAge time.Duration `toml:"max_age"`

	// Name is that of the section.
	Name string `toml:"-"`
}

// DefaultLDAP has no server.
func DefaultLDAP() LDAP {
	return LDAP{
		Filter: "(|(proxyAddresses=smtp:%s)(mail=%s))", Timeout: 5 * time.Second, OnError: TempFail, MaxConcurrent: 4,
		Attributes: []string{"proxyAddresses", "mail"}, PageSize: 500, MaxAge: 24 * time.Hour,
	}
}

const shortestSync = 10 * time.Second

// Validate checks all but the files that are named.
func (l LDAP) Validate() error {
	errs := []error{
		prefix("on_error", l.OnError.Validate()), between("timeout", l.Timeout, 100*time.Millisecond, longestTimeout),
		between("max_age", l.MaxAge, time.Minute, longestMemory), prefix("filter", checkFilter(l.Filter, true)),
	}
	if l.Sync != 0 {
		errs = append(errs, between("sync", l.Sync, shortestSync, 24*time.Hour), prefix("sync_filter", checkFilter(l.syncFilter(), false)))
	} else if l.SyncFilter != "" {
		errs = append(errs, errors.New("sync_filter: does nothing without sync"))
	}
	if len(l.Servers) == 0 {
		errs = append(errs, errors.New(`servers: missing; write servers = ["ldaps://directory.example.com"]`))
	}
	for i, u := range l.Servers {
		errs = append(errs, prefix(fmt.Sprintf("servers[%d]", i), l.checkURL(u)))
	}
	if _, err := ldap.ParseDN(l.Base); err != nil || l.Base == "" {
		errs = append(errs, fmt.Errorf(`base: %q is no name; write one like "dc=example,dc=com"`, l.Base))
	}
	if (l.BindDN == "") != (l.BindPasswordFile == "") {
		errs = append(errs, errors.New("bind_dn: goes with bind_password_file; write both, or none for an anonymous bind"))
	}
	if l.MaxConcurrent < 1 || l.MaxConcurrent > 100 {
		errs = append(errs, fmt.Errorf("max_concurrent: %d is not between 1 and 100", l.MaxConcurrent))
	}
	if l.PageSize < 1 || l.PageSize > 10_000 {
		errs = append(errs, fmt.Errorf("page_size: %d is not between 1 and 10000", l.PageSize))
	}
	if len(l.Attributes) == 0 {
		errs = append(errs, errors.New("attributes: names none; leave the key out for the default"))
	}
	return errors.Join(errs...)
}

func (l LDAP) checkURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return fmt.Errorf("%q is no URL", s)
	case u.Scheme == "ldapi" && u.Path != "":
		return nil
	case u.Scheme != "ldap" && u.Scheme != "ldaps" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "":
		return fmt.Errorf("%q is not like ldaps://host or ldap://host:389", s)
	case u.Scheme == "ldaps" && l.StartTLS:
		return errors.New("ldaps:// is encrypted already; remove starttls")
	case u.Scheme == "ldap" && !l.StartTLS && l.BindDN != "" && !isLoopback(u.Hostname()):
		return errors.New("the password would cross the network in clear; write ldaps://, or starttls = true")
	}
	return nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// checkFilter tries a filter; with asks it must hold the address.
func checkFilter(filter string, asks bool) error {
	if asks && !strings.Contains(filter, "%s") && !strings.Contains(filter, "%u") {
		return fmt.Errorf("%q holds no %%s: it finds the same for every address", filter)
	}
	if _, err := ldap.CompileFilter(fill(filter, mail.Address{Local: "user", Domain: "example.com"})); err != nil {
		return fmt.Errorf("%q: %w", filter, err)
	}
	return nil
}

// fill puts an address into a filter. Nothing of it can be read as part of the
// filter (RFC 4515 3).
func fill(filter string, a mail.Address) string {
	a = a.ToASCII()
	return strings.NewReplacer(
		"%%", "%", "%s", ldap.EscapeFilter(a.Local+"@"+a.Domain), "%u", ldap.EscapeFilter(a.Local), "%d", ldap.EscapeFilter(a.Domain),
	).Replace(filter)
}

func (l LDAP) syncFilter() string {
	if l.SyncFilter != "" {
		return l.SyncFilter
	}
	return strings.NewReplacer("%%", "%", "%s", "*", "%u", "*", "%d", "*").Replace(l.Filter)
}

// tlsConfig and password read the files that are named.
func (l LDAP) tlsConfig() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if l.CAFile == "" {
		return cfg, nil
	}
	text, err := os.ReadFile(l.CAFile)
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	cfg.RootCAs = x509.NewCertPool()
	if !cfg.RootCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("ca_file: %s holds no certificate in PEM", l.CAFile)
	}
	return cfg, nil
}

const maxPassword = 1024

func (l LDAP) password() (string, error) {
	file := l.BindPasswordFile
	if file == "" {
		return "", nil
	}
	if !filepath.IsAbs(file) {
		dir := os.Getenv("CREDENTIALS_DIRECTORY")
		if dir == "" || strings.ContainsRune(file, '/') || !filepath.IsLocal(file) {
			return "", fmt.Errorf("bind_password_file: %q is no absolute path, and no file in $CREDENTIALS_DIRECTORY", file)
		}
		file = filepath.Join(dir, file)
	}
	info, err := os.Stat(file)
	switch {
	case err != nil:
		return "", fmt.Errorf("bind_password_file: %w", err)
	case info.Mode().Perm()&0o007 != 0:
		return "", fmt.Errorf("bind_password_file: everybody may read %s; chmod 600", file)
	case info.Size() > maxPassword:
		return "", fmt.Errorf("bind_password_file: %s is longer than %d bytes", file, maxPassword)
	}
	text, err := os.ReadFile(file)
	line := strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	if err == nil && (line == "" || strings.ContainsAny(line, "\x00\r\n")) {
		err = fmt.Errorf("%s must hold the password in one line", file)
	}
	return line, prefix("bind_password_file", err)
}

// directory asks LDAP servers.
type directory struct {
	cfg      LDAP
	tls      *tls.Config
	secret   string
	details  string // the delimiter
	now      func() time.Time
	sessions chan *session // as many as there may be; nil: not open
	closed   atomic.Bool   // nothing is kept any more
	pause    pause
	synced   synced
}

func newDirectory(cfg LDAP, delimiter string, now func() time.Time) (*directory, error) {
	d := &directory{cfg: cfg, details: delimiter, now: now, sessions: make(chan *session, cfg.MaxConcurrent)}
	var errTLS, errSecret error
	d.tls, errTLS = cfg.tlsConfig()
	d.secret, errSecret = cfg.password()
	for range cfg.MaxConcurrent {
		d.sessions <- nil
	}
	d.pause.max = 30 * time.Second
	return d, errors.Join(errTLS, errSecret)
}

// ask finds an address whole, or without its detail.
func (d *directory) ask(ctx context.Context, a mail.Address) (answer, error) {
	if l, err := d.synced.list(d); l != nil || err != nil {
		if l != nil && l.has(a) {
			return answer{is: isKnown}, nil
		}
		return answer{}, err
	}
	for _, local := range withoutDetail(a.Local, d.details) {
		found, err := d.search(ctx, fill(d.cfg.Filter, mail.Address{Local: local, Domain: a.Domain}))
		if err != nil {
			return answer{}, err
		}
		if found {
			return answer{is: isKnown}, nil
		}
	}
	return answer{}, nil
}

// maxAnswer is what a look-up may bring, in bytes: no attributes are asked for.
const maxAnswer = 64 << 10

// search reports whether there is an entry.
func (d *directory) search(ctx context.Context, filter string) (found bool, err error) {
	err = d.with(ctx, func(s *session) error {
		r, err := s.search(ldap.NewSearchRequest(
			d.cfg.Base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 1, int(d.cfg.Timeout/time.Second)+1, false, filter, []string{"1.1"}, nil,
		), maxAnswer)
		found = r != nil && len(r.Entries) > 0
		if found && ldap.IsErrorAnyOf(err, ldap.LDAPResultSizeLimitExceeded) {
			return nil // more than the one that we asked for
		}
		return err
	})
	return found && err == nil, err
}

// with lends a connection: one that is open, or a new one. That an open one has
// died may show only now.
func (d *directory) with(ctx context.Context, do func(*session) error) (err error) {
	if err := d.pause.left(d.now()); err != nil {
		return fmt.Errorf("ldap: %w", err)
	}
	within, cancel := context.WithTimeout(ctx, d.cfg.Timeout)
	defer cancel()
	var s *session
	select {
	case s = <-d.sessions:
		defer func() { d.sessions <- s }()
	case <-within.Done():
		return fmt.Errorf("ldap: all %d connections are in use", d.cfg.MaxConcurrent)
	}
	defer func() {
		if p := recover(); p != nil { // go-ldap, at an answer that is none
			err = fmt.Errorf("ldap: an answer that can't be read: %v", p)
		}
		if err != nil || d.closed.Load() {
			s.close()
			s = nil
		}
		if err == nil || isResult(err) {
			d.pause.ended()
		} else {
			d.pause.failed(d.now(), err)
		}
	}()
	if s != nil {
		begun := time.Now()
		if err = do(s); err == nil || isResult(err) || time.Since(begun) > d.cfg.Timeout/2 {
			return err
		}
		s.close()
		s = nil
	}
	if s, err = d.open(ctx); err != nil {
		return err
	}
	return do(s)
}

// isResult reports an error that is an answer: the server is well.
func isResult(err error) bool {
	var e *ldap.Error
	return errors.As(err, &e) && e.ResultCode < ldap.ErrorNetwork
}
