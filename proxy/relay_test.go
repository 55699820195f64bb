package proxy

import (
	"fmt"
	"strings"
	"testing"

	"gatepost/internal/mail"
)

// relayed maps what may come through, for a gateway that relays to b.example,
// to the recipient it stands for.
var relayed = map[string]string{
	`<u@b.example.>`:  "u@b.example",
	`<u@B.EXAMPLE>`:   "u@b.example",
	`<"u"@b.example>`: "u@b.example",
	`<u@b.example> ORCPT=rfc822;u@out.example`: "u@b.example",
	`<postmaster>`:           "postmaster@b.example",
	`<Postmaster>`:           "postmaster@b.example",
	`<PostMaster@b.example>`: "PostMaster@b.example",
	`<u+tag@b.example>`:      "u+tag@b.example",
	`<#/$*?'@b.example>`:     "#/$*?'@b.example",
	` <u@b.example>`:         "u@b.example",
	`<u@b.example> NOTIFY=NEVER ORCPT=rfc822;x+3D`: "u@b.example",
	`<"a..b"@b.example>`:                           `"a..b"@b.example`,
	`<` + strings.Repeat("x", 64) + `@b.example>`:  strings.Repeat("x", 64) + "@b.example",
}

// relayAddresses is the list of tricks. None may reach anybody at out.example,
// nor anybody that the client did not name.
func relayAddresses() []string {
	return []string{
		`<u@out.example>`, `<u%out.example@b.example>`, `<u%out.example>`, `<out.example!u>`, `<out.example!u@b.example>`,
		`<@b.example:u@out.example>`, `<@b.example,@c.example:u@out.example>`, `<u@out.example@b.example>`, `<"u@out.example"@b.example>`,
		`<"u@out.example">`, `<u@b.example@out.example>`, `<u@[127.0.0.1]>`, `<u@[IPv6:::1]>`, `<u@[IPv6:::ffff:127.0.0.1]>`, `<u@127.0.0.1>`, `<u@localhost>`,
		`<u@b.example..>`, `<u@.b.example>`, `< u@b.example>`, `<u@b.example >`, `u@b.example`, `<u@b.example`,
		`<u@b.example(x)>`, `<(x)u@b.example>`, `<u(x)@b.example>`, `<"u\@x"@b.example>`, `<u@b.example,u@out.example>`, `<u@b.example>,<u@out.example>`,
		`<u@b%2eexample>`, `<u@xn--b-1ga.example>`, `<u@b。example>`, `<ｕ@b.example>`,
		`<"u@out.example> ORCPT=rfc822;x"@b.example>`,
		`<"a> NOTIFY=NEVER "@b.example>`, `<"\"><u@out.example> "@b.example>`, "<\"a\r\nRCPT TO:<u@out.example>\"@b.example>",
		`<>`, `<"">`, `<""@b.example>`, `<-oQ/tmp@b.example>`, `<"|/bin/sh"@b.example>`, `<a..b@b.example>`, `<.a@b.example>`,
		`<u@b.example> <u@out.example>`, `<u@b.example>x`, `x<u@b.example>`, `<<u@b.example>>`, `<u@b.example>>`, `<u@@b.example>`, `<u@>`, `<@>`, `<@b.example>`,
		`<u>`, `<"postmaster">`, `<postmaster%out.example@b.example>`, `<u@b.example\>`, `<"u>"@b.example>`, `<"u\">"@b.example>`, `<` + strings.Repeat("x", 65) + `@b.example>`,
		`<u＠out.example@b.example>`, `<u％out.example@b.example>`, `<u@b.example:25>`, `<u@b.example/out.example>`, `<u@b.example;u@out.example>`,
	}
}

// parsable is what reads as one address elsewhere: the policy refuses it, the
// proxy may not.
var parsable = map[string]bool{
	`<u@out.example>`: true, `<u@[127.0.0.1]>`: true, `<u@[IPv6:::1]>`: true, `<u@[IPv6:::ffff:127.0.0.1]>`: true,
	`<u@localhost>`: true, `<u@xn--b-1ga.example>`: true,
}

func postmasterAtB(c *Config, _ *gate) {
	c.Postmaster = mail.Address{Local: "postmaster", Domain: "b.example"}
}

func TestRelayTricks(t *testing.T) {
	for _, smtputf8 := range []string{"", " SMTPUTF8"} {
		for _, arg := range relayAddresses() {
			t.Run(fmt.Sprintf("%q%s", arg, smtputf8), func(t *testing.T) {
				g := start(t, postmasterAtB)
				c := g.hello()
				c.do("MAIL FROM:<s@a.example>"+smtputf8, "250")
				c.send("RCPT TO:" + arg + "\r\n")
				r, err := c.reply()
				if err != nil {
					t.Fatal(err)
				}
				if arg == `<ｕ@b.example>` && smtputf8 != "" {
					return // a mailbox of its own: the next hop does not take it for "u"
				}
				if r[0] != '5' {
					t.Errorf("answered %q", r)
				}
				if g.handler.count("rcpt") > 0 && !parsable[arg] {
					t.Errorf("the policy had to refuse it: %q", r)
				}
			})
		}
	}
}

func TestRelayed(t *testing.T) {
	for arg, want := range relayed {
		t.Run(arg, func(t *testing.T) {
			g := start(t, postmasterAtB)
			c := g.hello()
			c.do("MAIL FROM:<>", "250")
			c.do("RCPT TO:"+arg, "250")
			c.do("DATA", "354")
			c.do(simple+".", "250")
			env := g.store.messages()[0].Envelope
			if len(env.Recipients) != 1 || env.Recipients[0].Address.String() != want {
				t.Errorf("recipients %q, want %q", env.Recipients, want)
			}
			if !env.Sender.IsNull() {
				t.Errorf("sender %q, want none", env.Sender.Address)
			}
		})
	}
}

// The same list as a sender: what is taken is one clean address, what is not
// changes nothing.
func TestTricksAsSender(t *testing.T) {
	fine := map[string]bool{`<>`: true, `<u@out.example>`: true, `<u@[127.0.0.1]>`: true, `<u@[IPv6:::1]>`: true,
		`<u@[IPv6:::ffff:127.0.0.1]>`: true, `<u@localhost>`: true, `<u@xn--b-1ga.example>`: true}
	for _, arg := range relayAddresses() {
		t.Run(fmt.Sprintf("%q", arg), func(t *testing.T) {
			g := start(t, nil)
			c := g.hello()
			c.send("MAIL FROM:" + arg + "\r\n")
			r, err := c.reply()
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.HasPrefix(r, "250"); got != fine[arg] {
				t.Errorf("answered %q, want accepted = %t", r, fine[arg])
			}
		})
	}
}

// Without a configured one, postmaster is at our own host name.
func TestPostmasterDefault(t *testing.T) {
	g := start(t, nil)
	var got mail.Address
	g.handler.rcpt = func(_ *mail.Transaction, p mail.Path) mail.Verdict {
		got = p.Address
		return mail.Verdict{}
	}
	c := g.hello()
	c.do("MAIL FROM:<>", "250")
	c.do("RCPT TO:<postmaster>", "250")
	if want := (mail.Address{Local: "postmaster", Domain: "mx1.b.example"}); got != want {
		t.Errorf("postmaster is %v, want %v", got, want)
	}
}
