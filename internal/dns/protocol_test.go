package dns_test

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"gatepost/internal/dns"
)

// nameserver answers real DNS questions over UDP on loopback.
type nameserver struct {
	conn net.PacketConn
	ptr  map[string]string   // "1.2.0.192.in-addr.arpa." → name
	a    map[string][4]byte  // name → address
	fail map[string]struct{} // SERVFAIL

	mu    sync.Mutex
	asked []string
}

func (n *nameserver) start(t *testing.T) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n.conn = conn
	var wg sync.WaitGroup
	wg.Go(n.serve)
	t.Cleanup(func() {
		_ = conn.Close()
		wg.Wait()
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

func (n *nameserver) serve() {
	buf := make([]byte, 1500)
	for {
		size, from, err := n.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(buf[:size]) != nil || len(m.Questions) != 1 {
			continue
		}
		answer := n.answer(m.ID, m.Questions[0])
		if packet, err := answer.Pack(); err == nil {
			_, _ = n.conn.WriteTo(packet, from)
		}
	}
}

func (n *nameserver) answer(id uint16, q dnsmessage.Question) dnsmessage.Message {
	name := q.Name.String()
	n.mu.Lock()
	n.asked = append(n.asked, name)
	n.mu.Unlock()
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: id, Response: true, Authoritative: true, RecursionAvailable: true},
		Questions: []dnsmessage.Question{q},
	}
	head := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 60}
	_, fails := n.fail[name]
	ptr, hasPTR := n.ptr[name]
	a, hasA := n.a[name]
	switch {
	case fails:
		m.RCode = dnsmessage.RCodeServerFailure
	case hasPTR && q.Type == dnsmessage.TypePTR:
		m.Answers = []dnsmessage.Resource{{Header: head, Body: &dnsmessage.PTRResource{PTR: dnsmessage.MustNewName(ptr)}}}
	case hasA && q.Type == dnsmessage.TypeA:
		m.Answers = []dnsmessage.Resource{{Header: head, Body: &dnsmessage.AResource{A: a}}}
	case !hasPTR && !hasA:
		m.RCode = dnsmessage.RCodeNameError
	}
	return m
}

func TestOverTheRealProtocol(t *testing.T) {
	n := &nameserver{
		ptr: map[string]string{
			"1.2.0.192.in-addr.arpa.": "mx.example.com.",
			"2.2.0.192.in-addr.arpa.": "forged.example.com.",
			"3.2.0.192.in-addr.arpa.": "short.",
			"4.2.0.192.in-addr.arpa.": "fails.example.com.",
		},
		a:    map[string][4]byte{"mx.example.com.": {192, 0, 2, 1}, "forged.example.com.": {198, 51, 100, 1}},
		fail: map[string]struct{}{"fails.example.com.": {}, "5.2.0.192.in-addr.arpa.": {}},
	}
	cfg := dns.DefaultConfig()
	cfg.Timeout = 10 * time.Second
	c := names(t, cfg, n.start(t))
	for addr, want := range map[string]string{
		"192.0.2.1": "mx.example.com",
		"192.0.2.2": "",
		"192.0.2.3": "",
		"192.0.2.4": "",
		"192.0.2.5": "",
		"192.0.2.6": "",
	} {
		if got := c.ClientName(t.Context(), netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: name = %q, want %q", addr, got, want)
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	want := map[string]bool{"mx.example.com.": true, "forged.example.com.": true, "short.": true, "fails.example.com.": true}
	for _, name := range n.asked {
		if _, isPTR := n.ptr[name]; !isPTR && !want[name] && name != "5.2.0.192.in-addr.arpa." && name != "6.2.0.192.in-addr.arpa." {
			t.Errorf("asked for %q: D11, the search list was used", name)
		}
	}
}
