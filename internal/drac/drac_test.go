package drac

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// opened is the store.
type opened struct {
	mu   sync.Mutex
	list []string
	err  error
}

func (o *opened) open(_ context.Context, a netip.Addr, d time.Duration) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return o.err
	}
	o.list = append(o.list, a.String()+" "+d.String())
	return nil
}

func (o *opened) fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.err = err
}

func (o *opened) take() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := strings.Join(o.list, ", ")
	o.list = nil
	return s
}

func start(t *testing.T, o *opened, change func(*Config)) *Server {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Address, cfg.Portmapper = "127.0.0.1:0", "127.0.0.1:0"
	cfg.Allow = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg, o.open, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

// ask sends hexadecimal words from a local address and returns the answer as
// such; "" where none comes.
func ask(t *testing.T, from string, to net.Addr, question string) string {
	t.Helper()
	c, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(from)}, to.(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b, err := hex.DecodeString(strings.ReplaceAll(question, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	in := make([]byte, 2000)
	n, err := c.Read(in)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for w := range bytes.Lines([]byte(hex.EncodeToString(in[:n]))) {
		for len(w) > 0 {
			out, w = append(out, string(w[:8])), w[8:]
		}
	}
	return strings.Join(out, " ")
}

const (
	head = "12345678 00000000 00000002 "
	none = "00000000 00000000 00000000 00000000 "
	ok   = "12345678 00000001 00000000 00000000 00000000 00000000"
)

// v2 is an address as rpcgen sends a char[16] from a machine whose chars have
// signs.
func v2(addr string) string {
	var b strings.Builder
	for _, c := range netip.MustParseAddr(addr).As16() {
		high := "000000"
		if c >= 0x80 {
			high = "ffffff"
		}
		b.WriteString(high + hex.EncodeToString([]byte{c}) + " ")
	}
	return b.String()
}

// The bytes that clients of rpc.dracd send.
func TestDRAC(t *testing.T) {
	o := &opened{}
	s := start(t, o, nil)
	for _, tt := range []struct {
		name, from, question, answer, opened string
	}{
		{"version 1", "127.0.0.1", head + "000dbc05 00000001 00000001 " + none + "c0000219", ok + " 00000000", "192.0.2.25 30m0s"},
		{"version 2", "127.0.0.1", head + "000dbc05 00000002 00000001 " + none + v2("2001:db8::fe"), ok + " 00000000", "2001:db8::fe 30m0s"},
		{"version 2, a mapped address", "127.0.0.1", head + "000dbc05 00000002 00000001 " + none + v2("::ffff:192.0.2.200"), ok + " 00000000", "192.0.2.200 30m0s"},
		{"with credentials", "127.0.0.1", head + "000dbc05 00000001 00000001 00000001 00000008 00000000 00000000 00000000 00000000 c0000219", ok + " 00000000", "192.0.2.25 30m0s"},
		{"null", "127.0.0.1", head + "000dbc05 00000001 00000000 " + none, ok, ""},
		{"not allowed", "127.0.0.9", head + "000dbc05 00000001 00000001 " + none + "c0000219", ok + " 00000001", ""},
		{"no host", "127.0.0.1", head + "000dbc05 00000001 00000001 " + none + "e0000001", ok + " 00000001", ""},
		{"half an address", "127.0.0.1", head + "000dbc05 00000001 00000001 " + none, "12345678 00000001 00000000 00000000 00000000 00000004", ""},
		{"more than an address", "127.0.0.1", head + "000dbc05 00000001 00000001 " + none + "c0000219 c0000219", "12345678 00000001 00000000 00000000 00000000 00000004", ""},
		{"another procedure", "127.0.0.1", head + "000dbc05 00000001 00000007 " + none, "12345678 00000001 00000000 00000000 00000000 00000003", ""},
		{"another version", "127.0.0.1", head + "000dbc05 00000003 00000001 " + none, "12345678 00000001 00000000 00000000 00000000 00000002 00000001 00000002", ""},
		{"another program", "127.0.0.1", head + "000186a3 00000003 00000001 " + none, "12345678 00000001 00000000 00000000 00000000 00000001", ""},
		{"another RPC", "127.0.0.1", "12345678 00000000 00000003 000dbc05 00000001 00000001", "12345678 00000001 00000001 00000000 00000002 00000002", ""},
		{"a reply", "127.0.0.1", "12345678 00000001 00000000", "", ""},
		{"endless credentials", "127.0.0.1", head + "000dbc05 00000001 00000001 00000001 fffffffc 00000000 00000000", "", ""},
		{"half a word", "127.0.0.1", "1234", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := ask(t, tt.from, s.Addr(), tt.question); got != tt.answer {
				t.Errorf("answer %s, want %s", got, tt.answer)
			}
			if got := o.take(); got != tt.opened {
				t.Errorf("opened %q, want %q", got, tt.opened)
			}
		})
	}
	o.fail(errors.New("disk"))
	if got := ask(t, "127.0.0.1", s.Addr(), head+"000dbc05 00000001 00000001 "+none+"c0000219"); got != ok+" 00000002" {
		t.Errorf("with a broken store: %s", got)
	}
}

func TestPortmapper(t *testing.T) {
	s := start(t, &opened{}, nil)
	port := hex.EncodeToString(pack(s.port))
	for _, tt := range []struct{ name, question, answer string }{
		{"the service", "000186a0 00000002 00000003 " + none + "000dbc05 00000001 00000011 00000000", ok + " " + port},
		{"over TCP", "000186a0 00000002 00000003 " + none + "000dbc05 00000001 00000006 00000000", ok + " 00000000"},
		{"another program", "000186a0 00000002 00000003 " + none + "000186a3 00000003 00000011 00000000", ok + " 00000000"},
		{"a list of all", "000186a0 00000002 00000004 " + none, "12345678 00000001 00000000 00000000 00000000 00000003"},
		{"half a question", "000186a0 00000002 00000003 " + none + "000dbc05", "12345678 00000001 00000000 00000000 00000000 00000004"},
		{"rpcbind", "000186a0 00000004 00000003 " + none, "12345678 00000001 00000000 00000000 00000000 00000002 00000002 00000002"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := ask(t, "127.0.0.1", s.ports.LocalAddr(), head+tt.question); got != tt.answer {
				t.Errorf("answer %s, want %s", got, tt.answer)
			}
		})
	}
}

func TestFeed(t *testing.T) {
	o := &opened{}
	path := filepath.Join(t.TempDir(), "drac.sock")
	start(t, o, func(c *Config) { c.Socket = path })
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}
	for _, tt := range []struct {
		addr   string
		code   int
		opened string
	}{
		{"192.0.2.1", 204, "192.0.2.1 30m0s"},
		{"2001:db8::1", 204, "2001:db8::1 30m0s"},
		{"::ffff:192.0.2.1", 204, "192.0.2.1 30m0s"},
		{"0.0.0.0", 400, ""},
		{"fe80::1%eth0", 400, ""},
		{"example.com", 400, ""},
		{"", 400, ""},
		{strings.Repeat("1", 10000), 400, ""},
	} {
		resp, err := client.PostForm("http://drac/", url.Values{"addr": {tt.addr}})
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := o.take(); resp.StatusCode != tt.code || got != tt.opened {
			t.Errorf("%.20s: %d, opened %q; want %d, %q", tt.addr, resp.StatusCode, got, tt.code, tt.opened)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("socket: %v %v", info.Mode(), err)
	}
}

func TestAllowFile(t *testing.T) {
	got, err := parseAllow("allow", strings.NewReader("# mail servers\n255.255.255.255 10.0.0.1\n\n255.255.0.0\t192.168.0.0 # all\n"))
	if err != nil || len(got) != 2 || got[0].String() != "10.0.0.1/32" || got[1].String() != "192.168.0.0/16" {
		t.Errorf("%v %v", got, err)
	}
	for _, line := range []string{"10.0.0.1", "255.0.255.0 10.0.0.0", "255.255.255.0 10.0.0.1", "0.0.0.0 0.0.0.0", "x 10.0.0.0", "255.255.255.0 ::1"} {
		if _, err := parseAllow("allow", strings.NewReader("\n"+line)); err == nil || !strings.HasPrefix(err.Error(), "allow:2: ") {
			t.Errorf("%q: %v", line, err)
		}
	}
}

func TestBadConfig(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"nobody allowed", func(c *Config) { c.Allow = nil }, "allow: missing"},
		{"everybody allowed", func(c *Config) { c.Allow = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")} }, "everybody"},
		{"a portmapper alone", func(c *Config) { c.Address = "" }, "no address to answer with"},
		{"a name", func(c *Config) { c.Address = "localhost:900" }, "address: "},
		{"no time", func(c *Config) { c.Window = 0 }, "window: "},
		{"a socket for all", func(c *Config) { c.SocketMode = "0666" }, "socket_mode: "},
		{"no file", func(c *Config) { c.AllowFile = "/nowhere" }, "allow_file: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := DefaultConfig()
			cfg.Address, cfg.Portmapper = "127.0.0.1:0", "127.0.0.1:0"
			cfg.Allow = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
			tt.change(&cfg)
			if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

func FuzzCall(f *testing.F) {
	f.Add(pack(1, 0, 2, program, 1, 1, 0, 0, 0, 0, 0xc0000219))
	f.Add(pack(1, 0, 2, program, 2, 1, 0, 0, 0, 0))
	s := &Server{log: slog.New(slog.DiscardHandler), allowed: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
		open: func(context.Context, netip.Addr, time.Duration) error { return nil }}
	f.Fuzz(func(t *testing.T, packet []byte) {
		c, err := parseCall(packet)
		if err != nil {
			return
		}
		for _, answer := range []func(context.Context, call, netip.Addr) []byte{s.drac, s.portmap} {
			if out := s.respond(t.Context(), c, netip.MustParseAddr("10.0.0.1"), answer); len(out) > len(packet)+8 {
				t.Errorf("%d bytes are answered with %d", len(packet), len(out))
			}
		}
	})
}
