package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/state"
	"gatepost/proxy/forward"
)

// What a stranger would try; all of it is set aside for examples (RFC 2606,
// RFC 5737).
const (
	strangerAddress = "192.0.2.1"
	strangerName    = "stranger.example.net"
	strangerSender  = "stranger@example.net"
	strangerTo      = "relay-test@relay-test.example.org"
)

// networks looks who may relay anything.
func (d *doctor) networks(context.Context) {
	for _, n := range d.cfg.Rules.Relay.Networks {
		addr := n.Addr().Unmap()
		wide := addr.Is4() && n.Bits() < 8 || addr.Is6() && n.Bits() < 20
		switch {
		case n.Bits() == 0:
			d.fail("relay", "name your own networks in relay.networks", "%s is everybody", n)
		case wide:
			d.fail("relay", "name your own networks in relay.networks", "%s is a large part of the Internet", n)
		case !addr.IsPrivate() && !addr.IsLoopback() && addr.Is4() && n.Bits() < 16:
			d.warn("relay", "name your own networks in relay.networks", "%s is %d addresses of the Internet: are all of them yours?", n, 1<<(32-n.Bits()))
		}
	}
}

// relayRules asks our rules what they would say to a stranger.
func (d *doctor) relayRules(ctx context.Context) {
	alone := *d.cfg
	alone.Filters = nil
	routes, err := forward.New(d.cfg.Forward, d.log)
	if err == nil {
		defer routes.Close()
		var judge *ruled
		if judge, err = newJudge(&alone, routes, tools{store: state.NewMemory(nil), log: d.log}); err == nil {
			d.asStranger(ctx, judge.Handler())
			return
		}
	}
	d.fail("relay", "gatepost check", "the rules can't be asked: %v", err)
}

func (d *doctor) asStranger(ctx context.Context, h mail.Handler) {
	defer h.Close()
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	client := netip.AddrPortFrom(netip.MustParseAddr(strangerAddress), 25)
	tx := &mail.Transaction{Session: &mail.Session{Via: mail.ViaSMTP, Client: client, Helo: strangerName, ESMTP: true, Role: "mx", Start: time.Now()}, Start: time.Now()}
	to, _ := mail.ParseAddress(strangerTo, true)
	from, _ := mail.ParseAddress(strangerSender, true)
	tx.ID = mail.NewID(time.Now())
	verdict := h.Connect(ctx, tx)
	for _, stage := range []func() mail.Verdict{
		func() mail.Verdict { tx.Stage = mail.StageHelo; return h.Helo(ctx, tx) },
		func() mail.Verdict {
			tx.Stage, tx.Envelope.Sender = mail.StageMail, mail.Path{Address: from}
			return h.Mail(ctx, tx)
		},
		func() mail.Verdict {
			tx.Stage = mail.StageRcpt
			return h.Rcpt(ctx, tx, mail.Path{Address: to})
		},
	} {
		if verdict.Action >= mail.TempFail {
			break
		}
		verdict = stage()
	}
	if verdict.Action < mail.TempFail {
		d.fail("relay", "look at relay.networks, relay.domains and the access map: gatepost access test", "an open relay: a stranger may send to %s", strangerTo)
		return
	}
	d.ok("relay", "the rules tell a stranger: %s", verdict.Reply)
}

// relayListeners tries it on the listeners that run.
func (d *doctor) relayListeners(ctx context.Context) {
	if d.status == nil {
		return
	}
	for _, l := range d.cfg.Listeners {
		if l.Role == "submissions" { // TLS at once, and nobody without a password
			continue
		}
		for _, open := range d.status.Listeners {
			if open.Name == l.Name {
				d.relayListener(ctx, l.Name, open.Address)
			}
		}
	}
}

func (d *doctor) relayListener(ctx context.Context, name, address string) {
	at, ok := d.strangersWay(address)
	if !ok {
		d.ok("relay", "%s was not tried: every address of this host is in relay.networks", name)
		return
	}
	c, err := dialFor(ctx, "tcp", at)
	if err != nil {
		d.fail("listener", "look at the log, and at firewalls", "%s: %v", name, err)
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(6 * lookTime)) // greet_pause and greylists may take their time
	talk := newSMTPTalk(c)
	code, text := talk.read()
	for _, command := range []string{"EHLO " + strangerName, "MAIL FROM:<" + strangerSender + ">", "RCPT TO:<" + strangerTo + ">"} {
		if code/100 != 2 {
			break
		}
		code, text = talk.ask(command)
	}
	_, _ = talk.ask("QUIT")
	switch code / 100 {
	case 2:
		d.fail("relay", "look at relay.networks, relay.domains and the access map: gatepost access test", "%s is an open relay: it takes mail for %s", name, strangerTo)
	case 4, 5:
		d.ok("relay", "%s tells a stranger: %s", name, text)
	default:
		d.fail("listener", "look at the log", "%s: %s", name, text)
	}
}

// strangersWay is how a listener can be reached from an address that may not
// relay: what comes to an address of this host comes from it.
func (d *doctor) strangersWay(listens string) (address string, ok bool) {
	host, port, err := net.SplitHostPort(listens)
	if err != nil {
		return "", false
	}
	addrs := localAddresses()
	if ip, err := netip.ParseAddr(host); err == nil && !ip.IsUnspecified() {
		addrs = []netip.Addr{ip.Unmap()}
	}
	i := slices.IndexFunc(addrs, func(a netip.Addr) bool { return !a.IsLinkLocalUnicast() && !isOurs(d.cfg, a) })
	if i < 0 {
		return "", false
	}
	return net.JoinHostPort(fmt.Sprint(addrs[i]), port), true
}
