package proxy

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// smuggled is what an attacker wants to be taken for a second message.
const smuggled = "MAIL FROM:<smug@x.example>\r\nRCPT TO:<u@b.example>\r\nDATA\r\nFrom: smug@x.example\r\n\r\nsmuggled"

// checkLedger is the rule for all of these tests: what the store holds is what
// the client was told it holds.
func checkLedger(t *testing.T, g *gate, replies []string) {
	t.Helper()
	queued := 0
	for _, r := range replies {
		if strings.HasPrefix(r, "250 2.0.0 queued as ") {
			queued++
		}
	}
	if kept := len(g.store.messages()); kept != queued {
		t.Errorf("%d messages kept, %d answered 250: %q", kept, queued, replies)
	}
	for _, m := range g.store.messages() {
		if m.Envelope.Sender.Local == "smug" {
			t.Errorf("the smuggled message was taken: %q", replies)
		}
	}
}

func TestFalseEndsOfData(t *testing.T) {
	ends := map[string]string{
		"E1 LF dot LF":              "\n.\n",
		"E1 LF dot CRLF":            "\n.\r\n",
		"E1 LF dot CR":              "\n.\r",
		"E1 CR dot LF":              "\r.\n",
		"E1 CR dot CR":              "\r.\r",
		"E1 CR dot CRLF":            "\r.\r\n",
		"E1 LF LF dot CRLF":         "\n\n.\r\n",
		"E2 CRLF dot LF":            "\r\n.\n",
		"E2 CRLF dot CR":            "\r\n.\r",
		"E2 CRLF dot CR X":          "\r\n.\rX",
		"E2 CRLF dot NUL":           "\r\n.\x00\r\n",
		"E2 CRLF NUL dot":           "\r\n\x00.\r\n",
		"E3 CRLF dot CR CRLF":       "\r\n.\r\r\n",
		"E2 CRLF dot CR CR":         "\r\n.\r\r",
		"E1 vertical tab":           "\v.\v",
		"E1 form feed":              "\r\n.\f\r\n",
		"E1 unicode line separator": "\u2028.\u2028",
	}
	for name, end := range ends {
		for _, second := range []string{smuggled, strings.ReplaceAll(smuggled, "DATA\r\n", "BDAT 86 LAST\r\n")} {
			t.Run(name, func(t *testing.T) {
				g := start(t, nil)
				c := g.envelope()
				c.do("DATA", "354")
				c.send("Subject: x\r\n\r\nfirst" + end + second + "\r\n.\r\nQUIT\r\n")
				replies := c.replies()
				checkLedger(t, g, replies)
				if len(replies) != 2 || !strings.HasPrefix(replies[1], "221") {
					t.Errorf("replies %q, want one for the message and one for QUIT", replies)
				}
				clean := !strings.ContainsAny(strings.ReplaceAll(end, "\r\n", ""), "\r\n\x00")
				if got := strings.HasPrefix(replies[0], "250"); got != clean {
					t.Errorf("reply %q, want accepted = %t", replies[0], clean)
				}
			})
		}
	}
}

// E3: go-smtp never sees the end of these; the next message must come through.
func TestEndBehindDoubleCR(t *testing.T) {
	for _, text := range []string{"a\r\r\n.\r\n", "a\r\n.\r\r\n.\r\n"} {
		g := start(t, nil)
		c := g.envelope()
		c.do("DATA", "354")
		c.send(text)
		c.expect("554 5.6.0")
		c.do("MAIL FROM:<s@a.example>", "250")
		c.do("RCPT TO:<u@b.example>", "250")
		c.do("DATA", "354")
		c.do(simple+".", "250")
		if n := len(g.store.messages()); n != 1 {
			t.Errorf("%q: %d messages, want 1", text, n)
		}
	}
}

func TestRefusedTextSaysWhy(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"bare CR", "a\rb\r\n", "554 5.6.0 the message contains a CR without LF"},
		{"bare LF", "a\nb\r\n", "554 5.6.0 the message contains an LF without CR"},
		{"NUL", "a\x00b\r\n", "554 5.6.0 the message contains a NUL byte"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := start(t, nil)
			c := g.envelope()
			c.do("DATA", "354")
			c.send("Subject: x\r\n\r\n" + tt.text + ".\r\n")
			c.expect(tt.want)
			c.do("NOOP", "250")
			if n := g.handler.count("message"); n != 0 {
				t.Errorf("the handler was asked about a message that is refused")
			}
		})
	}
}

func TestDots(t *testing.T) {
	for _, tt := range []struct{ name, wire, want string }{
		{"E7 empty message", "", ""},
		{"E7 two dots", "..\r\n", ".\r\n"},
		{"E7 three dots", "...\r\n", "..\r\n"},
		{"E7 dot and text", ".x\r\n", "x\r\n"},
		{"E7 dot inside a line", "a.\r\n", "a.\r\n"},
		{"E7 line of two dots behind an empty one", "\r\n..\r\n", "\r\n.\r\n"},
		{"E7 first line a dot", "..\r\nx\r\n", ".\r\nx\r\n"},
		{"E7 long lines", strings.Repeat("x", 200_000) + "\r\n..\r\n", strings.Repeat("x", 200_000) + "\r\n.\r\n"},
		{"8-bit line", "\xe9\xff" + strings.Repeat("\xfe", 2000) + "\r\n", "\xe9\xff" + strings.Repeat("\xfe", 2000) + "\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := start(t, nil)
			c := g.envelope()
			c.do("DATA", "354")
			c.send("A: b\r\n\r\n" + tt.wire + ".\r\n")
			c.expect("250")
			if got := g.store.messages()[0].body; got != tt.want {
				t.Errorf("body %.60q, want %.60q", got, tt.want)
			}
		})
	}
}

func TestConnectionEndsInsideData(t *testing.T) {
	for _, text := range []string{"", "Subject: x\r\n\r\nhalf", "whole\r\n", "whole\r\n.", "whole\r\n.\r"} {
		t.Run(fmt.Sprintf("E9 %q", text), func(t *testing.T) {
			g := start(t, nil)
			c := g.envelope()
			c.do("DATA", "354")
			c.send(text)
			checkLedger(t, g, c.replies())
			g.waitIdle()
			if n := len(g.store.messages()); n != 0 {
				t.Errorf("%d messages kept", n)
			}
			if g.handler.count("abort") != 1 {
				t.Errorf("the handler was not told of the end")
			}
		})
	}
}

// waitIdle waits until all sessions are over.
func (g *gate) waitIdle() {
	g.t.Helper()
	poll(g.t, "the end of all sessions", func() bool { return g.stats.get("active") == 0 })
}

// E10: what comes behind a timeout is text, not commands.
func TestPauseInsideData(t *testing.T) {
	g := start(t, func(c *Config, _ *gate) { c.Limits.DataTimeout = 50 * time.Millisecond })
	c := g.envelope()
	c.do("DATA", "354")
	c.send("Subject: x\r\n\r\nhalf\r\n")
	c.expect("421 4.4.2")
	c.send(smuggled + "\r\n.\r\n")
	c.expectClosed()
	g.waitIdle()
	if n := len(g.store.messages()); n != 0 {
		t.Errorf("%d messages kept", n)
	}
}

// E11: the message comes before the 354.
func TestMessageBeforeGoAhead(t *testing.T) {
	t.Run("DATA obeyed", func(t *testing.T) {
		g := start(t, nil)
		c := g.envelope()
		c.send("DATA\r\n" + simple + ".\r\n")
		c.expect("354")
		c.expect("250")
		if got := g.store.messages()[0].text(t); got != simple {
			t.Errorf("text %q", got)
		}
	})
	for _, tt := range []struct{ name, commands string }{
		{"no recipients", "MAIL FROM:<s@a.example>\r\nRCPT TO:<u@out.example>\r\n"},
		{"no sender", ""},
		{"DATA with an argument", "MAIL FROM:<s@a.example>\r\nRCPT TO:<u@b.example>\r\n"},
	} {
		data := "DATA\r\n"
		if tt.name == "DATA with an argument" {
			data = "DATA now\r\n"
		}
		t.Run(tt.name+", one segment", func(t *testing.T) {
			g := start(t, nil)
			c := g.hello()
			c.send(tt.commands + data + smuggled + "\r\n.\r\n")
			checkLedger(t, g, c.replies())
			if n := len(g.store.messages()); n != 0 {
				t.Errorf("%d messages kept", n)
			}
		})
		t.Run(tt.name+", two segments", func(t *testing.T) {
			g := start(t, nil)
			c := g.hello()
			c.send(tt.commands + data)
			for range strings.Count(tt.commands+data, "\n") {
				if _, err := c.reply(); err != nil {
					t.Fatal(err)
				}
			}
			c.send("Received: by x\r\n" + smuggled + "\r\n.\r\n")
			checkLedger(t, g, c.replies())
			if n := len(g.store.messages()); n != 0 {
				t.Errorf("%d messages kept", n)
			}
		})
	}
}

// A DATA that the policy refuses is no different.
func TestMessageBehindDataRefusedByPolicy(t *testing.T) {
	g := start(t, nil)
	g.handler.data = rejecting("550 5.7.1 no")
	c := g.envelope()
	c.send("DATA\r\n" + smuggled + "\r\n.\r\n")
	c.expect("550 5.7.1 no")
	c.expectClosed()
	if n := len(g.store.messages()); n != 0 {
		t.Errorf("%d messages kept", n)
	}
}

func TestSizeLimit(t *testing.T) {
	text := func(n int) string { return strings.Repeat("x", n-2) + "\r\n" }
	for _, tt := range []struct {
		name string
		size int
		want string
	}{
		{"S-16 exactly the limit", 1000, "250"},
		{"one byte more", 1001, "552 5.3.4"},
		{"far more than any buffer", 1_000_000, "552 5.3.4"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := start(t, func(c *Config, _ *gate) { c.Limits.MaxSize = 1000 })
			c := g.envelope()
			c.do("DATA", "354")
			c.send(text(tt.size-2) + "\r\n" + ".\r\n")
			c.expect(tt.want)
			c.do("MAIL FROM:<s@a.example>", "250") // the remainder was not run
		})
	}
}

func TestLineEndings(t *testing.T) {
	const wire = "Subject: x\n\nline\rline\r\n.\nend\r\n"
	// ".\n" lost its dot as a stuffed one.
	const want = "line\r\nline\r\n\r\nend\r\n"
	for _, tt := range []struct {
		name    string
		endings LineEndings
		trusted string
		reply   string
	}{
		{"strict, trusted", Strict, "127.0.0.0/8", "554 5.6.0"},
		{"normalise, not trusted", Normalise, "10.0.0.0/8", "554 5.6.0"},
		{"normalise, trusted", Normalise, "127.0.0.0/8", "250"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := start(t, func(c *Config, _ *gate) {
				c.LineEndings = tt.endings
				c.Trusted = prefixes(tt.trusted)
			})
			c := g.envelope()
			c.do("DATA", "354")
			c.send(wire + ".\r\n")
			c.expect(tt.reply)
			if tt.reply != "250" {
				return
			}
			if got := g.store.messages()[0].body; got != want {
				t.Errorf("body %q, want %q", got, want)
			}
		})
	}
	t.Run("NUL from a trusted client", func(t *testing.T) {
		g := start(t, func(c *Config, _ *gate) {
			c.LineEndings = Normalise
			c.Trusted = prefixes("127.0.0.0/8")
		})
		c := g.envelope()
		c.do("DATA", "354")
		c.send("a\x00b\r\n.\r\n")
		c.expect("554 5.6.0")
	})
}
