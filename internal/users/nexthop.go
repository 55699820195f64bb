package users

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// NextHopConfig is users whom another mail server knows: it is asked with the
// password of the user.
type NextHopConfig struct {
	// Server is "smtps://host" (TLS from the first byte on) or "smtp://host:587"
	// (STARTTLS). Its certificate must fit in any case.
	Server string `toml:"server"`
	// CAFile holds the only issuers that are believed, in PEM. Default: the
	// system's.
	CAFile string `toml:"ca_file"`
	// Timeout is for one login. Default 20s.
	Timeout time.Duration `toml:"timeout"`
	// MaxConcurrent is how many there may be at a time. Default 10.
	MaxConcurrent int `toml:"max_concurrent"`

	Hostname string `toml:"-"` // for EHLO
}

// DefaultNextHopConfig returns what a section that sets nothing has.
func DefaultNextHopConfig() NextHopConfig {
	return NextHopConfig{Timeout: 20 * time.Second, MaxConcurrent: 10}
}

// NextHop is a Source.
type NextHop struct {
	cfg     NextHopConfig
	address string
	tls     *tls.Config
	atOnce  bool // TLS from the first byte on
	slots   chan struct{}
}

// NewNextHop checks cfg and reads the file that it names. It asks nobody.
func NewNextHop(cfg NextHopConfig) (*NextHop, error) {
	errs := []error{checkLimits(cfg.Timeout, cfg.MaxConcurrent)}
	roots, err := issuers(cfg.CAFile)
	if err != nil {
		errs = append(errs, fmt.Errorf("ca_file: %w", err))
	}
	n := &NextHop{cfg: cfg, slots: make(chan struct{}, max(cfg.MaxConcurrent, 1))}
	u, err := url.Parse(cfg.Server)
	if err != nil || u.Hostname() == "" || u.Scheme != "smtp" && u.Scheme != "smtps" || u.Path != "" || u.User != nil {
		errs = append(errs, fmt.Errorf(`server: %q; write "smtps://mail.example.com:465" or "smtp://mail.example.com:587"`, cfg.Server))
		return n, errors.Join(errs...)
	}
	n.atOnce = u.Scheme == "smtps"
	port := "587"
	if n.atOnce {
		port = "465"
	}
	n.address = net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), port))
	n.tls = &tls.Config{RootCAs: roots, ServerName: u.Hostname(), MinVersion: tls.VersionTLS12}
	return n, errors.Join(errs...)
}

// maxNextHopAnswer is what one login may make us read.
const maxNextHopAnswer = 256 << 10

// Verify is of Source.
func (n *NextHop) Verify(ctx context.Context, l Login) (name string, ok bool, err error) {
	if !plausible(l) {
		return "", false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timeout)
	defer cancel()
	select {
	case n.slots <- struct{}{}:
		defer func() { <-n.slots }()
	case <-ctx.Done():
		return "", false, errors.Join(errBusy, ctx.Err())
	}
	ok, err = n.ask(ctx, l)
	if err != nil {
		return "", false, fmt.Errorf("users: next hop %s: %w", n.address, err)
	}
	return fold(l.User), ok, nil
}

func (n *NextHop) ask(ctx context.Context, l Login) (bool, error) {
	c, err := n.connect(ctx)
	if err != nil {
		return false, err
	}
	defer c.Close()
	if !c.SupportsAuth(sasl.Plain) {
		return false, errors.New("it does not offer AUTH PLAIN")
	}
	err = c.Auth(sasl.NewPlainClient("", l.User, l.Password))
	var reply *smtp.SMTPError
	switch {
	case err == nil:
		_ = c.Quit() // out of courtesy
		return true, nil
	case errors.As(err, &reply) && reply.Code == 535:
		return false, nil
	}
	return false, err
}

// connect returns a client inside TLS. All that it does has until ctx's
// deadline.
func (n *NextHop) connect(ctx context.Context) (*smtp.Client, error) {
	var d net.Dialer
	raw, err := d.DialContext(ctx, "tcp", n.address)
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	if err := raw.SetDeadline(deadline); err != nil {
		_ = raw.Close()
		return nil, err
	}
	conn := &fixedConn{limitedConn{Conn: raw, left: maxNextHopAnswer}}
	var c *smtp.Client
	if n.atOnce {
		c = smtp.NewClient(tls.Client(conn, n.tls))
	} else if c, err = smtp.NewClientStartTLS(conn, n.tls); err != nil { // and it is closed
		return nil, err
	}
	if err := c.Hello(cmp.Or(n.cfg.Hostname, "localhost")); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// fixedConn keeps the deadline that it has: the library would put it off with
// every command.
type fixedConn struct{ limitedConn }

func (*fixedConn) SetDeadline(time.Time) error      { return nil }
func (*fixedConn) SetReadDeadline(time.Time) error  { return nil }
func (*fixedConn) SetWriteDeadline(time.Time) error { return nil }
