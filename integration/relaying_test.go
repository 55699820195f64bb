package integration

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// doors is a gateway with a listener of each role, a next hop for its own domain
// and one for all others, and a DNS that knows some clients.
type doors struct {
	*office
	home, abroad *testkit.Sink
	relay        string // the listener of our own hosts
	drac         string // UDP
	socket       string
}

// Clients. Each is an address of loopback.
const (
	stranger  = "127.0.0.66"
	ours      = "127.0.0.9"  // in relay.networks
	reader    = "127.0.0.55" // has just read its mail
	cloud     = "127.0.0.44" // of a provider
	blocked   = "127.0.0.99" // in the access map
	balancer  = "127.0.0.33" // sends the PROXY protocol
	forwarder = "127.0.0.34" // sends XCLIENT

	// Loopback has no names: these come by way of the balancer.
	named    = "PROXY TCP4 192.0.2.77 127.0.0.1 4711 25\r\n" // host.names.test, and back
	forger   = "PROXY TCP4 192.0.2.78 127.0.0.1 4711 25\r\n" // says that it is host.names.test
	confused = "PROXY TCP4 192.0.2.79 127.0.0.1 4711 25\r\n" // its DNS is away
)

func openDoors(t *testing.T) *doors {
	t.Helper()
	home, abroad := testkit.Up(t, testkit.NewSink()), testkit.Up(t, testkit.NewSink())
	zone, err := testkit.NewDNS(
		"77.2.0.192.in-addr.arpa. 60 IN PTR host.names.test.", "host.names.test. 60 IN A 192.0.2.77",
		"78.2.0.192.in-addr.arpa. 60 IN PTR host.names.test.",
	)
	if err != nil {
		t.Fatal(err)
	}
	zone.Fail("79.2.0.192.in-addr.arpa.")
	testkit.Up(t, zone)
	d := &doors{office: newOffice(t, home), home: home, abroad: abroad}
	for _, addr := range []*string{&d.relay, &d.drac} {
		if *addr, err = testkit.FreeAddr(); err != nil {
			t.Fatal(err)
		}
	}
	d.socket = filepath.Join(d.Dir, "drac.sock")
	c := &d.Config
	c.Set("dns", "servers", `["`+zone.Addr+`"]`)
	c.Set("dns", "timeout", `"1s"`)
	c.Set(`route."."`, "to", `["smtp://`+abroad.Addr+`"]`)
	access := filepath.Join(d.Dir, "access")
	if err := os.WriteFile(access, []byte("Connect:"+blocked+" REJECT\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c.Set("relay", "access", `"`+access+`"`)
	c.Set("relay", "names", `[".names.test"]`)
	c.Set("relay.tenant.cloud", "networks", `["`+cloud+`"]`)
	c.Set("relay.tenant.cloud", "header", `"X-Tenant-Id"`)
	c.Set("relay.tenant.cloud", "values", `["7-ours"]`)
	c.Set("listener.relay", "address", `"`+d.relay+`"`)
	c.Set("listener.relay", "role", `"relay"`)
	for _, l := range []string{"mx", "submission", "submissions", "relay"} {
		c.Set("listener."+l, "proxy_protocol", `["`+balancer+`"]`)
		c.Set("listener."+l, "xclient", `["`+forwarder+`"]`)
	}
	c.Set("limits", "max_errors", "1000")
	c.Set("limits", "max_junk", "1000")
	c.Set("drac", "address", `"`+d.drac+`"`)
	c.Set("drac", "allow", `["127.0.0.8"]`)
	c.Set("drac", "socket", `"`+d.socket+`"`)
	testkit.Up(t, d)
	return d
}

var doorNames = []string{"mx", "submission", "submissions", "relay"}

func (d *doors) address(door string) string {
	return map[string]string{"mx": d.Addr, "submission": d.submission, "submissions": d.submissions, "relay": d.relay}[door]
}

// visitor is a client at a door, before anything of the envelope.
type visitor struct {
	*testkit.Client
	t *testing.T
}

// visit connects and says EHLO, over TLS where the door is for it. With first,
// something comes before all else.
func (d *doors) visit(t *testing.T, door, local, first string, login bool) *visitor {
	t.Helper()
	c, err := testkit.DialFrom(local, d.address(door))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	v := &visitor{c, t}
	if first != "" {
		if err := c.Write(first); err != nil {
			t.Fatal(err)
		}
	}
	trust := &tls.Config{RootCAs: d.cert.Pool, ServerName: "mx1.example.com"}
	if door == "submissions" {
		if err := c.StartTLS(trust); err != nil {
			t.Fatalf("%s: %v", door, err)
		}
	}
	r, err := c.Read()
	if err != nil || r.Code != 220 {
		t.Fatalf("%s: greeting %v, %v", door, r, err)
	}
	v.do("EHLO client.test", 250)
	if door == "submission" || login && door == "mx" {
		v.do("STARTTLS", 220)
		if err := c.StartTLS(trust); err != nil {
			t.Fatalf("%s: %v", door, err)
		}
		v.do("EHLO client.test", 250)
	}
	if login && door != "relay" {
		v.do("AUTH PLAIN "+base64.StdEncoding.EncodeToString([]byte("\x00alice@example.com\x00wonder land")), 235)
	}
	return v
}

func (v *visitor) do(line string, code int) {
	v.t.Helper()
	if r, err := v.Cmd(line); err != nil || r.Code != code {
		v.t.Fatalf("%.60q: %v, %v; want %d", line, r, err, code)
	}
}

// offer sends a message to one recipient, as RCPT takes it, and returns the code
// that decided.
func (v *visitor) offer(rcpt, header string) int {
	v.t.Helper()
	say := func(s string) int {
		r, err := v.Cmd(s)
		if err != nil {
			v.t.Fatalf("%.60q: %v", s, err)
		}
		return r.Code
	}
	defer say("RSET")
	if code := say("MAIL FROM:<alice@example.com>"); code != 250 {
		return code
	}
	if code := say("RCPT TO:" + rcpt); code != 250 {
		return code
	}
	if code := say("DATA"); code != 354 {
		return code
	}
	return say(header + "Subject: " + rcpt + "\r\n\r\nx\r\n.")
}

// The policy of ports on the wire: who may send where on 25, 587, 465, and on
// the listener of our own hosts.
func TestDoors(t *testing.T) {
	d := openDoors(t)
	d.open(t, reader)
	tests := []struct {
		who, local, first, header string
		login                     bool
		abroad, home              [4]int // on each door
	}{
		{who: "a stranger", local: stranger, abroad: [4]int{550, 530, 550, 550}, home: [4]int{250, 530, 250, 550}},
		{who: "one of ours", local: ours, abroad: [4]int{250, 530, 250, 250}, home: [4]int{250, 530, 250, 250}},
		{who: "a user", local: stranger, login: true, abroad: [4]int{250, 250, 250, 550}, home: [4]int{250, 250, 250, 550}},
		{who: "who reads mail", local: reader, abroad: [4]int{250, 530, 250, 550}, home: [4]int{250, 530, 250, 550}},
		{who: "a name", local: balancer, first: named, abroad: [4]int{250, 530, 250, 250}, home: [4]int{250, 530, 250, 250}},
		{who: "a forged name", local: balancer, first: forger, abroad: [4]int{550, 530, 550, 550}, home: [4]int{250, 530, 250, 550}},
		{who: "a name that can't be looked up", local: balancer, first: confused, abroad: [4]int{450, 530, 450, 450}, home: [4]int{250, 530, 250, 450}},
		{who: "a cloud without a stamp", local: cloud, abroad: [4]int{550, 530, 550, 550}, home: [4]int{250, 530, 250, 550}},
		{who: "a cloud with the stamp of another", local: cloud, header: "X-Tenant-Id: 8-theirs\r\n", abroad: [4]int{550, 530, 550, 550}, home: [4]int{250, 530, 250, 550}},
		{who: "a cloud with two stamps", local: cloud, header: "X-Tenant-Id: 7-ours\r\nX-Tenant-Id: 8-theirs\r\n", abroad: [4]int{550, 530, 550, 550}, home: [4]int{250, 530, 250, 550}},
		{who: "a cloud with our stamp", local: cloud, header: "X-Tenant-Id: 7-ours\r\n", abroad: [4]int{250, 530, 250, 250}, home: [4]int{250, 530, 250, 250}},
		{who: "a stranger with our stamp", local: stranger, header: "X-Tenant-Id: 7-ours\r\n", abroad: [4]int{550, 530, 550, 550}, home: [4]int{250, 530, 250, 550}},
		{who: "a stranger behind the balancer", local: balancer, first: "PROXY TCP4 192.0.2.7 127.0.0.1 4711 25\r\n", abroad: [4]int{550, 530, 550, 550}, home: [4]int{250, 530, 250, 550}},
		{who: "one of ours behind it", local: balancer, first: "PROXY TCP4 127.0.0.9 127.0.0.1 4711 25\r\n", abroad: [4]int{250, 530, 250, 250}, home: [4]int{250, 530, 250, 250}},
		{who: "who reads mail, behind it", local: balancer, first: "PROXY TCP4 127.0.0.55 127.0.0.1 4711 25\r\n", abroad: [4]int{250, 530, 250, 550}, home: [4]int{250, 530, 250, 550}},
		{who: "nobody behind it", local: balancer, first: "PROXY UNKNOWN\r\n", abroad: [4]int{550, 530, 550, 550}, home: [4]int{250, 530, 250, 550}},
	}
	want := map[*testkit.Sink]int{}
	for _, tt := range tests {
		for i, door := range doorNames {
			t.Run(tt.who+" at "+door, func(t *testing.T) {
				v := d.visit(t, door, tt.local, tt.first, tt.login)
				for sink, try := range map[*testkit.Sink]struct {
					rcpt string
					want int
				}{d.abroad: {"<u@out.test>", tt.abroad[i]}, d.home: {"<u@example.com>", tt.home[i]}} {
					if try.want == 250 {
						want[sink]++
					}
					if got := v.offer(try.rcpt, tt.header); got != try.want {
						t.Errorf("%s: %d, want %d", try.rcpt, got, try.want)
					}
				}
			})
		}
	}
	if want[d.abroad] < 15 || want[d.home] < 30 {
		t.Errorf("%d and %d messages: the table lets too few pass to tell anything", want[d.abroad], want[d.home])
	}
	waitMails(t, d.abroad, want[d.abroad])
	waitMails(t, d.home, want[d.home])
}

// tricks is the list of ways to make a relay of one: recipients as they stand
// behind RCPT TO:.
func tricks() []string {
	return []string{
		`<u@out.test>`, `<u%out.test@example.com>`, `<u%out.test>`, `<out.test!u>`, `<out.test!u@example.com>`,
		`<@example.com:u@out.test>`, `<@example.com,@c.test:u@out.test>`, `<u@out.test@example.com>`, `<"u@out.test"@example.com>`,
		`<"u@out.test">`, `<u@example.com@out.test>`, `<u@[127.0.0.1]>`, `<u@[IPv6:::1]>`, `<u@[IPv6:::ffff:127.0.0.1]>`, `<u@127.0.0.1>`, `<u@localhost>`,
		`<u@example.com.>`, `<u@example.com..>`, `<u@.example.com>`, `<u@EXAMPLE.COM>`, `< u@example.com>`, `<u@example.com >`, `u@example.com`, `<u@example.com`,
		`<u@example.com(x)>`, `<(x)u@example.com>`, `<u(x)@example.com>`, `<"u"@example.com>`, `<"u\@x"@example.com>`, `<u@example.com,u@out.test>`, `<u@example.com>,<u@out.test>`,
		`<u@example.com> ORCPT=rfc822;u@out.test`, `<u@example%2ecom>`, `<u@xn--example-1ga.com>`, `<u@example。com>`, `<ｕ@example.com>`,
		`<"u@out.test> ORCPT=rfc822;x"@example.com>`,
		`<"a> NOTIFY=NEVER "@example.com>`, `<"\"><u@out.test> "@example.com>`,
		`<postmaster>`, `<Postmaster>`, `<>`, `<"">`, `<""@example.com>`, `<-oQ/tmp@example.com>`, `<"|/bin/sh"@example.com>`, `<a..b@example.com>`, `<.a@example.com>`,
		`<u@sub.example.com>`, `<u@notexample.com>`, `<u@example.com.out.test>`, `<u@example.com\>`, `<u@example.com:25>`, `<u@example.com/out.test>`, `<u＠out.test@example.com>`, `<u％out.test@example.com>`,
	}
}

// Of these a door that takes mail for our domain from anybody takes the ones
// that are just that.
var honest = []string{`<u@example.com.>`, `<u@EXAMPLE.COM>`, `<"u"@example.com>`, `<u@example.com> ORCPT=rfc822;u@out.test`, `<postmaster>`, `<Postmaster>`}

// Nobody relays who may not, by every trick at every door: all of the list from
// a stranger, from one who may relay on another door, and with the words of
// those who may.
func TestNobodyRelays(t *testing.T) {
	d := openDoors(t)
	d.open(t, reader)
	attackers := []struct {
		name, local, first, header string
		doors                      []string
	}{
		{name: "a stranger", local: stranger, doors: doorNames},
		{name: "one of ours at the submission", local: ours, doors: []string{"submission"}},
		{name: "who reads mail", local: reader, doors: []string{"submission", "relay"}},
		{name: "a stranger with a stamp", local: stranger, header: "X-Tenant-Id: 7-ours\r\n", doors: doorNames},
		{name: "a cloud of others", local: cloud, header: "X-Tenant-Id: 8-theirs\r\n", doors: doorNames},
		{name: "a stranger behind the balancer", local: balancer, first: "PROXY TCP4 192.0.2.7 127.0.0.9 4711 25\r\n", doors: doorNames},
		{name: "nobody behind the balancer", local: balancer, first: "PROXY UNKNOWN 127.0.0.9 127.0.0.9 1 1\r\n", doors: doorNames},
	}
	taken := 0
	for _, a := range attackers {
		for _, door := range a.doors {
			t.Run(a.name+" at "+door, func(t *testing.T) {
				v := d.visit(t, door, a.local, a.first, false)
				for _, extra := range []string{"XCLIENT ADDR=127.0.0.9 LOGIN=alice@example.com", "XCLIENT ADDR=127.0.0.9", "AUTH EXTERNAL YWxpY2U="} {
					if r, err := v.Cmd(extra); err != nil || r.Code < 500 {
						t.Fatalf("%s: %v, %v", extra, r, err)
					}
				}
				for _, rcpt := range tricks() {
					code := v.offer(rcpt, a.header)
					fine := slices.Contains(honest, rcpt) && (door == "mx" || door == "submissions")
					if fine != (code == 250) || !fine && code/100 != 5 {
						t.Errorf("%s: %d, want it taken: %v", rcpt, code, fine)
					}
					if code == 250 {
						taken++
					}
				}
			})
		}
	}
	if taken == 0 {
		t.Fatal("nothing was taken: this proves nothing")
	}
	// Whoever waits in the queue for abroad would go with this one.
	if code := d.visit(t, "relay", ours, "", false).offer("<canary@out.test>", ""); code != 250 {
		t.Fatalf("the canary: %d", code)
	}
	waitMails(t, d.abroad, 1)
	for _, m := range waitMails(t, d.home, taken) {
		to, args, _ := strings.Cut(m.To[0], " ")
		if len(m.To) != 1 || !slices.Contains([]string{"<u@example.com>", "<postmaster@example.com>"}, to) || args != "" && args != "ORCPT=rfc822;u@out.test" {
			t.Errorf("the next hop was given %q", m.To)
		}
	}
}

// A header of somebody who is no balancer, and XCLIENT of the one who may.
func TestWhoMaySpeakForOthers(t *testing.T) {
	d := openDoors(t)
	c, err := testkit.DialFrom(stranger, d.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Write("PROXY TCP4 127.0.0.9 127.0.0.1 4711 25\r\n"); err != nil {
		t.Fatal(err)
	}
	if r, err := c.Read(); err != nil || r.Code != 220 {
		t.Fatalf("greeting: %v, %v", r, err)
	}
	if r, err := c.Read(); err != nil || r.Code != 554 {
		t.Errorf("a header of a stranger: %v, %v; want 554", r, err)
	}

	v := d.visit(t, "mx", forwarder, "", false)
	for _, tt := range []struct {
		xclient string
		abroad  int
	}{
		{"ADDR=192.0.2.7 NAME=[UNAVAILABLE]", 550},
		{"ADDR=127.0.0.9 NAME=[UNAVAILABLE]", 250},
		{"ADDR=[UNAVAILABLE] NAME=[UNAVAILABLE]", 550},
		{"ADDR=192.0.2.7 NAME=host.names.test", 250},
		{"ADDR=192.0.2.7 NAME=[TEMPUNAVAIL]", 450},
		{"ADDR=192.0.2.7 NAME=[UNAVAILABLE] LOGIN=alice@example.com", 250},
		{"ADDR=192.0.2.8 NAME=[UNAVAILABLE] LOGIN=[UNAVAILABLE]", 550},
	} {
		v.do("XCLIENT "+tt.xclient, 220)
		v.do("EHLO client.test", 250)
		if got := v.offer("<u@out.test>", ""); got != tt.abroad {
			t.Errorf("%s: %d, want %d", tt.xclient, got, tt.abroad)
		}
	}
	mails := waitMails(t, d.abroad, 3)
	if r := field(string(mails[0].Data), "Received"); !strings.Contains(r, "[127.0.0.9]") || strings.Contains(r, forwarder) {
		t.Errorf("Received: %s", r)
	}
}

// open opens a window by the socket, as a post-login script does.
func (d *doors) open(t *testing.T, addr string) {
	t.Helper()
	if code := d.post(t, url.Values{"addr": {addr}}); code != http.StatusNoContent {
		t.Fatalf("a window for %s: %d", addr, code)
	}
}

func (d *doors) post(t *testing.T, form url.Values) int {
	t.Helper()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", d.socket)
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	r, err := client.PostForm("http://gatepost/window", form)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	return r.StatusCode
}

// ask sends an RPC call from a local address and returns the answer, "" for
// none.
func (d *doors) ask(t *testing.T, local, call string) string {
	t.Helper()
	packet, err := hex.DecodeString(strings.ReplaceAll(call, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	dial := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(local)}}
	c, err := dial.Dial("udp", d.drac)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	answer := make([]byte, 2048)
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write(packet); err != nil {
		t.Fatal(err)
	}
	n, err := c.Read(answer)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%x", answer[:n])
}

// A DRAC client's bytes open a window, from a host that may, for the address
// that they name and for no other; a line that blocks that client stays.
func TestRelayWindows(t *testing.T) {
	d := openDoors(t)
	add := func(addr string) string {
		ip := net.ParseIP(addr).To4()
		return "12345678 00000000 00000002 000dbc05 00000001 00000001 00000000 00000000 00000000 00000000 " + hex.EncodeToString(ip)
	}
	const done, refused = "123456780000000100000000000000000000000000000000" + "00000000", "123456780000000100000000000000000000000000000000" + "00000001"
	may := func(local string) int { return d.visit(t, "mx", local, "", false).offer("<u@out.test>", "") }
	if got := may("127.0.0.56"); got != 550 {
		t.Errorf("before: %d", got)
	}
	if got := d.ask(t, stranger, add("127.0.0.56")); got != refused {
		t.Errorf("from a stranger: %q", got)
	}
	if got := may("127.0.0.56"); got != 550 {
		t.Errorf("behind a stranger's word: %d", got)
	}
	if got := d.ask(t, "127.0.0.8", add("127.0.0.56")); got != done {
		t.Errorf("from a mail server: %q", got)
	}
	for local, want := range map[string]int{"127.0.0.56": 250, "127.0.0.57": 550} {
		if got := may(local); got != want {
			t.Errorf("%s: %d, want %d", local, got, want)
		}
	}
	for _, form := range []url.Values{{}, {"addr": {"reader.test"}}, {"addr": {"0.0.0.0"}}, {"addr": {"127.0.0.57/8"}}, {"addr": {"127.0.0.57\r\n"}}, {"user": {"127.0.0.57"}}} {
		if code := d.post(t, form); code != http.StatusBadRequest {
			t.Errorf("%v: %d", form, code)
		}
	}
	if got := may("127.0.0.57"); got != 550 {
		t.Errorf("after bad calls: %d", got)
	}
	d.open(t, blocked)
	c, err := testkit.DialFrom(blocked, d.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if r, err := c.Read(); err != nil || r.Code != 554 {
		t.Errorf("a client with a window and a REJECT: %v, %v; want 554", r, err)
	}
	if got := d.visit(t, "submission", "127.0.0.56", "", false).offer("<u@out.test>", ""); got != 530 {
		t.Errorf("at the submission: %d", got)
	}
}
