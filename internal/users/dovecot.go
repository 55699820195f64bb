package users

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// DovecotConfig is users whom Dovecot knows, asked over its socket for clients
// of "auth" ("service auth { unix_listener … }").
type DovecotConfig struct {
	Socket string `toml:"socket"` // absolute path
	// Service is what Dovecot is told that users log in to. Default "smtp".
	Service string `toml:"service"`
	// Timeout is for one login. Dovecot lets those who fail wait for 2s.
	// Default 10s.
	Timeout time.Duration `toml:"timeout"`
	// MaxConcurrent is how many there may be at a time. Default 50.
	MaxConcurrent int `toml:"max_concurrent"`
}

// DefaultDovecotConfig returns what a section that sets nothing has.
func DefaultDovecotConfig() DovecotConfig {
	return DovecotConfig{Service: "smtp", Timeout: 10 * time.Second, MaxConcurrent: 50}
}

// Dovecot is a Source. Each login has a connection of its own: a restart of
// Dovecot is over with the next one.
type Dovecot struct {
	cfg   DovecotConfig
	slots chan struct{}
}

// NewDovecot checks cfg. It asks nobody.
func NewDovecot(cfg DovecotConfig) (*Dovecot, error) {
	var errs []error
	if !filepath.IsAbs(cfg.Socket) {
		errs = append(errs, fmt.Errorf(`socket: %q is no absolute path; write socket = "/run/dovecot/auth-client"`, cfg.Socket))
	}
	if cfg.Service == "" || strings.ContainsAny(cfg.Service, "\t\n\r\x00\x01= ") {
		errs = append(errs, fmt.Errorf("service: %q is no word", cfg.Service))
	}
	errs = append(errs, checkLimits(cfg.Timeout, cfg.MaxConcurrent))
	return &Dovecot{cfg: cfg, slots: make(chan struct{}, max(cfg.MaxConcurrent, 1))}, errors.Join(errs...)
}

// maxDovecotAnswer is what one login may make us read.
const maxDovecotAnswer = 64 << 10

// Verify is of Source.
func (d *Dovecot) Verify(ctx context.Context, l Login) (name string, ok bool, err error) {
	if !plausible(l) {
		return "", false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Timeout)
	defer cancel()
	select {
	case d.slots <- struct{}{}:
		defer func() { <-d.slots }()
	case <-ctx.Done():
		return "", false, errors.Join(errBusy, ctx.Err())
	}
	name, ok, err = d.ask(ctx, l)
	if err != nil {
		return "", false, fmt.Errorf("users: dovecot at %s: %w", d.cfg.Socket, err)
	}
	return name, ok, nil
}

func (d *Dovecot) ask(ctx context.Context, l Login) (name string, ok bool, err error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", d.cfg.Socket)
	if err != nil {
		return "", false, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	r := bufio.NewReader(&limitedConn{Conn: conn, left: maxDovecotAnswer})
	if _, err := fmt.Fprintf(conn, "VERSION\t1\t1\nCPID\t%d\n", os.Getpid()); err != nil {
		return "", false, err
	}
	if err := handshake(r); err != nil {
		return "", false, err
	}
	// Whatever stands in it is base64 or ours: no value can become a parameter.
	// Whom Dovecot would make wait ever longer, Throttle has sent away.
	request := "AUTH\t1\tPLAIN\tservice=" + d.cfg.Service + "\tsecured\tno-penalty"
	if ip, err := netip.ParseAddr(l.Client); err == nil {
		request += "\trip=" + ip.WithZone("").String()
	}
	request += "\tresp=" + base64.StdEncoding.EncodeToString([]byte("\x00"+l.User+"\x00"+l.Password)) + "\n"
	if _, err := conn.Write([]byte(request)); err != nil {
		return "", false, err
	}
	return verdict(r)
}

// handshake reads what Dovecot says first, up to DONE.
func handshake(r *bufio.Reader) error {
	plain := false
	for {
		f, err := fields(r)
		if err != nil {
			return err
		}
		switch f[0] {
		case "VERSION":
			if len(f) < 2 || f[1] != "1" {
				return fmt.Errorf("it speaks version %q of its protocol, we know 1", f[1:])
			}
		case "MECH":
			plain = plain || len(f) > 1 && strings.EqualFold(f[1], "PLAIN")
		case "DONE":
			if !plain {
				return errors.New("it does not offer PLAIN; see auth_mechanisms")
			}
			return nil
		}
	}
}

// verdict reads the answer to our request, the only one.
func verdict(r *bufio.Reader) (name string, ok bool, err error) {
	for {
		f, err := fields(r)
		switch {
		case err != nil:
			return "", false, err
		case len(f) < 2 || f[1] != "1":
			continue // not about us
		}
		switch f[0] {
		case "OK":
			name, _ := parameter(f[2:], "user=")
			return name, name != "", nil
		case "FAIL":
			_, temporary := parameter(f[2:], "temp")
			code, _ := parameter(f[2:], "code=")
			if temporary || code == "temp_fail" {
				reason, _ := parameter(f[2:], "reason=")
				return "", false, fmt.Errorf("it can't tell now: %.100q", reason)
			}
			return "", false, nil
		case "CONT":
			return "", false, errors.New("it wants more than a password")
		}
	}
}

func fields(r *bufio.Reader) ([]string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(line, "\n"), "\t"), nil
}

func parameter(list []string, prefix string) (value string, there bool) {
	for _, p := range list {
		if v, ok := strings.CutPrefix(p, prefix); ok {
			return strings.NewReplacer("\x011", "\x01", "\x01t", "\t", "\x01r", "\r", "\x01n", "\n").Replace(v), true
		}
	}
	return "", false
}
