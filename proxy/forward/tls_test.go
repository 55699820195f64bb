package forward

import (
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestTLS: what each policy makes of each next hop. C2 and C4 are among them.
func TestTLS(t *testing.T) {
	const no4 = "deferred 451 4.7.4 TLS is required, but…"
	const no5 = "deferred 451 4.7.5 TLS handshake…"
	tests := []struct {
		name    string
		policy  TLS
		offered bool
		script  script
		trusted bool
		want    string
		tls     bool
		connect int
	}{
		{"none", TLSNone, true, nil, true, sent, false, 1},
		{"opportunistic", TLSOpportunistic, true, nil, false, sent, true, 1},
		{"default", "", true, nil, false, sent, true, 1},
		{"opportunistic, not offered", TLSOpportunistic, false, nil, false, sent, false, 1},
		{"opportunistic, refused", TLSOpportunistic, true, script{"STARTTLS": "454 4.7.0 not now"}, false, sent, false, 1},
		{"opportunistic, broken", TLSOpportunistic, true, script{"STARTTLS": "220 go!close"}, false, sent, false, 2},
		{"opportunistic, HELO only", TLSOpportunistic, true, script{"EHLO": "502 what?"}, false, sent, false, 1},
		{"required", TLSRequired, true, nil, false, sent, true, 1},
		{"C4 required, not offered", TLSRequired, false, nil, false, no4, false, 1},
		{"C4 required, stripped from EHLO", TLSRequired, true, script{"EHLO": "250-peer\r\n250 XXXXXXXX"}, false, no4, false, 1},
		{"C4 required, refused", TLSRequired, true, script{"STARTTLS": "454 4.7.0 not now"}, false, no4, false, 1},
		{"C4 required, refused for good", TLSRequired, true, script{"STARTTLS": "502 5.5.1 what?"}, false, no4, false, 1},
		{"C4 required, broken", TLSRequired, true, script{"STARTTLS": "220 go!close"}, false, no5, false, 1},
		{"C4 required, HELO only", TLSRequired, true, script{"EHLO": "502 what?"}, false, no4, false, 1},
		{"verify", TLSVerify, true, nil, true, sent, true, 1},
		{"verify, unknown issuer", TLSVerify, true, nil, false, no5, false, 1},
		{"C4 verify, not offered", TLSVerify, false, nil, true, no4, false, 1},
		{"421 to STARTTLS", TLSOpportunistic, true, script{"STARTTLS": "421 4.3.2 bye!close"}, false, "deferred 421 4.3.2 bye", false, 1},
	}
	cert, server := testCert(t)
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	for _, lmtp := range []bool{false, true} {
		for _, tt := range tests {
			if lmtp && strings.Contains(tt.name, "HELO") {
				continue
			}
			t.Run(map[bool]string{false: "smtp/", true: "lmtp/"}[lmtp]+tt.name, func(t *testing.T) {
				if v, ok := tt.script["EHLO"]; ok {
					tt.script["LHLO"] = v
				}
				p := &peer{lmtp: lmtp, offers: allOffers, scripts: []script{tt.script}}
				if tt.offered {
					p.cert = cert
				}
				startPeer(t, p)
				r := quick(p.url())
				r.TLS = tt.policy
				cfg := Config{Hostname: "mx.example.net", Routes: map[string]Route{".": r}, RootCAs: x509.NewCertPool()}
				if tt.trusted {
					cfg.RootCAs = pool
				}
				f, err := New(cfg, quietLog(t))
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				for range 2 { // the second over a kept connection, or as the first
					outs := deliver(t, f, envelope(t, "a@example.com"), hello)
					check(t, outs, tt.want)
					if got := outs[0].TLS; got != "" != tt.tls || tt.tls && got != "TLSv1.3" {
						t.Errorf("TLS = %q", got)
					}
					if strings.HasPrefix(tt.want, "sent") {
						continue
					}
					if strings.Contains(strings.Join(slices.Concat(p.commands()...), " "), "MAIL") {
						t.Error("mail was sent in clear")
					}
					break
				}
				for _, m := range p.got() {
					if m.tls != tt.tls || m.data != string(hello) {
						t.Errorf("over TLS: %v, %q", m.tls, m.data)
					}
				}
				if n := len(p.commands()); n != tt.connect {
					t.Errorf("%d connections, want %d", n, tt.connect)
				}
			})
		}
	}
}

// TestC2ResponseInjection (CVE-2021-38371): what stands behind the answer to
// STARTTLS came in clear and must not be taken for part of the TLS session.
func TestC2ResponseInjection(t *testing.T) {
	cert, _ := testCert(t)
	for _, policy := range []TLS{TLSOpportunistic, TLSRequired} {
		p := startPeer(t, &peer{offers: allOffers, cert: cert,
			scripts: []script{{"STARTTLS": "220 go\r\n250-injected\r\n250 SIZE 1"}}})
		r := quick(p.url())
		r.TLS = policy
		f := newForwarder(t, r)
		check(t, deliver(t, f, envelope(t, "a@example.com"), hello), "deferred 451 4.7.5 data behind the answer to STARTTLS")
		for _, d := range p.commands() {
			if d[len(d)-1] != "STARTTLS" {
				t.Errorf("%s: the dialogue went on: %q", policy, d)
			}
		}
	}
}

// TestTLSForgetsClear: what was offered in clear does not count (RFC 3207 4.2).
func TestTLSForgetsClear(t *testing.T) {
	cert, _ := testCert(t)
	p := startPeer(t, &peer{offers: []string{"SIZE 100000"}, cert: cert})
	r := quick(p.url())
	r.TLS = TLSRequired
	f := newForwarder(t, r)
	deliver(t, f, envelope(t, "a@example.com"), hello)
	d := p.commands()[0]
	if got := d[:3]; got[0] != "EHLO mx.example.net" || got[1] != "STARTTLS" || got[2] != "EHLO mx.example.net" {
		t.Errorf("got %q", d)
	}
}

// TestStalledHandshake: a peer that says 220 and then nothing.
func TestStalledHandshake(t *testing.T) {
	cert, _ := testCert(t)
	p := startPeer(t, &peer{offers: allOffers, cert: cert, scripts: []script{{"STARTTLS": "220 go!hang"}}})
	r := quick(p.url())
	r.TLS, r.ConnectTimeout = TLSRequired, 100*time.Millisecond
	f := newForwarder(t, r)
	check(t, deliver(t, f, envelope(t, "a@example.com"), hello), "deferred 451 4.7.5 TLS handshake: no answer in time")
}
