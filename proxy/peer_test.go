package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"hash/crc32"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"

	"gatepost/internal/mail"
)

// facts notes the session that the handler was asked about last.
func (g *gate) facts() *sync.Map {
	var seen sync.Map
	g.handler.connect = func(tx *mail.Transaction) mail.Verdict {
		seen.Store("session", *tx.Session)
		return mail.Verdict{}
	}
	return &seen
}

func sessionOf(t *testing.T, seen *sync.Map) mail.Session {
	t.Helper()
	v, ok := seen.Load("session")
	if !ok {
		t.Fatal("nobody asked")
	}
	return v.(mail.Session)
}

// header is what a real balancer's library writes.
func header(t *testing.T, version byte, source string) string {
	t.Helper()
	h := proxyproto.HeaderProxyFromAddrs(version, tcp(source), tcp("127.0.0.1:25"))
	if strings.HasPrefix(source, "[") {
		h = proxyproto.HeaderProxyFromAddrs(version, tcp(source), tcp("[::1]:25"))
	}
	return format(t, h)
}

func format(t *testing.T, h *proxyproto.Header) string {
	t.Helper()
	b, err := h.Format()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func tcp(s string) *net.TCPAddr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s)) }

func behindBalancer(c *Config, _ *gate) {
	c.ProxyProtocol = prefixes("127.0.0.0/8")
	c.Trusted = prefixes("127.0.0.0/8", "10.0.0.0/8")
}

func TestProxyProtocolNamesTheClient(t *testing.T) {
	local := &proxyproto.Header{Version: 2, Command: proxyproto.LOCAL}
	tlvs := proxyproto.HeaderProxyFromAddrs(2, tcp("192.0.2.7:4711"), tcp("127.0.0.1:25"))
	if err := tlvs.SetTLVs([]proxyproto.TLV{{Type: proxyproto.PP2_TYPE_AUTHORITY, Value: []byte("mx1.b.example")}, {Type: proxyproto.PP2_TYPE_NOOP, Value: make([]byte, 1000)}}); err != nil {
		t.Fatal(err)
	}
	unix := proxyproto.HeaderProxyFromAddrs(2, &net.UnixAddr{Name: "/x", Net: "unix"}, &net.UnixAddr{Name: "/y", Net: "unix"})
	tests := []struct {
		name, header, client string
		trusted              bool
	}{
		{"v1", header(t, 1, "192.0.2.7:4711"), "192.0.2.7:4711", false},
		{"v1, IPv6", header(t, 1, "[2001:db8::7]:4711"), "[2001:db8::7]:4711", false},
		{"v1, of our network", header(t, 1, "10.1.2.3:4711"), "10.1.2.3:4711", true},
		{"v1, unknown", "PROXY UNKNOWN\r\n", "127.0.0.1:0", false},
		{"v1, unknown with addresses", "PROXY UNKNOWN 10.1.2.3 10.0.0.1 1 2\r\n", "127.0.0.1:0", false},
		{"v2", header(t, 2, "192.0.2.7:4711"), "192.0.2.7:4711", false},
		{"v2, IPv6", header(t, 2, "[2001:db8::7]:4711"), "[2001:db8::7]:4711", false},
		{"v2, of our network", header(t, 2, "10.1.2.3:4711"), "10.1.2.3:4711", true},
		{"v2, more about it", format(t, tlvs), "192.0.2.7:4711", false},
		{"v2, its own health check", format(t, local), "127.0.0.1:0", false},
		{"v2, a client on a socket", format(t, unix), "127.0.0.1:0", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := newGate(t, behindBalancer)
			seen := g.facts()
			g.run()
			c := g.dial()
			c.send(tt.header + "EHLO client.example\r\n") // what stands behind it is the client's
			c.expect("220")
			c.expect("250")
			s := sessionOf(t, seen)
			if got := s.Client.String(); got != tt.client || s.Trusted != tt.trusted || s.Proxied.String() != "127.0.0.1" {
				t.Errorf("client %s, trusted %v, proxied by %s; want %s, %v", got, s.Trusted, s.Proxied, tt.client, tt.trusted)
			}
		})
	}
}

// Who must name the client and does not is no client: nothing is said to it.
func TestProxyProtocolRefused(t *testing.T) {
	v2 := func(command, family byte, body string) string {
		return v2Signature + string([]byte{command, family}) + string(binary.BigEndian.AppendUint16(nil, uint16(len(body)))) + body
	}
	v4 := "\xc0\x00\x02\x07\x7f\x00\x00\x01\x12\x67\x00\x19"
	crc := v2(0x21, 0x11, v4+"\x03\x00\x04\x00\x00\x00\x01")
	tests := []struct{ name, send string }{
		{"SMTP", "EHLO client.example\r\n"},
		{"one line of it", "EHLO c\r\n"},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00"},
		{"v1 in lower case", "proxy TCP4 192.0.2.7 127.0.0.1 4711 25\r\n"},
		{"v1 of UDP", "PROXY UDP4 192.0.2.7 127.0.0.1 4711 25\r\n"},
		{"v1, two blanks", "PROXY TCP4  192.0.2.7 127.0.0.1 4711 25\r\n"},
		{"v1, one word too many", "PROXY TCP4 192.0.2.7 127.0.0.1 4711 25 x\r\n"},
		{"v1, one too few", "PROXY TCP4 192.0.2.7 127.0.0.1 4711\r\n"},
		{"v1, bare LF", "PROXY TCP4 192.0.2.7 127.0.0.1 4711 25\n" + strings.Repeat("x", 100)},
		{"v1, no end", "PROXY TCP4 " + strings.Repeat("1", 200)},
		{"v1, IPv6 as TCP4", "PROXY TCP4 2001:db8::7 127.0.0.1 4711 25\r\n"},
		{"v1, IPv4 as TCP6", "PROXY TCP6 192.0.2.7 ::1 4711 25\r\n"},
		{"v1, mapped as TCP4", "PROXY TCP4 ::ffff:10.1.2.3 127.0.0.1 4711 25\r\n"},
		{"v1, octal", "PROXY TCP4 010.1.2.3 127.0.0.1 4711 25\r\n"},
		{"v1, a zone", "PROXY TCP6 fe80::1%eth0 ::1 4711 25\r\n"},
		{"v1, no address", "PROXY TCP4 localhost 127.0.0.1 4711 25\r\n"},
		{"v1, port too large", "PROXY TCP4 192.0.2.7 127.0.0.1 65536 25\r\n"},
		{"v1, port with a sign", "PROXY TCP4 192.0.2.7 127.0.0.1 +4711 25\r\n"},
		{"v1, port with a zero", "PROXY TCP4 192.0.2.7 127.0.0.1 04711 25\r\n"},
		{"v1, the unspecified address", "PROXY TCP4 0.0.0.0 127.0.0.1 4711 25\r\n"},
		{"v1, multicast", "PROXY TCP4 224.0.0.1 127.0.0.1 4711 25\r\n"},
		{"v1, broadcast", "PROXY TCP4 255.255.255.255 127.0.0.1 4711 25\r\n"},
		{"v2, version 3", v2(0x31, 0x11, v4)},
		{"v2, command 2", v2(0x22, 0x11, v4)},
		{"v2, UDP", v2(0x21, 0x12, v4)},
		{"v2, unknown family", v2(0x21, 0x41, v4)},
		{"v2, too short", v2(0x21, 0x11, v4[:11])},
		{"v2, IPv4 as IPv6", v2(0x21, 0x21, v4)},
		{"v2, too long", v2Signature + "\x21\x11\xff\xff" + strings.Repeat("x", 70000)},
		{"v2, half a TLV", v2(0x21, 0x11, v4+"\x03\x00")},
		{"v2, a TLV that is longer than all", v2(0x21, 0x11, v4+"\x02\xff\xff")},
		{"v2, a wrong checksum", crc},
		{"v2, the unspecified address", v2(0x21, 0x11, "\x00\x00\x00\x00"+v4[4:])},
		{"two headers", "PROXY TCP4 192.0.2.7 127.0.0.1 4711 25\r\nPROXY TCP4 10.1.2.3 127.0.0.1 4711 25\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := start(t, behindBalancer)
			c := g.dial()
			_, _ = io.WriteString(c.conn, tt.send)
			_ = c.conn.(*net.TCPConn).CloseWrite()
			got, _ := io.ReadAll(c.r)
			if tt.name == "two headers" { // the second is the client's, who is no balancer
				if !strings.Contains(string(got), "\n554 ") && !strings.HasPrefix(string(got), "554 ") {
					t.Errorf("said %q", got)
				}
				return
			}
			if len(got) > 0 || g.handler.count("connect") > 0 {
				t.Errorf("said %q, asked %v", got, g.handler.calls)
			}
		})
	}
}

// A header that comes byte by byte is one all the same; one that does not come
// ends the connection in time.
func TestProxyProtocolInTime(t *testing.T) {
	g := newGate(t, func(c *Config, g *gate) { behindBalancer(c, g); c.Limits.CommandTimeout = 200 * time.Millisecond })
	seen := g.facts()
	g.run()
	slow := g.dial()
	for _, b := range []byte(header(t, 1, "192.0.2.7:4711")) {
		slow.send(string(b))
	}
	slow.expect("220")
	if s := sessionOf(t, seen); s.Client.Addr().String() != "192.0.2.7" {
		t.Errorf("client %s", s.Client)
	}
	silent := g.dial()
	silent.send("PROXY TCP4 192.")
	silent.expectClosed()
	if n := g.stats.get("connection rejected"); n != 1 {
		t.Errorf("%d rejected, want 1", n)
	}
}

// Anybody else is taken for who he is, and his header for nonsense.
func TestProxyProtocolOfStrangers(t *testing.T) {
	for _, version := range []byte{1, 2} {
		g := newGate(t, func(c *Config, _ *gate) {
			c.ProxyProtocol, c.Trusted = prefixes("192.0.2.5/32"), prefixes("10.0.0.0/8")
		})
		seen := g.facts()
		g.run()
		c := g.dial()
		c.send(header(t, version, "10.1.2.3:4711"))
		c.expect("220")
		all := c.replies()
		if len(all) == 0 || !strings.HasPrefix(all[len(all)-1], "554 ") {
			t.Errorf("version %d: %q, want 554 at last", version, all)
		}
		if s := sessionOf(t, seen); s.Trusted || s.Client.Addr().String() != "127.0.0.1" || s.Proxied.IsValid() {
			t.Errorf("version %d: %+v", version, s)
		}
	}
}

// What a client may is counted for the client, not for the balancer.
func TestProxyProtocolLimits(t *testing.T) {
	g := start(t, func(c *Config, g *gate) { behindBalancer(c, g); c.Limits.MaxConnectionsPerClient = 2 })
	open := func(source string) *client {
		c := g.dial()
		c.send(header(t, 2, source))
		return c
	}
	first := open("192.0.2.7:1")
	first.expect("220")
	open("192.0.2.7:2").expect("220")
	third := open("192.0.2.7:3")
	third.expect("421")
	third.expectClosed()
	open("192.0.2.8:1").expect("220") // another one has places
	for i := range 4 {
		open(netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), uint16(i)).String()).expect("220") // ours are not counted
	}
	first.do("QUIT", "221")
	first.expectClosed()
	poll(t, "the place of the first", func() bool {
		g.srv.places.mu.Lock()
		defer g.srv.places.mu.Unlock()
		return g.srv.places.clients[netip.MustParsePrefix("192.0.2.7/32")] == 1
	})
	open("192.0.2.7:4").expect("220")
	if n := g.stats.get("connection client_limit"); n != 1 {
		t.Errorf("%d refused, want 1", n)
	}
}

// The header comes before TLS, which is the client's own.
func TestProxyProtocolBeforeTLS(t *testing.T) {
	cert, key := certificate(t)
	g := newGate(t, func(c *Config, g *gate) {
		behindBalancer(c, g)
		c.Role, c.Certificate, c.Key = Submissions, cert, key
	})
	seen := g.facts()
	g.run()
	c := g.dial()
	c.send(header(t, 2, "192.0.2.7:4711"))
	c = newClient(t, tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true}))
	c.expect("220")
	if s := sessionOf(t, seen); s.Client.Addr().String() != "192.0.2.7" || s.TLS == nil {
		t.Errorf("%+v", s)
	}
}

func TestProxiedInReceived(t *testing.T) {
	g := start(t, behindBalancer)
	c := g.dial()
	c.send(header(t, 1, "192.0.2.7:4711"))
	c.expect("220")
	for _, cmd := range []string{"EHLO client.example", "MAIL FROM:<s@a.example>", "RCPT TO:<u@b.example>"} {
		c.do(cmd, "250")
	}
	c.do("DATA", "354")
	c.do("Subject: x\r\n\r\nx\r\n.", "250")
	m := g.store.messages()
	if len(m) != 1 || !strings.Contains(string(m[0].Header), "from client.example (unknown [192.0.2.7])") || strings.Contains(string(m[0].Header), "127.0.0.1") {
		t.Errorf("kept %d: %s", len(m), m[0].Header)
	}
	if m[0].ClientAddr.Addr().String() != "192.0.2.7" {
		t.Errorf("client in the spool: %s", m[0].ClientAddr)
	}
}

func windowsOf(open ...string) *fakeWindows {
	w := &fakeWindows{open: make(map[string]bool)}
	for _, a := range open {
		w.open[a] = true
	}
	return w
}

type fakeWindows struct {
	mu    sync.Mutex
	open  map[string]bool
	asked []string
	slow  bool
}

func (w *fakeWindows) Open(ctx context.Context, client netip.Addr) bool {
	w.mu.Lock()
	w.asked = append(w.asked, client.String())
	w.mu.Unlock()
	if w.slow {
		<-ctx.Done()
		return false
	}
	return w.open[client.String()]
}

// FuzzProxyHeader: whatever comes, the parser reads no byte too many, and names
// nobody that could not be a client.
func FuzzProxyHeader(f *testing.F) {
	f.Add([]byte("PROXY TCP4 192.0.2.7 127.0.0.1 4711 25\r\nEHLO x\r\n"))
	f.Add([]byte("PROXY TCP6 2001:db8::7 ::1 4711 25\r\n"))
	f.Add([]byte("PROXY UNKNOWN\r\n"))
	f.Add([]byte(v2Signature + "\x21\x11\x00\x0c\xc0\x00\x02\x07\x7f\x00\x00\x01\x12\x67\x00\x19"))
	f.Add([]byte(v2Signature + "\x20\x00\x00\x00"))
	f.Add(checked([]byte(v2Signature + "\x21\x11\x00\x13\xc0\x00\x02\x07\x7f\x00\x00\x01\x12\x67\x00\x19\x03\x00\x04\x00\x00\x00\x00")))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		got, err := readProxyHeader(func(n int) ([]byte, error) {
			p := make([]byte, n)
			_, err := io.ReadFull(r, p)
			return p, err
		})
		used := b[:len(b)-r.Len()]
		if err != nil {
			if got.IsValid() {
				t.Errorf("%v with %v", got, err)
			}
			return
		}
		if bytes.HasPrefix(b, []byte("PROXY")) && bytes.IndexByte(used, '\n') != len(used)-1 {
			t.Errorf("read %q", used)
		}
		if got.IsValid() && (!isHost(got.Addr()) || got.Addr().Is4In6()) {
			t.Errorf("client %v", got)
		}
		// What the library of others reads, it reads as the same.
		other, err := proxyproto.Read(bufio.NewReader(bytes.NewReader(used)))
		if err == nil && got.IsValid() && other.SourceAddr != nil {
			if a, ok := other.SourceAddr.(*net.TCPAddr); ok && a.AddrPort().Addr().Unmap() != got.Addr() {
				t.Errorf("%q: %v, and the library says %v", used, got, a)
			}
		}
	})
}

// checked writes the checksum into the last four bytes.
func checked(head []byte) []byte {
	sum := crc32.Checksum(head, crc32.MakeTable(crc32.Castagnoli))
	binary.BigEndian.PutUint32(head[len(head)-4:], sum)
	return head
}
