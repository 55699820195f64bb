package proxy

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func bdat(text, last string) string { return fmt.Sprintf("BDAT %d%s\r\n%s", len(text), last, text) }

func TestBdat(t *testing.T) {
	for _, tt := range []struct {
		name   string
		chunks []string
		want   string
	}{
		{"one chunk", []string{simple}, simple},
		{"two chunks, divided inside CRLF", []string{"A: b\r\n\r\nx\r", "\n.\r\n"}, "A: b\r\n\r\nx\r\n.\r\n"},
		{"an empty last chunk", []string{simple, ""}, simple},
		{"dots are text", []string{"A: b\r\n\r\n.\r\n..\r\n"}, "A: b\r\n\r\n.\r\n..\r\n"},
		{"B4 a chunk without a line end", []string{"A: b\r\n\r\n" + strings.Repeat("x", 5000)}, "A: b\r\n\r\n" + strings.Repeat("x", 5000)},
		{"larger than the buffer", []string{"A: b\r\n\r\n", strings.Repeat("x", 3*bigBuffer+1), "\r\n"}, "A: b\r\n\r\n" + strings.Repeat("x", 3*bigBuffer+1) + "\r\n"},
		{"B5 an empty message", []string{""}, "\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := start(t, nil)
			c := g.envelope()
			// All in one segment: what a chunk leaves is the next command.
			var b strings.Builder
			for i, chunk := range tt.chunks {
				last := ""
				if i == len(tt.chunks)-1 {
					last = " LAST"
				}
				b.WriteString(bdat(chunk, last))
			}
			c.send(b.String() + "QUIT\r\n")
			for range tt.chunks {
				c.expect("250 2.0.0")
			}
			c.expect("221")
			kept := g.store.messages()
			if len(kept) != 1 {
				t.Fatalf("%d messages, want 1", len(kept))
			}
			if got := kept[0].text(t); got != tt.want {
				t.Errorf("text %.60q, want %.60q", got, tt.want)
			}
		})
	}
}

// B1, S-4: a chunk that ends early is no message.
func TestBdatCutOff(t *testing.T) {
	for _, text := range []string{"", strings.Repeat("x", 30)} {
		g := start(t, nil)
		c := g.envelope()
		c.send("BDAT 100000 LAST\r\n" + text)
		replies := c.replies()
		g.waitIdle()
		if n := len(g.store.messages()); n != 0 {
			t.Errorf("%d messages kept", n)
		}
		if strings.Contains(strings.Join(replies, " "), "250") {
			t.Errorf("replies %q", replies)
		}
	}
}

// B2, S-5: when the length of the chunk is unknown, nothing behind it is run.
func TestBdatMalformed(t *testing.T) {
	for _, arg := range []string{"4294967296 LAST", "+40", "-1", "0x10", "40 LASTX", "40 LAST X", "", " ", "LAST", "1e3", "99999999999999999999", "40\x00 LAST", "40\t", "４０"} {
		t.Run(fmt.Sprintf("%q", arg), func(t *testing.T) {
			g := start(t, nil)
			c := g.envelope()
			c.send("BDAT " + arg + "\r\nRSET\r\nMAIL FROM:<smug@x.example>\r\nRCPT TO:<u@b.example>\r\nDATA\r\n")
			c.expect("501 5.5.2")
			c.expectClosed()
			if n := g.handler.count("mail"); n != 1 {
				t.Errorf("%d transactions, want 1", n)
			}
		})
	}
	t.Run("bare LF behind BDAT", func(t *testing.T) {
		g := start(t, nil)
		c := g.envelope()
		c.send("BDAT 6\nRSET\r\nNOOP\r\n")
		c.expect("500 5.5.2")
		c.expectClosed()
	})
}

// B3: the bytes of a chunk that is not wanted are read all the same.
func TestBdatOutOfSequence(t *testing.T) {
	for _, tt := range []struct{ name, commands string }{
		{"no sender", ""},
		{"no recipient", "MAIL FROM:<s@a.example>\r\n"},
		{"all recipients refused", "MAIL FROM:<s@a.example>\r\nRCPT TO:<u@out.example>\r\n"},
	} {
		t.Run("B3 "+tt.name, func(t *testing.T) {
			g := start(t, nil)
			c := g.hello()
			c.send(tt.commands + "BDAT 10 LAST\r\nQUIT\r\nQUI\nMAIL FROM:<t@a.example>\r\n")
			for range strings.Count(tt.commands, "\n") {
				if _, err := c.reply(); err != nil {
					t.Fatal(err)
				}
			}
			c.expect("503 5.5.1")
			c.expect("250 2.1.0")
			if n := len(g.store.messages()); n != 0 {
				t.Errorf("%d messages kept", n)
			}
		})
	}
}

// B5: a message that has begun in chunks is continued in chunks or dropped.
func TestBdatInTheMiddle(t *testing.T) {
	g := start(t, func(c *Config, _ *gate) { c.Certificate, c.Key = certificate(t) })
	c := g.envelope()
	c.send(bdat("A: b\r\n", ""))
	c.expect("250")
	for _, cmd := range []string{"MAIL FROM:<t@a.example>", "RCPT TO:<v@b.example>", "STARTTLS", "DATA"} {
		c.do(cmd, "503 5.5.1")
	}
	c.send(bdat("", ""))
	c.expect("250")
	c.do("NOOP", "250")
	c.send(bdat("\r\nx\r\n", " LAST"))
	c.expect("250")
	if got := g.store.messages()[0].text(t); got != "A: b\r\n\r\nx\r\n" {
		t.Errorf("text %q", got)
	}
	c.do("MAIL FROM:<t@a.example>", "250")
	c.do("RCPT TO:<v@b.example>", "250")
	c.send(bdat("A: b\r\n", ""))
	c.expect("250")
	c.do("RSET", "250")
	c.send(bdat("x\r\n", " LAST"))
	c.expect("503")
	if n := len(g.store.messages()); n != 1 {
		t.Errorf("%d messages, want 1", n)
	}
}

// B5: each chunk costs a reply, so tiny ones are counted.
func TestBdatFlood(t *testing.T) {
	g := start(t, nil)
	c := g.envelope()
	go func() { _, _ = c.conn.Write([]byte(strings.Repeat("BDAT 1\r\nx", 100_000))) }()
	for n := 0; ; n++ {
		r, err := c.reply()
		if err != nil {
			t.Fatalf("after %d replies: %v", n, err)
		}
		if strings.HasPrefix(r, "421") {
			break
		}
		if n > g.srv.settings.Load().Limits.MaxJunk {
			t.Fatalf("still %q after %d chunks", r, n)
		}
	}
	g.waitIdle()
}

// B6: the size counts over all chunks.
func TestBdatTooLarge(t *testing.T) {
	for _, tt := range []struct {
		name   string
		mail   string
		chunks int
		want   string
	}{
		{"below", "", 9, "250"},
		{"exactly", "", 10, "250"},
		{"above", "", 11, "552 5.3.4"},
		{"SIZE= lies low", " SIZE=5", 11, "552 5.3.4"},
		{"SIZE= lies high", " SIZE=999", 2, "250"},
	} {
		t.Run("B6 "+tt.name, func(t *testing.T) {
			g := start(t, func(c *Config, _ *gate) { c.Limits.MaxSize = 1000 })
			c := g.hello()
			c.do("MAIL FROM:<s@a.example>"+tt.mail, "250")
			c.do("RCPT TO:<u@b.example>", "250")
			chunk := strings.Repeat("x", 98) + "\r\n"
			for i := range tt.chunks {
				c.send(bdat(chunk, ""))
				if i < 10 {
					c.expect("250")
				} else {
					c.expect(tt.want)
				}
			}
			c.send(bdat("", " LAST"))
			if tt.want == "250" {
				c.expect("250")
			} else {
				c.expect("503")
			}
			c.do("MAIL FROM:<s@a.example>", "250") // in step
			if want := map[bool]int{true: 1}[tt.want == "250"]; len(g.store.messages()) != want {
				t.Errorf("%d messages, want %d", len(g.store.messages()), want)
			}
		})
	}
	t.Run("one chunk far too large", func(t *testing.T) {
		g := start(t, func(c *Config, _ *gate) { c.Limits.MaxSize = 1000 })
		c := g.envelope()
		c.send(bdat(strings.Repeat("x", 1_000_000), " LAST"))
		c.expect("552 5.3.4")
		c.do("NOOP", "250")
	})
}

func TestBdatText(t *testing.T) {
	for _, end := range []string{"\n.\n", "\n.\r\n", "\r.\r", "\r\n.\r", "\x00", "x\r"} {
		t.Run(fmt.Sprintf("E5 %q", end), func(t *testing.T) {
			g := start(t, nil)
			c := g.envelope()
			c.send(bdat("A: b\r\n\r\nx"+end, " LAST"))
			c.expect("554 5.6.0")
			c.do("NOOP", "250")
			if n := len(g.store.messages()); n != 0 {
				t.Errorf("%d messages kept", n)
			}
		})
	}
	t.Run("E5 in a chunk that is not the last", func(t *testing.T) {
		g := start(t, nil)
		c := g.envelope()
		c.send(bdat("A: b\n", ""))
		c.expect("554 5.6.0")
		c.send(bdat("x\r\n", " LAST"))
		c.expect("503")
		if got := g.stats.get("message reject bare-lf"); got != 1 {
			t.Errorf("counted %d times, want once", got)
		}
	})
}

func TestBdatTimeout(t *testing.T) {
	g := start(t, func(c *Config, _ *gate) { c.Limits.DataTimeout = 50 * time.Millisecond })
	c := g.envelope()
	c.send("BDAT 100 LAST\r\nhalf")
	c.expect("421 4.4.2")
	c.expectClosed()
	g.waitIdle()
	if n := len(g.store.messages()); n != 0 {
		t.Errorf("%d messages kept", n)
	}
}

// B7: no BINARYMIME is offered, so none is accepted.
func TestNoBinaryMIME(t *testing.T) {
	g := start(t, nil)
	c := g.hello()
	c.do("MAIL FROM:<s@a.example> BODY=BINARYMIME", "501 5.5.4")
}
