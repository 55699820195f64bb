package forward

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"gatepost/internal/dns"
	"gatepost/internal/dns/dnstest"
	"gatepost/internal/mail"
)

// world is a domain example.com with a mail host, a DNS server and an HTTPS
// server for its MTA-STS policy.
type world struct {
	t       *testing.T
	root    *issuer // that everybody knows
	dns     *dnstest.Server
	trusted bool // the resolver is
	peer    *peer
	policy  atomic.Pointer[http.HandlerFunc]
	https   *tls.Certificate // nil: one that fits
	log     bytes.Buffer
	cfg     Config
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, root: newIssuer(t, "root"), trusted: true}
	w.dns = dnstest.Start(t,
		"example.com. 300 IN MX 10 mx.example.com.",
		"mx.example.com. 300 IN A 127.0.0.1",
		"mta-sts.example.com. 300 IN A 127.0.0.1",
	)
	w.dns.Secure(true)
	w.peer = &peer{offers: allOffers, cert: w.root.server(valid(), "mx.example.com")}
	return w
}

// tlsa publishes a record for the mail host.
func (w *world) tlsa(r dns.TLSA) {
	port := w.peer.ln.Addr().(*net.TCPAddr).Port
	w.dns.Add(fmt.Sprintf("_%d._tcp.mx.example.com. 300 IN TLSA %d %d %d %x", port, r.Usage, r.Selector, r.Matching, r.Data))
}

func (w *world) tlsaName() string {
	return fmt.Sprintf("_%d._tcp.mx.example.com.", w.peer.ln.Addr().(*net.TCPAddr).Port)
}

// publish serves an MTA-STS policy.
func (w *world) publish(id, mode, mx string) {
	w.dns.Remove("_mta-sts.example.com.")
	w.dns.Add(fmt.Sprintf(`_mta-sts.example.com. 1 IN TXT "v=STSv1; id=%s;"`, id))
	text := fmt.Sprintf("version: STSv1\nmode: %s\nmx: %s\nmax_age: 604800\n", mode, mx)
	w.serve(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprint(rw, text)
	})
}

func (w *world) serve(h http.HandlerFunc) { w.policy.Store(&h) }

// start starts what is left to be started.
func (w *world) start(policy TLS) *Forwarder {
	w.t.Helper()
	if w.https == nil {
		w.https = w.root.server(valid(), "mta-sts.example.com")
	}
	site := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if h := w.policy.Load(); h != nil && r.URL.Path == "/.well-known/mta-sts.txt" && r.Host == "mta-sts.example.com" {
			(*h)(rw, r)
			return
		}
		http.NotFound(rw, r)
	}))
	site.TLS = &tls.Config{Certificates: []tls.Certificate{*w.https}}
	site.Config.ErrorLog = slog.NewLogLogger(slog.NewTextHandler(w.t.Output(), nil), slog.LevelInfo)
	site.StartTLS()
	w.t.Cleanup(site.Close)
	resolver, err := dns.NewClient(dns.ClientConfig{Servers: []string{w.dns.Addr()}, TrustedAD: w.trusted, Timeout: time.Second, Attempts: 1})
	if err != nil {
		w.t.Fatal(err)
	}
	r := quick("mx")
	r.TLS = policy
	w.cfg = Config{
		Hostname: "mx.example.net", RootCAs: w.root.pool(), Resolver: resolver,
		Routing: Routing{MXLoopback: true, STSCache: w.t.TempDir(), MXPort: w.peer.ln.Addr().(*net.TCPAddr).Port},
		STSPort: site.Listener.Addr().(*net.TCPAddr).Port,
		Routes:  map[string]Route{".": r},
	}
	f, err := New(w.cfg, slog.New(slog.NewTextHandler(&w.log, nil)))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(f.Close)
	return f
}

// send delivers one message to a@example.com.
func (w *world) send(f *Forwarder, facts mail.Facts, m mail.Content, args ...string) mail.Outcome {
	w.t.Helper()
	env := envelope(w.t, "a@example.com")
	env.Sender.Args = args
	dest, ok := f.Route(env.Recipients[0].Address)
	if !ok {
		w.t.Fatal("no route")
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	return f.Deliver(ctx, dest, facts, env, m)[0]
}

// TestRecipientPolicies: DANE and MTA-STS against a real DNS server, a real web
// server, real certificates, and whoever is in between.
func TestRecipientPolicies(t *testing.T) {
	const handshake = "deferred 451 4.7.5 TLS handshake: "
	const stripped = "deferred 451 4.7.4 TLS is required, but was not offered"
	self := (&issuer{t: t}).server(time.Now().Add(-time.Minute), "nobody.example")
	lazy := func(w *world) { w.peer.cert = self }
	strip := func(w *world) { w.peer.cert = nil }
	enforce := func(w *world) { w.publish("1", "enforce", "mx.example.com") }
	pin := func(w *world) { w.tlsa(tlsa(3, 1, 1, w.peer.cert.Leaf)) }
	mispin := func(w *world) { w.tlsa(tlsa(3, 1, 1, w.root.cert)) }
	tests := []struct {
		name   string
		policy TLS
		set    []func(*world) // before the peer starts: certificates
		then   []func(*world) // after: records
		want   string
		tls    bool
		log    string
	}{
		{"dane, no records", TLSDANE, []func(*world){lazy}, nil, sent, true, ""},
		{"dane, no records, no TLS", TLSDANE, []func(*world){strip}, nil, sent, false, ""},
		{"dane, pinned", TLSDANE, []func(*world){lazy}, []func(*world){pin}, sent, true, ""},
		{"dane, pinned another", TLSDANE, nil, []func(*world){mispin}, handshake + "the certificate fits none of the TLSA records (the TLSA records of _…", false, ""},
		{"dane, STARTTLS stripped", TLSDANE, []func(*world){strip}, []func(*world){mispin}, stripped + "…", false, ""},
		{"dane, STARTTLS refused", TLSDANE, []func(*world){func(w *world) { w.peer.scripts = []script{{"STARTTLS": "454 4.7.0 not now"}} }}, []func(*world){pin}, "deferred 451 4.7.4…", false, ""},
		{"dane, handshake broken", TLSDANE, []func(*world){func(w *world) { w.peer.scripts = []script{{"STARTTLS": "220 go!close"}} }}, []func(*world){pin}, handshake + "…", false, ""},
		{"dane, old TLS", TLSDANE, []func(*world){func(w *world) { w.peer.tls.MaxVersion = tls.VersionTLS11; w.peer.tls.MinVersion = tls.VersionTLS10 }}, []func(*world){pin}, handshake + "…", false, ""},
		{"dane, issuer", TLSDANE, nil, []func(*world){func(w *world) { w.tlsa(tlsa(2, 0, 1, w.root.cert)) }}, sent, true, ""},
		{"dane, issuer, wrong name", TLSDANE, []func(*world){func(w *world) { w.peer.cert = w.root.server(valid(), "b.example") }}, []func(*world){func(w *world) { w.tlsa(tlsa(2, 0, 1, w.root.cert)) }}, handshake + "x509: certificate is valid for b.example, not…", false, ""},
		{"dane, unusable: any certificate", TLSDANE, []func(*world){lazy}, []func(*world){func(w *world) { w.tlsa(tlsa(1, 1, 1, w.root.cert)) }}, sent, true, ""},
		{"dane, unusable, STARTTLS stripped", TLSDANE, []func(*world){strip}, []func(*world){func(w *world) { w.tlsa(tlsa(0, 0, 1, w.root.cert)) }}, stripped + "…", false, ""},
		{"dane, records can't be had", TLSDANE, nil, []func(*world){pin, func(w *world) { w.dns.Misbehave(w.tlsaName(), dnstest.Quirk{Rcode: wire.RcodeServerFailure}) }}, "deferred 451 4.7.5 TLSA records of…", false, ""},
		{"dane, records withheld", TLSDANE, nil, []func(*world){pin, func(w *world) { w.dns.Misbehave(w.tlsaName(), dnstest.Quirk{Silent: true}) }}, "deferred 451 4.7.5 TLSA records of…", false, ""},
		{"dane, records not authentic", TLSDANE, nil, []func(*world){mispin, func(w *world) { w.dns.Misbehave(w.tlsaName(), dnstest.Quirk{Insecure: true}) }}, sent, true, ""},
		{"dane, MX not authentic", TLSDANE, nil, []func(*world){mispin, func(w *world) { w.dns.Misbehave("example.com.", dnstest.Quirk{Insecure: true}) }}, sent, true, ""},
		{"dane, address not authentic", TLSDANE, nil, []func(*world){mispin, func(w *world) { w.dns.Misbehave("mx.example.com.", dnstest.Quirk{Insecure: true}) }}, sent, true, ""},
		{"dane, resolver not trusted", TLSDANE, []func(*world){func(w *world) { w.trusted = false }}, []func(*world){mispin}, sent, true, ""},

		{"mta-sts, no policy", TLSSTS, []func(*world){lazy}, nil, sent, true, ""},
		{"mta-sts, enforced", TLSSTS, nil, []func(*world){enforce}, sent, true, "mode=enforce"},
		{"mta-sts, self-signed", TLSSTS, []func(*world){lazy}, []func(*world){enforce}, handshake + "x509: …", false, ""},
		{"mta-sts, expired", TLSSTS, []func(*world){func(w *world) { w.peer.cert = w.root.server(time.Now().Add(-time.Minute), "mx.example.com") }}, []func(*world){enforce}, handshake + "x509: certificate has expired…", false, ""},
		{"mta-sts, wrong name", TLSSTS, []func(*world){func(w *world) { w.peer.cert = w.root.server(valid(), "example.com") }}, []func(*world){enforce}, handshake + "x509: certificate is valid for example.com, not mx.example.com (the MTA-STS policy of example.com…", false, ""},
		{"mta-sts, STARTTLS stripped", TLSSTS, []func(*world){strip}, []func(*world){enforce}, stripped + " (the MTA-STS policy of example.com…", false, ""},
		{"mta-sts, old TLS", TLSSTS, []func(*world){func(w *world) { w.peer.tls.MaxVersion = tls.VersionTLS11; w.peer.tls.MinVersion = tls.VersionTLS10 }}, []func(*world){enforce}, handshake + "…", false, ""},
		{"mta-sts, MX not in it", TLSSTS, nil, []func(*world){func(w *world) { w.publish("1", "enforce", "*.other.example") }}, "deferred 451 4.7.5 mx.example.com is not among the MX hosts of the MTA-STS policy of example.com: *.other.example", false, ""},
		{"mta-sts, testing", TLSSTS, []func(*world){lazy}, []func(*world){func(w *world) { w.publish("1", "testing", "mx.example.com") }}, sent, true, "the host would be refused"},
		{"mta-sts, testing, no TLS", TLSSTS, []func(*world){strip}, []func(*world){func(w *world) { w.publish("1", "testing", "mx.example.com") }}, sent, false, `reason="no TLS"`},
		{"mta-sts, testing, MX not in it", TLSSTS, nil, []func(*world){func(w *world) { w.publish("1", "testing", "a.example") }}, sent, true, "the MX host is not in the policy"},
		{"mta-sts, policy redirected", TLSSTS, []func(*world){lazy}, []func(*world){enforce, func(w *world) {
			h := *w.policy.Load()
			w.serve(func(rw http.ResponseWriter, r *http.Request) {
				if r.URL.RawQuery == "" {
					http.Redirect(rw, r, "/.well-known/mta-sts.txt?there", http.StatusFound)
					return
				}
				h(rw, r)
			})
		}}, sent, true, "answered 302"},
		{"mta-sts, policy as HTML", TLSSTS, []func(*world){lazy}, []func(*world){enforce, func(w *world) {
			w.serve(func(rw http.ResponseWriter, r *http.Request) { fmt.Fprint(rw, "<html>") })
		}}, sent, true, "not text/plain"},
		{"mta-sts, endless policy", TLSSTS, []func(*world){lazy}, []func(*world){enforce, func(w *world) {
			w.serve(func(rw http.ResponseWriter, r *http.Request) {
				rw.Header().Set("Content-Type", "text/plain")
				fmt.Fprint(rw, strings.Repeat("version: STSv1\n", 10000))
			})
		}}, sent, true, "longer than 64 KiB"},
		{"mta-sts, policy host's certificate", TLSSTS, []func(*world){lazy, func(w *world) { w.https = self }}, []func(*world){enforce}, sent, true, "not fetched"},

		{"auto, nothing", TLSAuto, []func(*world){lazy}, nil, sent, true, ""},
		{"auto, mta-sts", TLSAuto, []func(*world){lazy}, []func(*world){enforce}, handshake + "x509…", false, ""},
		{"auto, dane before mta-sts", TLSAuto, []func(*world){lazy}, []func(*world){enforce, pin}, sent, true, ""},
		{"auto, mta-sts does not make up for dane", TLSAuto, nil, []func(*world){enforce, mispin}, handshake + "the certificate fits none…", false, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			for _, f := range tt.set {
				f(w)
			}
			startPeer(t, w.peer)
			for _, f := range tt.then {
				f(w)
			}
			f := w.start(tt.policy)
			out := w.send(f, mail.Facts{ID: "ID1"}, hello)
			check(t, []mail.Outcome{out}, tt.want)
			if (out.TLS != "") != tt.tls {
				t.Errorf("TLS = %q", out.TLS)
			}
			if !strings.Contains(w.log.String(), tt.log) {
				t.Errorf("the log does not say %q:\n%s", tt.log, w.log.String())
			}
			commands := fmt.Sprint(w.peer.commands())
			if out.Status != mail.Delivered && strings.Contains(commands, "MAIL") {
				t.Errorf("mail was begun: %s", commands)
			}
		})
	}
}

// TestSTSKept: a policy once seen protects after a restart, too, while both
// record and web server are kept from us.
func TestSTSKept(t *testing.T) {
	w := newWorld(t)
	startPeer(t, w.peer)
	w.publish("1", "enforce", "mx.example.com")
	f := w.start(TLSSTS)
	check(t, []mail.Outcome{w.send(f, mail.Facts{}, hello)}, sent)
	f.Close()
	w.peer.cert = (&issuer{t: t}).server(valid(), "mx.example.com")
	w.dns.Remove("_mta-sts.example.com.")
	w.serve(func(rw http.ResponseWriter, r *http.Request) { http.NotFound(rw, r) })
	again, err := New(w.cfg, quietLog(t))
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	check(t, []mail.Outcome{w.send(again, mail.Facts{}, hello)}, "deferred 451 4.7.5 TLS handshake: x509: …")
}

// TestPolicyOfKeptConnections: a connection serves nobody who demands more.
func TestPolicyOfKeptConnections(t *testing.T) {
	w := newWorld(t)
	w.peer.cert = (&issuer{t: t}).server(valid(), "mx.example.com")
	startPeer(t, w.peer)
	f := w.start(TLSSTS)
	check(t, []mail.Outcome{w.send(f, mail.Facts{}, hello)}, sent)
	w.publish("1", "enforce", "mx.example.com")
	// The answer that there is no record is kept for a while: so another domain
	// with the same host.
	w.dns.Add("two.example. 300 IN MX 10 mx.example.com.", `_mta-sts.two.example. 300 IN TXT "v=STSv1; id=1"`, "mta-sts.two.example. 300 IN A 127.0.0.1")
	f.sts.domain("two.example").kept = &stsKept{stsPolicy: stsPolicy{mode: stsEnforce, mx: []string{"mx.example.com"}, maxAge: time.Hour}, id: "1", fetched: time.Now()}
	f.sts.domain("two.example").loaded = true
	env := envelope(t, "b@two.example")
	dest, _ := f.Route(env.Recipients[0].Address)
	outs := f.Deliver(t.Context(), dest, mail.Facts{}, env, hello)
	check(t, outs, "deferred 451 4.7.5 TLS handshake: x509: …")
	check(t, []mail.Outcome{w.send(f, mail.Facts{}, hello)}, sent)
	if n := len(w.peer.commands()); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

// TestRequireTLS (RFC 8689): promised on, or not sent; and its opposite.
func TestRequireTLS(t *testing.T) {
	const no = "bounced 550 5.7.30 REQUIRETLS support required: "
	offers := append([]string{"REQUIRETLS"}, allOffers...)
	self := (&issuer{t: t}).server(valid(), "mx.example.com")
	optional := text("TLS-Required: No\r\n" + string(hello))
	tests := []struct {
		name    string
		policy  TLS
		secure  bool
		offers  []string
		cert    *tls.Certificate // nil: a good one
		clear   bool
		enforce bool
		args    []string
		m       mail.Content
		want    string
	}{
		{"all well", TLSOpportunistic, true, offers, nil, false, false, []string{"REQUIRETLS"}, hello, sent},
		{"MX by MTA-STS", TLSSTS, false, offers, nil, false, true, []string{"REQUIRETLS"}, hello, sent},
		{"MX by nobody", TLSOpportunistic, false, offers, nil, false, false, []string{"REQUIRETLS"}, hello, no + "neither DNSSEC nor MTA-STS vouches for the MX records of example.com"},
		{"not offered", TLSOpportunistic, true, allOffers, nil, false, false, []string{"REQUIRETLS"}, hello, no + "the next hop does not offer REQUIRETLS"},
		{"self-signed", TLSOpportunistic, true, offers, self, false, false, []string{"REQUIRETLS"}, hello, no + "the certificate of the next hop can't be verified"},
		{"in clear", TLSOpportunistic, true, offers, nil, true, false, []string{"REQUIRETLS"}, hello, no + "the connection is not encrypted"},
		{"handshake broken for now", TLSOpportunistic, true, offers, nil, false, false, []string{"REQUIRETLS"}, hello, "deferred 451 4.7.5 TLS handshake…"},
		{"not asked for", TLSOpportunistic, true, offers, self, false, false, nil, hello, sent},
		{"TLS-Required: No", TLSSTS, true, offers, self, false, true, nil, optional, sent},
		{"TLS-Required: No, and REQUIRETLS", TLSSTS, true, offers, self, false, true, []string{"REQUIRETLS"}, optional, "deferred 451 4.7.5 TLS handshake…"},
		{"TLS-Required: No does not set the route aside", TLSVerify, true, offers, self, false, true, nil, optional, "deferred 451 4.7.5 TLS handshake…"},
		{"TLS-Required in the body", TLSSTS, true, offers, self, false, true, nil, text("A: b\r\n\r\nTLS-Required: No\r\n"), "deferred 451 4.7.5 TLS handshake…"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.dns.Secure(tt.secure)
			w.peer.offers = tt.offers
			if tt.cert != nil {
				w.peer.cert = tt.cert
			}
			if tt.clear {
				w.peer.cert = nil
			}
			if strings.Contains(tt.name, "broken") {
				w.peer.scripts = []script{{"STARTTLS": "220 go!close"}}
			}
			startPeer(t, w.peer)
			if tt.enforce {
				w.publish("1", "enforce", "mx.example.com")
			}
			f := w.start(tt.policy)
			check(t, []mail.Outcome{w.send(f, mail.Facts{}, tt.m, tt.args...)}, tt.want)
			for _, m := range w.peer.got() {
				if promised := strings.Contains(m.from, " REQUIRETLS"); promised != (tt.args != nil) {
					t.Errorf("MAIL FROM:%s", m.from)
				}
			}
		})
	}
}

// TestRequireTLSLocal: LMTP promises on, too; a socket of this machine needs no
// promise.
func TestRequireTLSLocal(t *testing.T) {
	root := newIssuer(t, "root")
	for _, tt := range []struct {
		name   string
		unix   bool
		offers []string
		want   string
		mail   string
	}{
		{"LMTP", false, append([]string{"REQUIRETLS"}, allOffers...), sent, " REQUIRETLS"},
		{"LMTP, not offered", false, allOffers, "bounced 550 5.7.30 REQUIRETLS support required: the next hop does not offer REQUIRETLS", ""},
		{"unix socket", true, allOffers, sent, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := &peer{lmtp: true, offers: tt.offers, cert: root.server(valid(), "127.0.0.1")}
			to := ""
			if tt.unix {
				path := filepath.Join(t.TempDir(), "lmtp")
				ln, err := net.Listen("unix", path)
				if err != nil {
					t.Fatal(err)
				}
				p.t, p.ln, p.open, p.cert, to = t, ln, make(map[net.Conn]bool), nil, "lmtp+unix://"+path
				p.wg.Go(p.accept)
				t.Cleanup(p.stop)
			} else {
				startPeer(t, p)
				to = p.url()
			}
			r := quick(to)
			r.TLS = TLSOpportunistic
			f, err := New(Config{Hostname: "mx.example.net", Routes: map[string]Route{".": r}, RootCAs: root.pool()}, quietLog(t))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			env := envelope(t, "a@example.com")
			env.Sender.Args = []string{"REQUIRETLS"}
			check(t, deliver(t, f, env, hello), tt.want)
			for _, m := range p.got() {
				if strings.Contains(m.from, " REQUIRETLS") != (tt.mail != "") {
					t.Errorf("MAIL FROM:%s", m.from)
				}
			}
		})
	}
}
