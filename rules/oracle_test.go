package rules

import (
	"net/netip"
	"strings"
	"testing"

	"gatepost/internal/mail"
	"gatepost/rules/access"
)

// The rows are what sendmail 8.17 answered (delay_checks and dnsbl off, skip
// and blocklist_recipients on). Left out, as this version does not have them or
// decides otherwise on purpose:
//   - check_mail for senders whose domain does not resolve: no DNS here;
//   - class R and its networks for clients ("10.9", h.relay.example and its
//     FORGED, TEMP and FAIL variants): relay.domains names recipients only,
//     clients are relay.networks or Connect: lines (rows of our own below);
//   - a%friend@local RELAY: "%" and "!" are never unfolded, but refused;
//   - a@elsewhere@local, <joe>, <> as a recipient, "a@elsewhere"@local: the
//     address grammar refuses them before rules are asked;
//   - u@sub.relay.example, u@sub.virt.example: here ".relay.example" says so;
//   - 127.0.0.1 as a relay: only when relay.networks has it;
//   - delay_checks, Spam:, GreetPause:, ClientRate:, ClientConn:, TLS_*:,
//     lookupdotdomain, relaytofulladdress, virtusertable, mailertable: later.

func oracle(t testing.TB) *Set {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Hostname = "mx1.example.net"
	cfg.Relay = Relay{
		Domains:  []string{"local.example", "example.org", "relay.example", ".relay.example", "virt.example"},
		Networks: []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16"), netip.MustParsePrefix("2001:db8:9::/48")},
		Access:   "testdata/oracle.access",
		Options:  access.DefaultOptions(),
	}
	return load(t, cfg)
}

func load(t testing.TB, cfg Config) *Set {
	t.Helper()
	s, err := Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func session(t testing.TB, ip, name string) *mail.Session {
	t.Helper()
	sess := &mail.Session{Via: mail.ViaSMTP, Name: name}
	if ip != "" {
		sess.Client = netip.AddrPortFrom(netip.MustParseAddr(ip), 4711)
	}
	return sess
}

func address(t testing.TB, s string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(s, true)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func path(t testing.TB, s string) mail.Path { return mail.Path{Address: address(t, s)} }

// show is a verdict in the words of the tables.
func show(v mail.Verdict) string {
	return strings.TrimSpace(v.Action.String() + " " + strings.TrimPrefix(v.Reply.String(), "0 "))
}

func short(v mail.Verdict) string {
	if v.Reply.IsZero() {
		return v.Action.String()
	}
	return show(v)
}

func TestConnect(t *testing.T) {
	const denied = "reject 550 5.7.1 Access denied"
	tests := []struct{ name, client, host, want string }{
		{"domain of the client", "198.18.0.1", "host.cyber.example", denied},
		{"exception below it", "198.18.0.1", "good.cyber.example", "accept"},
		{"network", "192.168.2.9", "x.example", "accept"},
		{"address in it", "192.168.2.7", "x.example", denied},
		{"SKIP ends the walk", "128.32.2.9", "x.example", "continue"},
		{"beside SKIP", "128.32.3.9", "x.example", "accept"},
		{"ERROR with code of both kinds", "203.0.113.5", "x.example", "tempfail 421 4.3.2 too busy"},
		{"ERROR with code", "203.0.113.6", "x.example", "reject 550 5.0.0 go away"},
		{"no keyword", "203.0.113.7", "x.example", "reject 553 5.3.0 ACCEPT"},
		{"quarantine", "203.0.113.8", "x.example", "quarantine"},
		{"discard", "203.0.113.9", "x.example", "discard"},
		{"small letters", "203.0.113.10", "x.example", denied},
		{"text in quotes", "203.0.113.11", "x.example", "reject 554 5.0.0 plain text"},
		{"no name", "203.0.113.20", "", denied},
		{"a name after all", "203.0.113.20", "x.example", "continue"},
		{"no name, other address", "203.0.113.21", "", "continue"},
		{"IPv6 prefix", "2001:db8:1::5", "x.example", "accept"},
		{"IPv6 prefix is by group", "2001:db8:11::5", "x.example", "continue"},
		{"untagged name", "198.18.0.1", "x.untagged.example", denied},
		{"untagged address", "198.51.100.3", "x.example", denied},
		{"IPv4 in IPv6", "::ffff:198.51.100.3", "x.example", denied},
		{"upper case name", "198.18.0.1", "HOST.Cyber.Example", denied},
		{"suffix but no label", "198.18.0.1", "notcyber.example", "continue"},
		{"unix socket", "", "", "continue"},
	}
	s := oracle(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tx := &mail.Transaction{Stage: mail.StageConnect, Session: session(t, tt.client, tt.host)}
			if got := short(s.Decide(tx, nil)); got != tt.want {
				t.Errorf("verdict = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestMail(t *testing.T) {
	const denied = "reject 550 5.7.1 Access denied"
	tests := []struct{ name, from, want string }{
		{"listed address", "spammer@aol.example", denied},
		{"case of the local part", "SPAMMER@AOL.example", denied},
		{"final dot", "spammer@aol.example.", denied},
		{"another address there", "other@aol.example", "continue"},
		{"user at any domain", "free.stealth@anything.test", "reject 550 5.0.0 Spam not accepted"},
		{"domain", "u@another.example", denied},
		{"exception in the domain", "good@another.example", "accept"},
		{"domain below", "u@sub.another.example", denied},
		{"exception is not for the domain below", "good@sub.another.example", denied},
		{"plus wildcard", "plus+x@ext.example", denied},
		{"plus wildcard wants a plus", "plus@ext.example", "continue"},
		{"base of a plus address", "base+y@ext.example", "reject 553 5.1.8 base hit"},
		{"discard", "a@disc.example", "discard"},
		{"quarantine", "a@quar.example", "quarantine"},
		{"null sender", "", "accept"},
		{"untagged", "a@b.untagged.example", denied},
		{"postmaster without domain", "postmaster", "continue"},
	}
	s := oracle(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tx := &mail.Transaction{Stage: mail.StageMail, Session: session(t, "198.18.0.9", "")}
			tx.Envelope.Sender = path(t, tt.from)
			if got := short(s.Decide(tx, nil)); got != tt.want {
				t.Errorf("verdict = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestRcpt(t *testing.T) {
	const (
		relay    = "accept"
		denied   = "reject 550 5.7.1 Relaying denied"
		disabled = "reject 550 5.2.1 Mailbox disabled for this recipient"
		badlocal = "reject 550 5.2.1 Mailbox disabled for badlocal"
		stranger = "198.18.0.9"
	)
	tests := []struct{ name, client, host, to, want string }{
		{"To: RELAY", stranger, "", "u@friend.example", relay},
		{"To: RELAY below", stranger, "", "u@sub.friend.example", relay},
		{"To: SKIP", stranger, "", "u@skipme.friend.example", denied},
		{"elsewhere", stranger, "", "u@elsewhere.example", denied},
		{"upper case and final dot", stranger, "", "u@FRIEND.example.", relay},
		{"ours", stranger, "", "u@local.example", relay},
		{"ours, second", stranger, "", "u@relay.example", relay},
		{"below, with a dot entry", stranger, "", "u@sub.relay.example", relay},
		{"below, without", stranger, "", "u@sub.virt.example", denied},
		{"suffix but no label", stranger, "", "u@notrelay.example", denied},
		{"user@ in a domain of ours", stranger, "", "badlocal@local.example", badlocal},
		{"user@ with detail", stranger, "", "badlocal+x@local.example", badlocal},
		{"user@ elsewhere", stranger, "", "badlocal@elsewhere.example", denied},
		{"address", stranger, "", "user@example.org", disabled},
		{"address with detail", stranger, "", "user+tag@example.org", disabled},
		{"others there", stranger, "", "other@example.org", relay},
		{"blocked host of ours", stranger, "", "u@host.local.example", disabled},
		{"untagged", stranger, "", "u@untagged.example", disabled},
		{"percent hop", stranger, "", "a%elsewhere.example@local.example", denied},
		{"percent hop to a friend", stranger, "", "a%friend.example@local.example", denied},
		{"bang hop", stranger, "", "elsewhere.example!a@local.example", denied},
		{"bang hop, To: RELAY", stranger, "", "elsewhere.example!a@friend.example", denied},
		{"percent hop of a trusted client", "10.9.1.1", "", "a%elsewhere.example@local.example", relay},
		{"literal", stranger, "", "u@[192.0.2.1]", denied},
		{"literal that looks like a relay network", stranger, "", "u@[192.168.2.9]", denied},
		{"literal IPv6", stranger, "", "u@[IPv6:2001:db8:1::5]", denied},
		{"postmaster", stranger, "", "Postmaster", relay},
		{"Connect: RELAY", "192.168.2.9", "", "u@elsewhere.example", relay},
		{"trusted network", "10.9.1.1", "", "u@elsewhere.example", relay},
		{"trusted network, IPv4 in IPv6", "::ffff:10.9.1.1", "", "u@elsewhere.example", relay},
		{"trusted network, IPv6", "2001:db8:9::1", "", "u@elsewhere.example", relay},
		{"beside it", "10.10.1.1", "", "u@elsewhere.example", denied},
		{"Connect: RELAY, second", "128.32.9.9", "", "u@elsewhere.example", relay},
		{"Connect: SKIP", "128.32.2.9", "", "u@elsewhere.example", denied},
		{"Connect: REJECT does not relay", "192.168.2.7", "", "u@elsewhere.example", denied},
		{"verified name", "198.18.0.77", "h.relayhost.example", "u@elsewhere.example", relay},
		{"Connect: OK does not relay", "198.18.0.77", "good.cyber.example", "u@elsewhere.example", denied},
		{"relay domain as a client", "198.18.0.77", "h.relay.example", "u@elsewhere.example", denied},
		{"blocked for trusted clients, too", "10.9.1.1", "", "user@example.org", disabled},
		{"loopback is not trusted by itself", "127.0.0.1", "localhost", "u@elsewhere.example", denied},
		{"unix socket", "", "", "u@elsewhere.example", denied},
	}
	s := oracle(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tx := &mail.Transaction{Stage: mail.StageRcpt, Session: session(t, tt.client, tt.host)}
			rcpt := path(t, tt.to)
			if got := short(s.Decide(tx, &rcpt)); got != tt.want {
				t.Errorf("verdict = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestRcptOtherEntries(t *testing.T) {
	s := oracle(t)
	tests := []struct {
		name string
		via  mail.Via
		to   string
		want string
	}{
		{"an MTA keeps its own relay rules", mail.ViaMilter, "u@elsewhere.example", "continue"},
		{"a file has none", mail.ViaScan, "u@elsewhere.example", "continue"},
		{"the map acts for an MTA, too", mail.ViaMilter, "user@example.org", "reject 550 5.2.1 Mailbox disabled for this recipient"},
		{"an unknown entry is no way around", "", "u@elsewhere.example", "reject 550 5.7.1 Relaying denied"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sess := session(t, "198.18.0.9", "")
			sess.Via = tt.via
			rcpt := path(t, tt.to)
			if got := short(s.Decide(&mail.Transaction{Stage: mail.StageRcpt, Session: sess}, &rcpt)); got != tt.want {
				t.Errorf("verdict = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestRcptTrustedByTheProxy(t *testing.T) {
	sess := session(t, "198.18.0.9", "")
	sess.Trusted = true
	rcpt := path(t, "u@elsewhere.example")
	if got := short(oracle(t).Decide(&mail.Transaction{Stage: mail.StageRcpt, Session: sess}, &rcpt)); got != "accept" {
		t.Errorf("verdict = %q, want accept", got)
	}
}

func TestRoutes(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Relay.Domains = []string{"example.org", "unrouted.example"}
	cfg.Relay.Networks = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	cfg.Routed = func(a mail.Address) bool { return a.Domain == "example.org" }
	cfg.Refused = func(a mail.Address) mail.Reply {
		switch a.Local {
		case "gone":
			return mail.Reply{Code: 550, Detail: "1.6", Text: "moved"}
		case "later":
			return mail.Reply{Code: 450, Detail: "7.0", Text: "in a while"}
		}
		return mail.Reply{}
	}
	s := load(t, cfg)
	tests := []struct{ name, client, to, want string }{
		{"routed", "198.18.0.9", "u@example.org", "accept"},
		{"ours without a route is our omission", "198.18.0.9", "u@unrouted.example", "tempfail 451 4.4.4 No route to this domain is configured here"},
		{"anywhere without a route", "10.0.0.1", "u@elsewhere.example", "reject 550 5.4.4 This gateway has no route to elsewhere.example"},
		{"a stranger learns nothing of routes", "198.18.0.9", "u@elsewhere.example", "reject 550 5.7.1 Relaying denied"},
		{"a route that refuses", "198.18.0.9", "gone@example.org", "reject 550 5.1.6 moved"},
		{"a route that puts off", "198.18.0.9", "later@example.org", "tempfail 450 4.7.0 in a while"},
		{"nor of those", "198.18.0.9", "gone@elsewhere.example", "reject 550 5.7.1 Relaying denied"},
		{"postmaster is always taken", "198.18.0.9", "postmaster", "accept"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rcpt := path(t, tt.to)
			tx := &mail.Transaction{Stage: mail.StageRcpt, Session: session(t, tt.client, "")}
			if got := short(s.Decide(tx, &rcpt)); got != tt.want {
				t.Errorf("verdict = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestReasonNamesTheLine(t *testing.T) {
	s := oracle(t)
	sess := session(t, "198.18.0.9", "")
	tx := &mail.Transaction{Stage: mail.StageMail, Session: sess}
	tx.Envelope.Sender = path(t, "Spammer@aol.example")
	if got, want := s.Decide(tx, nil).Reason, "access testdata/oracle.access:19 From:spammer@aol.example REJECT"; got != want {
		t.Errorf("reason = %q, want %q", got, want)
	}
	rcpt := path(t, "u@local.example")
	if got, want := s.Decide(&mail.Transaction{Stage: mail.StageRcpt, Session: sess}, &rcpt).Reason, "relay.domains has local.example"; got != want {
		t.Errorf("reason = %q, want %q", got, want)
	}
}

// IDN domains are the same in both of their forms, wherever they stand.
func TestInternationalDomains(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Relay.Domains = []string{"bücher.example"}
	s := load(t, cfg)
	for _, to := range []string{"u@bücher.example", "u@xn--bcher-kva.example", "u@XN--BCHER-KVA.example"} {
		rcpt := path(t, to)
		if got := short(s.Decide(&mail.Transaction{Stage: mail.StageRcpt, Session: session(t, "198.18.0.9", "")}, &rcpt)); got != "accept" {
			t.Errorf("%s: verdict = %q, want accept", to, got)
		}
	}
}

func TestOtherStagesHaveNoOpinion(t *testing.T) {
	s := oracle(t)
	for _, stage := range []mail.Stage{mail.StageHelo, mail.StageData} {
		tx := &mail.Transaction{Stage: stage, Session: session(t, "192.168.2.7", "")}
		if got := short(s.Decide(tx, nil)); got != "continue" {
			t.Errorf("%v: verdict = %q, want continue", stage, got)
		}
	}
}
