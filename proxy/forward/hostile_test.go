package forward

import (
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// served starts a next hop of its own kind.
func served(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			wg.Go(func() { defer c.Close(); serve(c) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return ln.Addr().String()
}

// TestQ9Banner of 95 MB: it is not read.
func TestQ9Banner(t *testing.T) {
	for _, piece := range []string{strings.Repeat("x", 4096), "220-" + strings.Repeat("welcome ", 100) + "\r\n"} {
		var sent atomic.Int64
		address := served(t, func(c net.Conn) {
			for sent.Load() < 95<<20 {
				n, err := io.WriteString(c, piece)
				sent.Add(int64(n))
				if err != nil {
					return
				}
			}
		})
		for _, scheme := range []string{"smtp://", "lmtp://"} {
			sent.Store(0)
			f := newForwarder(t, quick(scheme+address))
			check(t, deliver(t, f, envelope(t, "a@example.com"), hello), "deferred 451 4.5.0 protocol error while waiting for the greeting…")
			if n := sent.Load(); n > 16<<20 {
				t.Errorf("%s %.8q…: %d bytes went out", scheme, piece, n)
			}
		}
	}
}

// TestFaSlowReader takes the message byte by byte: that is given up, and no
// final dot is sent.
func TestFaSlowReader(t *testing.T) {
	address := served(t, func(c net.Conn) {
		_ = c.(*net.TCPConn).SetReadBuffer(4096)
		b := make([]byte, 512)
		reply := func(text string) { _, _ = io.WriteString(c, text+"\r\n") }
		reply("220 slow")
		for {
			n, err := c.Read(b)
			if err != nil {
				return
			}
			switch verb := string(b[:min(n, 4)]); verb {
			case "EHLO":
				reply("250 slow")
			case "DATA":
				reply("354 go")
				for {
					if _, err := c.Read(b[:1]); err != nil {
						return
					}
					time.Sleep(5 * time.Millisecond) // what a slow reader does
				}
			default:
				reply("250 ok")
			}
		}
	})
	r := quick("smtp://" + address)
	r.WriteTimeout = 300 * time.Millisecond
	f := newForwarder(t, r)
	start := time.Now()
	check(t, deliver(t, f, envelope(t, "a@example.com"), text(strings.Repeat("0123456789\r\n", 1<<20))),
		"deferred 451 4.4.2 connection failed while sending the message: no answer in time")
	if took := time.Since(start); took > 8*time.Second {
		t.Errorf("took %v", took)
	}
}

// TestQ9PerRecipientMix: each recipient has the answer that was meant for him,
// whatever the answers of the others.
func TestQ9PerRecipientMix(t *testing.T) {
	replies := []struct{ reply, want string }{
		{"250 2.1.5 ok", sent}, {"450 4.2.1 later", "deferred 450 4.2.1 later"}, {"550 5.1.1 who?", "bounced 550 5.1.1 who?"}, {"251 2.1.5 forwarded", sent}, {"552 5.2.2 full", "bounced 552 5.2.2 full"},
	}
	rules := script{}
	var rcpts, want []string
	for i := range 23 {
		name := string(rune('a'+i)) + "@example.com"
		r := replies[(i*i+3*i)%len(replies)]
		rules["RCPT TO:<"+name] = r.reply
		rcpts, want = append(rcpts, name), append(want, r.want)
	}
	for _, lmtp := range []bool{false, true} {
		for _, offers := range [][]string{allOffers, {"8BITMIME"}} {
			p := startPeer(t, &peer{lmtp: lmtp, offers: offers, scripts: []script{rules}})
			f := newForwarder(t, quick(p.url()))
			for range 2 {
				check(t, deliver(t, f, envelope(t, rcpts...), hello), want...)
			}
			if n := len(p.got()); n != 2 {
				t.Errorf("%d messages, want 2", n)
			}
		}
	}
}
