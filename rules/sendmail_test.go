package rules

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gatepost/internal/mail"
	"gatepost/rules/access"
)

// tables loads a configuration with an access map and a relay-domains file.
func tables(t *testing.T, text, relayDomains string, change func(*Relay)) *Set {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cfg := DefaultConfig()
	cfg.Hostname = "mx1.example.net"
	cfg.Relay.Domains = []string{"local.example"}
	cfg.Relay.Access = write("access", text)
	if relayDomains != "" {
		cfg.Relay.RelayDomainsFile = write("relay-domains", relayDomains)
	}
	if change != nil {
		change(&cfg.Relay)
	}
	return load(t, cfg)
}

// With delay_checks what is said of clients and senders is said at RCPT, and
// not to everybody.
func TestDelayChecks(t *testing.T) {
	const text = `Connect:bad.example	REJECT
Connect:drop.example	DISCARD
From:spam.example	REJECT
From:white.example	OK
Spam:abuse@	FRIEND
Spam:hater@local.example	HATER
To:blocked@	REJECT
`
	const (
		denied  = "reject 550 5.7.1 Access denied"
		blocked = "reject 550 5.2.1 Mailbox disabled for this recipient"
	)
	tests := []struct {
		mode                         access.DelayChecks
		name, client, from, to, user string
		rcpt, message                string
	}{
		{mode: access.DelayPlain, name: "client", client: "h.bad.example", from: "u@x.example", to: "u@local.example", rcpt: denied, message: "accept"},
		{mode: access.DelayPlain, name: "sender", client: "h.x.example", from: "u@spam.example", to: "u@local.example", rcpt: denied, message: "accept"},
		{mode: access.DelayPlain, name: "a sender lets the client pass", client: "h.bad.example", from: "u@white.example", to: "u@local.example", rcpt: "accept", message: "accept"},
		{mode: access.DelayPlain, name: "the null sender does not", client: "h.bad.example", from: "", to: "u@local.example", rcpt: denied, message: "accept"},
		{mode: access.DelayPlain, name: "a user who is logged in", client: "h.bad.example", from: "u@spam.example", to: "u@elsewhere.example", user: "joe", rcpt: "accept", message: "accept"},
		{mode: access.DelayPlain, name: "blocked all the same", client: "h.x.example", from: "u@x.example", to: "blocked@local.example", user: "joe", rcpt: blocked, message: "accept"},
		{mode: access.DelayPlain, name: "no open relay for a white sender", client: "h.x.example", from: "u@white.example", to: "u@elsewhere.example", rcpt: "reject 550 5.7.1 Relaying denied", message: "accept"},
		{mode: access.DelayPlain, name: "dropped at its end", client: "h.drop.example", from: "u@x.example", to: "u@local.example", rcpt: "accept", message: "discard"},
		{mode: access.DelayFriend, name: "friend", client: "h.bad.example", from: "u@spam.example", to: "abuse@local.example", rcpt: "accept", message: "accept"},
		{mode: access.DelayFriend, name: "no friend", client: "h.bad.example", from: "u@x.example", to: "u@local.example", rcpt: denied, message: "accept"},
		{mode: access.DelayFriend, name: "a friend gets what is dropped", client: "h.drop.example", from: "u@x.example", to: "abuse@local.example", rcpt: "accept", message: "accept"},
		{mode: access.DelayHater, name: "no hater", client: "h.bad.example", from: "u@spam.example", to: "u@local.example", rcpt: "accept", message: "accept"},
		{mode: access.DelayHater, name: "hater", client: "h.bad.example", from: "u@x.example", to: "hater@local.example", rcpt: denied, message: "accept"},
	}
	for _, tt := range tests {
		t.Run(string(tt.mode)+" "+tt.name, func(t *testing.T) {
			s := tables(t, text, "", func(r *Relay) { r.DelayChecks = tt.mode })
			sess := session(t, "198.18.0.9", tt.client)
			sess.User = tt.user
			tx := &mail.Transaction{Stage: mail.StageConnect, Session: sess}
			if got := short(s.Decide(tx, nil)); got != "continue" {
				t.Errorf("at connect: %s", got)
			}
			tx.Stage, tx.Envelope.Sender = mail.StageMail, path(t, tt.from)
			if got := s.Decide(tx, nil).Action; got > mail.Accept {
				t.Errorf("at MAIL: %s", got)
			}
			tx.Stage = mail.StageRcpt
			rcpt := path(t, tt.to)
			if got := short(s.Decide(tx, &rcpt)); got != tt.rcpt {
				t.Errorf("at RCPT: %s, want %s", got, tt.rcpt)
			}
			tx.Stage, tx.Envelope.Recipients = mail.StageMessage, []mail.Path{rcpt}
			if got := s.Decide(tx, nil).Action; tt.rcpt == "accept" && got.String() != tt.message {
				t.Errorf("at the end: %s, want %s", got, tt.message)
			}
		})
	}
}

// Two recipients of one message need not be treated the same.
func TestDelayChecksDiffer(t *testing.T) {
	s := tables(t, "Connect:drop.example\tDISCARD\nSpam:abuse@\tFRIEND\n", "", func(r *Relay) { r.DelayChecks = access.DelayFriend })
	tx := &mail.Transaction{Stage: mail.StageMessage, Session: session(t, "198.18.0.9", "h.drop.example")}
	tx.Envelope.Sender = path(t, "u@x.example")
	tx.Envelope.Recipients = []mail.Path{path(t, "u@local.example"), path(t, "abuse@local.example")}
	v := s.Decide(tx, nil)
	if got := v.For(0).Action.String() + " " + v.For(1).Action.String(); got != "discard accept" {
		t.Errorf("actions %s, want discard accept", got)
	}
}

// sendmail's relay-domains speaks of recipients and of clients, of these only
// by an address or a verified name.
func TestRelayDomainsFile(t *testing.T) {
	const list = "relay.example # a customer\n10.9\nIPv6:2001:db8:9\n"
	const denied = "reject 550 5.7.1 Relaying denied"
	tests := []struct {
		name, client, host string
		resolve            mail.Resolve
		to, want           string
	}{
		{"recipient", "198.18.0.9", "", "", "u@relay.example", "accept"},
		{"recipient below", "198.18.0.9", "", "", "u@a.relay.example", "accept"},
		{"suffix but no label", "198.18.0.9", "x.example", mail.ResolveOK, "u@notrelay.example", denied},
		{"network", "10.9.1.1", "", mail.ResolveFail, "u@elsewhere.example", "accept"},
		{"beginning but no number", "10.90.1.1", "x.example", mail.ResolveOK, "u@elsewhere.example", denied},
		{"network of IPv6", "2001:db8:9::1", "", mail.ResolveFail, "u@elsewhere.example", "accept"},
		{"verified name", "198.18.0.9", "h.relay.example", mail.ResolveOK, "u@elsewhere.example", "accept"},
		{"forged name", "198.18.0.9", "", mail.ResolveForged, "u@elsewhere.example", denied + ". IP name possibly forged [198.18.0.9]"},
		{"no name", "198.18.0.9", "", mail.ResolveFail, "u@elsewhere.example", denied + ". IP name lookup failed [198.18.0.9]"},
		{"name not known now", "198.18.0.9", "", mail.ResolveTemp, "u@elsewhere.example", "tempfail 450 4.4.0 Relaying temporarily denied. Cannot resolve PTR record for 198.18.0.9"},
		{"a domain of ours is no right of clients", "198.18.0.9", "h.local.example", mail.ResolveOK, "u@elsewhere.example", denied},
		{"route through it", "198.18.0.9", "x.example", mail.ResolveOK, "a%elsewhere.example@relay.example", denied},
		{"route to it", "198.18.0.9", "x.example", mail.ResolveOK, "a%relay.example@local.example", denied},
	}
	s := tables(t, "", list, nil)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sess := session(t, tt.client, tt.host)
			sess.Resolve = tt.resolve
			rcpt := path(t, tt.to)
			if got := short(s.Decide(&mail.Transaction{Stage: mail.StageRcpt, Session: sess}, &rcpt)); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
	only := tables(t, "", list, func(r *Relay) { r.RelayHostsOnly = true })
	rcpt := path(t, "u@a.relay.example")
	if got := short(only.Decide(&mail.Transaction{Stage: mail.StageRcpt, Session: session(t, "198.18.0.9", "")}, &rcpt)); got != denied {
		t.Errorf("relay_hosts_only: %s", got)
	}
}

// TLS_Clt: is asked at MAIL, of our own listeners' clients.
func TestClientTLS(t *testing.T) {
	s := tables(t, "TLS_Clt:v.example\tPERM+VERIFY:128\nTLS_Clt:192.0.2\tENCR:128\nFrom:v.example\tOK\n", "", nil)
	strong := &mail.TLS{Cipher: "TLS_AES_256_GCM_SHA384", Subject: "CN=v.example,O=x", Verified: true}
	tests := []struct {
		name, client, host string
		via                mail.Via
		tls                *mail.TLS
		want               string
	}{
		{"in clear", "198.18.0.9", "v.example", mail.ViaSMTP, nil, "reject 554 5.7.0 authentication required"},
		{"without a certificate", "198.18.0.9", "v.example", mail.ViaSMTP, &mail.TLS{Cipher: "TLS_AES_256_GCM_SHA384"}, "reject 554 5.7.0 authentication failed"},
		{"verified", "198.18.0.9", "v.example", mail.ViaSMTP, strong, "continue"},
		{"an MTA judges its own", "198.18.0.9", "v.example", mail.ViaMilter, nil, "continue"},
		{"weak", "192.0.2.1", "", mail.ViaSMTP, &mail.TLS{Cipher: "TLS_RSA_WITH_3DES_EDE_CBC_SHA"}, "tempfail 454 4.7.0 encryption too weak 0 less than 128"},
		{"strong enough", "192.0.2.1", "", mail.ViaSMTP, &mail.TLS{Cipher: "TLS_CHACHA20_POLY1305_SHA256"}, "continue"},
		{"nothing is wanted", "198.18.0.9", "", mail.ViaSMTP, nil, "continue"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sess := session(t, tt.client, tt.host)
			sess.Via, sess.TLS = tt.via, tt.tls
			tx := &mail.Transaction{Stage: mail.StageMail, Session: sess}
			tx.Envelope.Sender = path(t, "u@x.example")
			if got := short(s.Decide(tx, nil)); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

func TestCommonName(t *testing.T) {
	for subject, want := range map[string]string{
		"CN=mx.example,O=x":   "mx.example",
		"O=x,CN=mx.example":   "mx.example",
		`CN=a\,CN=mx.example`: "",
		`O="a,CN=mx.example"`: "",
		"O=x+CN=mx.example":   "",
		"OCN=mx.example":      "",
		"":                    "",
	} {
		if got := commonName(subject); got != want {
			t.Errorf("%s: %q, want %q", subject, got, want)
		}
	}
}

// What a mailbox's SKIP says of a sender differs from sendmail, which would
// refuse it with the text SKIP.
func TestSkipOfMailboxes(t *testing.T) {
	s := tables(t, "From:u@x.example\tSKIP\nFrom:x.example\tREJECT\nFrom:v@\tSKIP\nTo:w@local.example\tSKIP\nTo:local.example\tREJECT\n", "", nil)
	tx := &mail.Transaction{Stage: mail.StageMail, Session: session(t, "198.18.0.9", "")}
	for from, want := range map[string]mail.Action{"u@x.example": mail.Reject, "v@y.example": mail.Continue} {
		tx.Envelope.Sender = path(t, from)
		if got := s.Decide(tx, nil).Action; got != want {
			t.Errorf("%s: %s, want %s", from, got, want)
		}
	}
	tx.Stage = mail.StageRcpt
	for to, want := range map[string]mail.Action{"w@local.example": mail.Accept, "x@local.example": mail.Reject} {
		rcpt := path(t, to)
		if got := s.Decide(tx, &rcpt).Action; got != want {
			t.Errorf("%s: %s, want %s", to, got, want)
		}
	}
}

func TestLimitsOfClients(t *testing.T) {
	s := tables(t, "ClientRate:\t10\nClientRate:192.0.2\t0\nClientConn:192.0.2\t3\nGreetPause:x.example\t2500\n", "", nil)
	sess := session(t, "192.0.2.1", "h.x.example")
	if n, why, ok := s.ClientRate(sess); n != 0 || !ok || !strings.HasSuffix(why, ":2 ClientRate:192.0.2 0") {
		t.Errorf("rate %d, %q, %v", n, why, ok)
	}
	if n, _, ok := s.ClientRate(session(t, "198.18.0.1", "")); n != 10 || !ok {
		t.Errorf("rate of others %d, %v", n, ok)
	}
	if n, _, ok := s.ClientConnections(sess); n != 3 || !ok {
		t.Errorf("connections %d, %v", n, ok)
	}
	if _, _, ok := s.ClientConnections(session(t, "198.18.0.1", "")); ok {
		t.Error("connections of others have a limit")
	}
	if d, _, ok := s.GreetPause(sess); d.Milliseconds() != 2500 || !ok {
		t.Errorf("pause %v, %v", d, ok)
	}
}
