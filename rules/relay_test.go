package rules

import (
	"net/netip"
	"strings"
	"testing"

	"gatepost/internal/mail"
)

// client is who asks to relay.
type client func(*mail.Session)

func from(addr string) client {
	return func(s *mail.Session) { s.Client = netip.AddrPortFrom(netip.MustParseAddr(addr), 40000) }
}

func called(name string) client {
	return func(s *mail.Session) { s.Name, s.PTR, s.Resolve = name, name, mail.ResolveOK }
}

func withWindow(s *mail.Session) { s.Window = true }
func withTLS(s *mail.Session)    { s.TLS = &mail.TLS{Version: "TLSv1.3"} }
func trusted(s *mail.Session)    { s.Trusted = true }

func loggedIn(s *mail.Session) {
	withTLS(s)
	s.User, s.AuthMech = "joe", "PLAIN"
}

// inClear is what the proxy never lets happen.
func inClear(s *mail.Session) { s.User, s.AuthMech = "joe", "PLAIN" }

func withCert(s *mail.Session) {
	s.TLS = &mail.TLS{Version: "TLSv1.3", Subject: "CN=relay.partner.example", Verified: true, Relay: true}
}

func verifiedOnly(s *mail.Session) {
	s.TLS = &mail.TLS{Version: "TLSv1.3", Subject: "CN=other.partner.example", Verified: true}
}

// of is the session of a client on a listener.
func of(role string, who ...client) *mail.Session {
	s := &mail.Session{Role: role, Via: mail.ViaSMTP, Helo: "c.example"}
	from("198.51.100.9")(s)
	for _, w := range who {
		w(s)
	}
	return s
}

func relaying(t *testing.T) *Set {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Hostname = "mx.b.example"
	cfg.Authenticates = true
	cfg.Relay.Domains = []string{"b.example"}
	cfg.Relay.Networks = []netip.Prefix{netip.MustParsePrefix("130.85.0.0/16"), netip.MustParsePrefix("2001:db8:1::/48")}
	cfg.Relay.Names = []string{".umbc.example", "one.partner.example"}
	cfg.Relay.Tenant = map[string]Tenant{
		"stamped": {Networks: []netip.Prefix{netip.MustParsePrefix("40.92.0.0/15")}, Header: "X-MS-Exchange-CrossTenant-Id", Values: []string{"8f1c-own"}},
		"signed":  {Networks: []netip.Prefix{netip.MustParsePrefix("35.190.247.0/24")}, DKIM: []string{"b.example"}},
		"both":    {Networks: []netip.Prefix{netip.MustParsePrefix("35.190.248.0/24")}, Header: "X-Tenant", Values: []string{"7"}, DKIM: []string{"B.example"}},
	}
	s, err := Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func rcpt(s *Set, sess *mail.Session, to string, before ...string) mail.Verdict {
	tx := &mail.Transaction{Stage: mail.StageRcpt, Session: sess}
	for _, b := range before {
		a, _ := mail.ParseAddress(b, false)
		tx.Envelope.Recipients = append(tx.Envelope.Recipients, mail.Path{Address: a})
	}
	a, _ := mail.ParseAddress(to, false)
	return s.Decide(tx, &mail.Path{Address: a})
}

// TestPorts is the policy of ports: who may relay on 25, 587, 465 and on the
// listener of our own hosts.
func TestPorts(t *testing.T) {
	s := relaying(t)
	tests := []struct {
		name string
		who  []client
		// what is said to a foreign recipient on mx, submission, submissions, relay
		foreign [4]string
		own     [4]string
	}{
		{"a stranger", nil, [4]string{"550", "530", "550", "550"}, [4]string{"ok", "530", "ok", "550"}},
		{"of the network", []client{from("130.85.3.4")}, [4]string{"ok", "530", "ok", "ok"}, [4]string{"ok", "530", "ok", "ok"}},
		{"of the network, IPv6", []client{from("2001:db8:1::5")}, [4]string{"ok", "530", "ok", "ok"}, [4]string{"ok", "530", "ok", "ok"}},
		{"of the network, mapped", []client{from("::ffff:130.85.3.4")}, [4]string{"ok", "530", "ok", "ok"}, [4]string{"ok", "530", "ok", "ok"}},
		{"of the network, over TLS", []client{from("130.85.3.4"), withTLS}, [4]string{"ok", "530", "ok", "ok"}, [4]string{"ok", "530", "ok", "ok"}},
		{"trusted by the proxy", []client{trusted}, [4]string{"ok", "530", "ok", "ok"}, [4]string{"ok", "530", "ok", "ok"}},
		{"beside the network", []client{from("130.86.0.1")}, [4]string{"550", "530", "550", "550"}, [4]string{"ok", "530", "ok", "550"}},
		{"with a window", []client{withWindow}, [4]string{"ok", "530", "ok", "550"}, [4]string{"ok", "530", "ok", "550"}},
		{"with a window, over TLS", []client{withWindow, withTLS}, [4]string{"ok", "530", "ok", "550"}, [4]string{"ok", "530", "ok", "550"}},
		{"logged in", []client{loggedIn}, [4]string{"ok", "ok", "ok", "ok"}, [4]string{"ok", "ok", "ok", "ok"}},
		{"a user without TLS", []client{inClear}, [4]string{"ok", "530", "ok", "ok"}, [4]string{"ok", "530", "ok", "ok"}},
		{"a verified name", []client{called("mail.umbc.example")}, [4]string{"ok", "530", "ok", "ok"}, [4]string{"ok", "530", "ok", "ok"}},
		{"a verified name, in capitals", []client{called("MAIL.UMBC.example")}, [4]string{"ok", "530", "ok", "ok"}, [4]string{"ok", "530", "ok", "ok"}},
		{"the host that is named", []client{called("one.partner.example")}, [4]string{"ok", "530", "ok", "ok"}, [4]string{"ok", "530", "ok", "ok"}},
		{"its neighbour", []client{called("two.partner.example")}, [4]string{"550", "530", "550", "550"}, [4]string{"ok", "530", "ok", "550"}},
		{"a name that only ends so", []client{called("evilumbc.example")}, [4]string{"550", "530", "550", "550"}, [4]string{"ok", "530", "ok", "550"}},
		{"the domain itself, not below it", []client{called("umbc.example")}, [4]string{"550", "530", "550", "550"}, [4]string{"ok", "530", "ok", "550"}},
		{"a claimed name", []client{func(s *mail.Session) { s.PTR, s.Resolve = "mail.umbc.example", mail.ResolveForged }}, [4]string{"550", "530", "550", "550"}, [4]string{"ok", "530", "ok", "550"}},
		{"a HELO name", []client{func(s *mail.Session) { s.Helo = "mail.umbc.example" }}, [4]string{"550", "530", "550", "550"}, [4]string{"ok", "530", "ok", "550"}},
		{"DNS is away", []client{func(s *mail.Session) { s.Resolve = mail.ResolveTemp }}, [4]string{"450", "530", "450", "450"}, [4]string{"ok", "530", "ok", "450"}},
		{"a certificate that is listed", []client{withCert}, [4]string{"ok", "530", "ok", "ok"}, [4]string{"ok", "530", "ok", "ok"}},
		{"a certificate that is only valid", []client{verifiedOnly}, [4]string{"550", "530", "550", "550"}, [4]string{"ok", "530", "ok", "550"}},
		{"a balancer that knows no client", []client{from("130.85.0.5"), func(s *mail.Session) { s.Proxied = netip.MustParseAddr("130.85.0.5") }}, [4]string{"550", "530", "550", "550"}, [4]string{"ok", "530", "ok", "550"}},
		{"the same, and it has a name and a window", []client{from("130.85.0.5"), called("lb.umbc.example"), withWindow, func(s *mail.Session) { s.Proxied = netip.MustParseAddr("130.85.0.5") }}, [4]string{"550", "530", "550", "550"}, [4]string{"ok", "530", "ok", "550"}},
		{"behind a balancer of the network", []client{func(s *mail.Session) { s.Proxied = netip.MustParseAddr("130.85.0.5") }}, [4]string{"550", "530", "550", "550"}, [4]string{"ok", "530", "ok", "550"}},
		{"a cloud, until the message", []client{from("40.92.1.2")}, [4]string{"ok", "530", "ok", "ok"}, [4]string{"ok", "530", "ok", "ok"}},
	}
	for _, tt := range tests {
		for i, role := range []string{"mx", "submission", "submissions", "relay"} {
			t.Run(tt.name+" on "+role, func(t *testing.T) {
				sess := of(role, tt.who...)
				if v := rcpt(s, sess, "u@out.example"); said(v) != tt.foreign[i] {
					t.Errorf("to a stranger: %s (%s), want %s", said(v), v.Reason, tt.foreign[i])
				}
				if v := rcpt(s, sess, "u@b.example"); said(v) != tt.own[i] {
					t.Errorf("to our own: %s (%s), want %s", said(v), v.Reason, tt.own[i])
				}
			})
		}
	}
}

// said is the code of a refusal, "ok" for none.
func said(v mail.Verdict) string {
	if v.Action < mail.TempFail {
		return "ok"
	}
	return v.Reply.String()[:3]
}

// sent is what becomes of a message from a cloud to a stranger.
func sent(t *testing.T, s *Set, sess *mail.Session, header string, findings ...mail.Finding) mail.Verdict {
	t.Helper()
	h, _, err := mail.SplitHeader([]byte(header + "Subject: x\r\n\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	a, _ := mail.ParseAddress("u@out.example", false)
	tx := &mail.Transaction{Stage: mail.StageMessage, Session: sess, Findings: findings}
	tx.Envelope.Recipients = []mail.Path{{Address: a}}
	tx.Message = mail.NewMessage(h, strings.NewReader(""), 0)
	return s.Decide(tx, nil)
}

func TestTenant(t *testing.T) {
	const results = "Authentication-Results: "
	s := relaying(t)
	tests := []struct {
		name, client, header, want string
	}{
		{"the stamp", "40.92.1.2", "X-MS-Exchange-CrossTenant-Id: 8f1c-own\r\n", "ok"},
		{"the stamp in capitals", "40.92.1.2", "x-ms-exchange-crosstenant-id: 8F1C-OWN\r\n", "ok"},
		{"another tenant's", "40.92.1.2", "X-MS-Exchange-CrossTenant-Id: 8f1c-other\r\n", "550"},
		{"none", "40.92.1.2", "", "550"},
		{"empty", "40.92.1.2", "X-MS-Exchange-CrossTenant-Id:\r\n", "550"},
		{"more than it", "40.92.1.2", "X-MS-Exchange-CrossTenant-Id: 8f1c-own, 8f1c-other\r\n", "550"},
		{"one forged in front of the stamp", "40.92.1.2", "X-MS-Exchange-CrossTenant-Id: 8f1c-own\r\nX-MS-Exchange-CrossTenant-Id: 8f1c-other\r\n", "550"},
		{"one forged behind it", "40.92.1.2", "X-MS-Exchange-CrossTenant-Id: 8f1c-other\r\nX-MS-Exchange-CrossTenant-Id: 8f1c-own\r\n", "550"},
		{"the stamp from elsewhere", "198.51.100.9", "X-MS-Exchange-CrossTenant-Id: 8f1c-own\r\n", "550"},
		{"the stamp of the other provider", "35.190.247.3", "X-MS-Exchange-CrossTenant-Id: 8f1c-own\r\n", "550"},

		{"a signature", "35.190.247.3", results + "mx.b.example;\r\n\tdkim=pass (2048-bit key; unprotected) header.d=b.example header.i=@b.example header.a=rsa-sha256\r\n", "ok"},
		{"in capitals", "35.190.247.3", results + "MX.B.EXAMPLE; DKIM=PASS header.D=B.Example\r\n", "ok"},
		{"one of two", "35.190.247.3", results + "mx.b.example; dkim=fail header.d=c.example; dkim=pass header.d=b.example\r\n", "ok"},
		{"somebody else's", "35.190.247.3", results + "mx.b.example; dkim=pass header.d=c.example\r\n", "550"},
		{"a broken one", "35.190.247.3", results + "mx.b.example; dkim=fail header.d=b.example\r\n", "550"},
		{"the domain of the broken one beside one that passes", "35.190.247.3", results + "mx.b.example; dkim=pass header.d=c.example; dkim=fail header.d=b.example\r\n", "550"},
		{"in a comment", "35.190.247.3", results + "mx.b.example; dkim=none (; dkim=pass header.d=b.example)\r\n", "550"},
		{"in a comment that a backslash keeps open", "35.190.247.3", results + `mx.b.example; dkim=none (\) ; dkim=pass header.d=b.example)` + "\r\n", "550"},
		{"in a string", "35.190.247.3", results + `mx.b.example; dkim=none reason="; dkim=pass header.d=b.example"` + "\r\n", "550"},
		{"of another method", "35.190.247.3", results + "mx.b.example; spf=pass header.d=b.example\r\n", "550"},
		{"of another host", "35.190.247.3", results + "mx.other.example; dkim=pass header.d=b.example\r\n", "550"},
		{"a domain that begins so", "35.190.247.3", results + "mx.b.example; dkim=pass header.d=b.example.evil.example\r\n", "550"},
		{"the signature from elsewhere", "198.51.100.9", results + "mx.b.example; dkim=pass header.d=b.example\r\n", "550"},

		{"both", "35.190.248.3", results + "mx.b.example; dkim=pass header.d=b.example\r\nX-Tenant: 7\r\n", "ok"},
		{"only the field", "35.190.248.3", "X-Tenant: 7\r\n", "550"},
		{"only the signature", "35.190.248.3", results + "mx.b.example; dkim=pass header.d=b.example\r\n", "550"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sess := of("mx", from(tt.client))
			v := sent(t, s, sess, tt.header)
			if tt.client == "198.51.100.9" { // it doesn't come so far
				v = rcpt(s, sess, "u@out.example")
			}
			if said(v) != tt.want {
				t.Errorf("%s (%s), want %s", said(v), v.Reason, tt.want)
			}
		})
	}
}

// Who failed to look may have had the proof.
func TestTenantWhoseFilterFailed(t *testing.T) {
	failed := mail.Finding{Filter: "opendkim", Name: mail.FindingFailed, Value: "continue"}
	v := sent(t, relaying(t), of("mx", from("35.190.247.3")), "", failed)
	if v.Action != mail.TempFail || v.Reply.Code != 451 {
		t.Errorf("%v %v, want a 451", v.Action, v.Reply)
	}
}

// One answer can't be right for a recipient who needs a proof and one who does not.
func TestTenantAlone(t *testing.T) {
	s, sess := relaying(t), of("mx", from("40.92.1.2"))
	for _, tt := range []struct {
		name, to string
		before   []string
		want     string
	}{
		{"ours alone", "u@b.example", nil, "ok"},
		{"ours behind ours", "u@b.example", []string{"v@b.example"}, "ok"},
		{"foreign behind foreign", "u@out.example", []string{"v@out.example"}, "ok"},
		{"foreign behind ours", "u@out.example", []string{"v@b.example"}, "452"},
		{"ours behind foreign", "u@b.example", []string{"v@out.example"}, "452"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if v := rcpt(s, sess, tt.to, tt.before...); said(v) != tt.want {
				t.Errorf("%s (%s), want %s", said(v), v.Reason, tt.want)
			}
		})
	}
	own := &mail.Transaction{Stage: mail.StageMessage, Session: sess}
	a, _ := mail.ParseAddress("u@b.example", false)
	own.Envelope.Recipients = []mail.Path{{Address: a}}
	own.Message = mail.NewMessage(nil, strings.NewReader(""), 0)
	if v := s.Decide(own, nil); v.Action >= mail.TempFail {
		t.Errorf("to our own from a cloud: %v %s", v.Action, v.Reason)
	}
}

// An MTA that asks us keeps its own rules; what was taken before its filter was
// back is not judged by less than was known then.
func TestRelayingIsDecidedOnce(t *testing.T) {
	s := relaying(t)
	for _, sess := range []*mail.Session{{Via: mail.ViaMilter}, {Via: mail.ViaScan}, {Via: mail.ViaSMTP, Again: true}} {
		if v := rcpt(s, sess, "u@out.example"); v.Action >= mail.TempFail {
			t.Errorf("%s: %v %s", sess.Via, v.Action, v.Reason)
		}
	}
}

func TestRelayConfigRefused(t *testing.T) {
	network := []netip.Prefix{netip.MustParsePrefix("40.92.0.0/15")}
	tests := []struct {
		name   string
		tenant Tenant
		want   string
	}{
		{"only addresses", Tenant{Networks: network}, `relay.tenant.x: others send from these addresses, too; write header and values, dkim, or arc`},
		{"no addresses", Tenant{Header: "X-A", Values: []string{"1"}}, `relay.tenant.x.networks: missing`},
		{"everybody", Tenant{Networks: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}, Header: "X-A", Values: []string{"1"}}, `relay.tenant.x.networks[0]: "0.0.0.0/0" is everybody`},
		{"a field without values", Tenant{Networks: network, Header: "X-A"}, `relay.tenant.x.values: missing`},
		{"values without a field", Tenant{Networks: network, Values: []string{"1"}}, `relay.tenant.x.header: missing`},
		{"an empty value", Tenant{Networks: network, Header: "X-A", Values: []string{""}}, `relay.tenant.x.values: an empty one`},
		{"no name of a field", Tenant{Networks: network, Header: "X-A:", Values: []string{"1"}}, `relay.tenant.x.header: "X-A:" is no name`},
		{"no domain", Tenant{Networks: network, DKIM: []string{"b..example"}}, `relay.tenant.x.dkim[0]:`},
		{"nobody verifies", Tenant{Networks: network, DKIM: []string{"b.example"}}, `relay.tenant.x.dkim: nobody verifies signatures; write a section [filter.auth]`},
		{"ARC", Tenant{Networks: network, ARC: []string{"b.example"}}, `relay.tenant.x.arc: nobody verifies chains; write a section [filter.auth]`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := DefaultConfig()
			cfg.Relay.Tenant = map[string]Tenant{"x": tt.tenant}
			_, err := Load(cfg)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
	cfg := DefaultConfig()
	cfg.Relay.Names = []string{"10.0.0.1"}
	if _, err := Load(cfg); err == nil || !strings.Contains(err.Error(), "relay.names[0]") {
		t.Errorf("an address for a name: %v", err)
	}
}
