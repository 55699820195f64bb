package integration

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// policyRow is a domain, with its own mail host, and how it is met.
type policyRow struct {
	domain   string // below .test
	route    string // tls of its route
	sts      string // its policy's mode, "" for none
	mx       string // its mail host, when that is not the policy's
	tlsa     string // "good", "bad", "servfail"; "" for none
	unsigned bool   // no AD bit
	host     string // what its mail host shows: "good", "other" certificate; "" for no STARTTLS
	want     string // "": delivered over TLS; "clear"; else what the deferral says
}

func policyRows() []policyRow {
	return []policyRow{
		{domain: "sts", route: "mta-sts", sts: "enforce", host: "good"},
		{domain: "sts-clear", route: "mta-sts", sts: "enforce", want: "4.7.4 TLS is required, but was not offered"},
		{domain: "sts-other", route: "mta-sts", sts: "enforce", host: "other", want: "MTA-STS policy of sts-other.test"},
		{domain: "sts-forged", route: "mta-sts", sts: "enforce", mx: "evil", host: "good", want: "is not among the MX hosts of the MTA-STS policy of sts-forged.test"},
		{domain: "sts-testing", route: "mta-sts", sts: "testing", want: "clear"},
		{domain: "sts-none", route: "mta-sts", want: "clear"},
		{domain: "dane", route: "dane", tlsa: "good", host: "good"},
		{domain: "dane-clear", route: "dane", tlsa: "good", want: "4.7.4 TLS is required, but was not offered"},
		{domain: "dane-other", route: "dane", tlsa: "good", host: "other", want: "fits none of the TLSA records"},
		{domain: "dane-bad", route: "dane", tlsa: "bad", host: "good", want: "fits none of the TLSA records"},
		{domain: "dane-servfail", route: "dane", tlsa: "servfail", host: "good", want: "4.7.5 TLSA records of"},
		{domain: "dane-unsigned", route: "dane", tlsa: "bad", unsigned: true, host: "good"}, // anybody could have written them
		{domain: "auto-dane", route: "auto", tlsa: "good", sts: "enforce", host: "other", want: "fits none of the TLSA records"},
		{domain: "auto-sts", route: "auto", sts: "enforce", want: "4.7.4 TLS is required, but was not offered"},
		{domain: "auto-none", route: "auto", host: "other"},
	}
}

// MTA-STS and DANE as a domain's DNS and its web server say: what is as safe as
// demanded is delivered, a downgrade defers, and says so in the log and in the
// queue; it goes when the host is as it should be.
func TestTLSPolicies(t *testing.T) {
	needRoot(t) // port 443
	rows := policyRows()
	w := newPolicyWorld(t, rows)
	for _, row := range rows {
		l := letter(testkit.Message(row.domain, row.domain, "x"))
		l.To = []string{"u@" + row.domain + ".test"}
		sendWant(t, w.g.Addr, l, testkit.Dot, 250)
	}
	for _, row := range rows {
		t.Run(row.domain, func(t *testing.T) { w.check(t, row) })
	}
	t.Run("a policy outlives its web server and a restart", w.outlives)
	t.Run("mail goes when the host is as it should be", w.mended)
}

type policyWorld struct {
	g           *testkit.Gateway
	hosts       map[string]*testkit.Sink // by domain
	good, other *testkit.Certificate
	stopWeb     func()
}

func newPolicyWorld(t *testing.T, rows []policyRow) *policyWorld {
	t.Helper()
	names := []string{"evil.test"}
	for _, row := range rows {
		names = append(names, "mx."+row.domain+".test", "mta-sts."+row.domain+".test")
	}
	w := &policyWorld{hosts: map[string]*testkit.Sink{}, good: certificateFor(t, names...), other: certificateFor(t, names...)}
	_, port, err := net.SplitHostPort(freeAddr(t))
	if err != nil {
		t.Fatal(err)
	}
	web := w.webServer(t, rows)
	w.g = newGateway(t, binaries.race)
	w.g.Config.Drop(`route."example.com"`)
	w.g.Env = []string{"SSL_CERT_FILE=" + w.good.Cert, "SSL_CERT_DIR=/nonexistent"}
	var records, domains []string
	dns := &testkit.DNS{}
	for i, row := range rows {
		ip := fmt.Sprintf("127.0.77.%d", i+1)
		w.hosts[row.domain] = w.host(t, row, net.JoinHostPort(ip, port))
		records = append(records, w.records(row, ip, web, port)...)
		domains = append(domains, fmt.Sprintf("%q", row.domain+".test"))
		route := fmt.Sprintf("route.%q", row.domain+".test")
		w.g.Config.Set(route, "to", `["mx"]`)
		w.g.Config.Set(route, "tls", `"`+row.route+`"`)
	}
	if dns, err = testkit.NewDNS(records...); err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		if !row.unsigned {
			dns.Sign(row.domain + ".test.")
		}
		if row.tlsa == "servfail" {
			dns.Fail("_" + port + "._tcp.mx." + row.domain + ".test.")
		}
	}
	testkit.Up(t, dns)
	w.g.Config.Set("relay", "domains", "["+strings.Join(domains, ", ")+"]")
	w.g.Config.Set("dns", "servers", `["`+dns.Addr+`"]`)
	w.g.Config.Set("dns", "trusted_ad", "true")
	w.g.Config.Set("routing", "mx_port", port)
	w.g.Config.Set("routing", "mx_loopback", "true")
	w.g.Config.Set("routing", "mta_sts_cache", `"`+testkit.Dir(t)+`"`)
	testkit.Up(t, w.g)
	return w
}

func certificateFor(t *testing.T, names ...string) *testkit.Certificate {
	t.Helper()
	c, err := testkit.NewCertificate(testkit.Dir(t), names...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func freeAddr(t *testing.T) string {
	t.Helper()
	addr, err := testkit.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// host is the mail host of a domain.
func (w *policyWorld) host(t *testing.T, row policyRow, addr string) *testkit.Sink {
	s := testkit.NewSink()
	s.Addr = addr
	switch row.host {
	case "good":
		s.TLS = &tls.Config{Certificates: []tls.Certificate{w.good.Pair}}
	case "other":
		s.TLS = &tls.Config{Certificates: []tls.Certificate{w.other.Pair}}
	}
	return testkit.Up(t, s)
}

// records of a domain.
func (w *policyWorld) records(row policyRow, ip, web, port string) []string {
	mx := "mx." + row.domain + ".test."
	if row.mx != "" {
		mx = row.mx + "." + row.domain + ".test."
	}
	all := []string{row.domain + ".test. 60 IN MX 10 " + mx, mx + " 60 IN A " + ip}
	if row.sts != "" {
		all = append(all, "_mta-sts."+row.domain+`.test. 60 IN TXT "v=STSv1; id=1;"`, "mta-sts."+row.domain+".test. 60 IN A "+web)
	}
	tlsa := "_" + port + "._tcp." + mx + " 60 IN TLSA 3 1 1 "
	switch row.tlsa {
	case "good":
		leaf, err := x509.ParseCertificate(w.good.Pair.Certificate[0])
		if err != nil {
			panic(err) // it was made a moment ago
		}
		all = append(all, fmt.Sprintf("%s%x", tlsa, sha256.Sum256(leaf.RawSubjectPublicKeyInfo)))
	case "bad":
		all = append(all, tlsa+strings.Repeat("00", 32))
	}
	return all
}

// webServer has the policies, on port 443 of an address of loopback that nobody
// else uses.
func (w *policyWorld) webServer(t *testing.T, rows []policyRow) (ip string) {
	t.Helper()
	policies := map[string]string{}
	for _, row := range rows {
		if row.sts != "" {
			policies["mta-sts."+row.domain+".test"] = "version: STSv1\r\nmode: " + row.sts + "\r\nmx: mx." + row.domain + ".test\r\nmax_age: 86400\r\n"
		}
	}
	ip = "127.0.78.1"
	l, err := net.Listen("tcp", ip+":443")
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/.well-known/mta-sts.txt" || policies[r.Host] == "" {
			http.NotFound(rw, r)
			return
		}
		rw.Header().Set("Content-Type", "text/plain")
		_, _ = rw.Write([]byte(policies[r.Host]))
	}))
	_ = s.Listener.Close()
	s.Listener, s.TLS = l, &tls.Config{Certificates: []tls.Certificate{w.good.Pair}}
	s.StartTLS()
	t.Cleanup(s.Close)
	w.stopWeb = s.Close
	return ip
}

// check waits for what a row wants.
func (w *policyWorld) check(t *testing.T, row policyRow) {
	host, to := w.hosts[row.domain], "u@"+row.domain+".test"
	if row.want == "" || row.want == "clear" {
		m := waitMails(t, host, 1)[0]
		if m.TLS != (row.want == "") {
			t.Errorf("over TLS: %v", m.TLS)
		}
		return
	}
	tells(t, w.g.Log, "to=<"+to+">", "status=deferred", "dsn=4.7.", row.want)
	testkit.Eventually(t, 60*time.Second, "the reason in the list of the queue", func() bool {
		list, err := w.g.Run("queue", "list", "--rcpt", to)
		return err == nil && strings.Contains(list.Stdout, to) && strings.Contains(list.Stdout, "4.7.")
	})
	list := command(t, w.g, 0, "queue", "list", "--rcpt", to).Stdout
	if !strings.Contains(strings.Join(strings.Fields(list), " "), row.want) {
		t.Errorf("no %q in the list of the queue:\n%s", row.want, list)
	}
	if n := len(host.Mails()); n != 0 {
		t.Errorf("%d messages arrived", n)
	}
}

// outlives: with its web server gone, and after a restart, the domain's wish is still
// known.
func (w *policyWorld) outlives(t *testing.T) {
	w.stopWeb()
	if err := w.g.Stop(); err != nil {
		t.Fatal(err)
	}
	before := len(w.g.Log())
	if err := w.g.Start(); err != nil {
		t.Fatal(err)
	}
	command(t, w.g, 0, "queue", "retry", "--all")
	tells(t, func() string { return w.g.Log()[before:] }, "to=<u@sts-clear.test>", "status=deferred", "4.7.4 TLS is required, but was not offered")
	if n := len(w.hosts["sts-clear"].Mails()); n != 0 {
		t.Errorf("%d messages arrived in clear", n)
	}
}

// mended: those that failed for the host's sake.
func (w *policyWorld) mended(t *testing.T) {
	for _, domain := range []string{"sts-clear", "sts-other", "dane-clear", "dane-other", "auto-dane", "auto-sts"} {
		host := w.hosts[domain]
		if err := host.Stop(); err != nil {
			t.Fatal(err)
		}
		host.TLS = &tls.Config{Certificates: []tls.Certificate{w.good.Pair}}
		if err := host.Start(); err != nil {
			t.Fatal(err)
		}
		command(t, w.g, 0, "queue", "retry", "--rcpt", "u@"+domain+".test")
	}
	for _, domain := range []string{"sts-clear", "sts-other", "dane-clear", "dane-other", "auto-dane", "auto-sts"} {
		if m := waitMails(t, w.hosts[domain], 1)[0]; !m.TLS {
			t.Errorf("%s: in clear", domain)
		}
	}
}
