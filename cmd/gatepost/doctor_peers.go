package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"gatepost/filters"
	"gatepost/internal/console"
	"gatepost/internal/state"
	"gatepost/proxy/forward"
)

// filters asks the daemons behind them whether they are there.
func (d *doctor) filters(ctx context.Context) {
	b := builder{tools: tools{store: state.NewMemory(nil), log: d.log}, cfg: d.cfg}
	for _, f := range d.cfg.Filters {
		if f.Rates != nil || f.Blocklist != nil || f.Greylist != nil || f.DNSBL != nil {
			continue // the store and the DNS are looked at elsewhere
		}
		made, err := b.filter(f)
		if err != nil {
			d.fail("filter", "gatepost check", "%s: %v", f.Name, err)
			continue
		}
		step := made.Step()
		p, ok := step.Filter.(filters.Pinger)
		if !ok {
			p, ok = step.Session.(filters.Pinger)
		}
		if !ok {
			d.ok("filter", "%s needs no daemon", f.Name)
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, lookTime)
		err = p.Ping(ctx)
		cancel()
		if err != nil {
			d.fail("filter", fmt.Sprintf("start its daemon, or look at [filter.%s] address; its on_error is %s", f.Name, step.WithDefaults().OnError), "%s does not answer: %v", f.Name, err)
			continue
		}
		d.ok("filter", "%s answers", f.Name)
	}
}

// store looks at windows, lists, rates and greylists.
func (d *doctor) store(ctx context.Context) {
	if d.status != nil {
		if away := d.status.State.Away; away != "" {
			d.fail("store", "look at its daemon, and at the key state", "%s is away: %s", d.status.State.Name, away)
			return
		}
		d.ok("store", "%s answers the gateway", d.status.State.Name)
		return
	}
	err := d.a.withStore(d.cfg, false, func(ctx context.Context, s console.Store) error {
		_, err := s.List(ctx, state.Windows, "", 1)
		return err
	})
	if err != nil {
		d.fail("store", "look at its daemon, and at the key state", "%v", err)
		return
	}
	d.ok("store", "can be used")
}

// directories looks whether those can be reached that know recipients or users.
func (d *doctor) directories(ctx context.Context) {
	for _, name := range slices.Sorted(maps.Keys(d.cfg.Recipients.LDAP)) {
		for _, server := range d.cfg.Recipients.LDAP[name].Servers {
			network, address := ldapAddress(server)
			if c, err := dialFor(ctx, network, address); err != nil {
				d.fail("ldap", "look at [ldap."+name+"] servers, and at firewalls", "%s: %v", server, err)
			} else {
				_ = c.Close()
				d.ok("ldap", "%s can be reached", server)
			}
		}
	}
}

func ldapAddress(server string) (network, address string) {
	u, err := url.Parse(server)
	switch {
	case err != nil:
		return "tcp", server
	case u.Scheme == "ldapi":
		path, _ := url.PathUnescape(u.Host + u.Path)
		return "unix", path
	case u.Port() != "":
		return "tcp", u.Host
	case u.Scheme == "ldaps":
		return "tcp", net.JoinHostPort(u.Hostname(), "636")
	}
	return "tcp", net.JoinHostPort(u.Hostname(), "389")
}

func dialFor(ctx context.Context, network, address string) (net.Conn, error) {
	return (&net.Dialer{Timeout: lookTime}).DialContext(ctx, network, address)
}

// mostHostsAsked bounds how many next hops are looked at: tables may be long.
const mostHostsAsked = 50

// nextHops greets those that routes name.
func (d *doctor) nextHops(ctx context.Context) {
	tlsOf := make(map[string]forward.TLS)
	byMX := false
	add := func(r forward.Route) {
		for _, to := range r.To {
			if strings.HasPrefix(to, "mx") {
				byMX = true
			} else if strings.Contains(to, "://") {
				tlsOf[to] = r.TLS
			}
		}
	}
	for _, r := range d.cfg.Forward.Routes {
		add(r)
	}
	for _, e := range d.cfg.Forward.Entries {
		add(e.Route)
	}
	hosts := slices.Sorted(maps.Keys(tlsOf))
	for _, to := range hosts[:min(len(hosts), mostHostsAsked)] {
		d.nextHop(ctx, to, tlsOf[to])
	}
	if len(hosts) > mostHostsAsked {
		d.warn("next hop", "look at gatepost status", "%d more were not asked", len(hosts)-mostHostsAsked)
	}
	if byMX {
		d.ok("next hop", "some mail goes where MX records lead; nobody was asked")
	}
}

func (d *doctor) nextHop(ctx context.Context, to string, want forward.TLS) {
	const do = "look at the route's to, at firewalls, and at the log of that host"
	network, address := hopAddress(to)
	c, err := dialFor(ctx, network, address)
	if err != nil {
		d.fail("next hop", do, "%s: %v", to, err)
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(lookTime))
	if strings.HasPrefix(to, "smtps") {
		host, _, _ := net.SplitHostPort(address)
		c = tls.Client(c, &tls.Config{ServerName: host, InsecureSkipVerify: true}) // whether it talks; delivery checks who it is
	}
	verb := "EHLO"
	if strings.HasPrefix(to, "lmtp") {
		verb = "LHLO"
	}
	talk := newSMTPTalk(c)
	code, text := talk.read()
	if code == 220 {
		code, text = talk.ask(verb + " " + d.cfg.Hostname)
	}
	_, _ = talk.ask("QUIT")
	switch {
	case code != 220 && code != 250:
		d.fail("next hop", do, "%s says: %s", to, text)
	case (want == forward.TLSRequired || want == forward.TLSVerify) && !strings.HasPrefix(to, "smtps") && !strings.Contains(strings.ToUpper(text), "STARTTLS"):
		d.fail("next hop", "have it offer STARTTLS, or change tls of the route", "%s offers no TLS, and the route wants it", to)
	default:
		d.ok("next hop", "%s answers", to)
	}
}

// hopAddress is that of a host of a route.
func hopAddress(to string) (network, address string) {
	scheme, rest, _ := strings.Cut(to, "://")
	if scheme == "lmtp+unix" {
		return "unix", rest
	}
	if _, _, err := net.SplitHostPort(rest); err == nil {
		return "tcp", rest
	}
	port := map[string]string{"lmtp": "24", "smtps": "465"}[scheme]
	if port == "" {
		port = "25"
	}
	return "tcp", net.JoinHostPort(strings.Trim(rest, "[]"), port)
}

// smtpTalk speaks SMTP to a host that may be anything.
type smtpTalk struct {
	c net.Conn
	r *bufio.Reader
}

const (
	longestLine = 4096
	mostLines   = 100 // of an answer
)

func newSMTPTalk(c net.Conn) smtpTalk { return smtpTalk{c, bufio.NewReaderSize(c, longestLine)} }

func (d smtpTalk) ask(command string) (code int, text string) {
	if _, err := d.c.Write([]byte(command + "\r\n")); err != nil {
		return 0, err.Error()
	}
	return d.read()
}

// read returns code 0 where there was no answer; the text then says why.
func (d smtpTalk) read() (code int, text string) {
	var all []string
	for range mostLines {
		b, err := d.r.ReadSlice('\n')
		if err != nil {
			return 0, "no answer: " + err.Error()
		}
		s := strings.TrimRight(string(b), "\r\n")
		if _, err := fmt.Sscanf(s, "%3d", &code); err != nil {
			return 0, "no SMTP: " + s
		}
		all = append(all, s)
		if len(s) < 4 || s[3] != '-' {
			return code, strings.Join(all, " ")
		}
	}
	return 0, errors.New("an endless answer").Error()
}
