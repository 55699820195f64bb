package access

import (
	"cmp"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gatepost/internal/mail"
)

// The rows of these tables are what sendmail 8.17's own rule engine answered.

// engine is one over a text, with the classes of the tables.
func engine(t testing.TB, text string, change func(*Engine)) *Engine {
	t.Helper()
	e := &Engine{Local: &Class{}, Relay: &Class{}, Options: DefaultOptions()}
	if change != nil {
		change(e)
	}
	form := RelayDomains
	if e.RelayHostsOnly {
		form = RelayHosts
	}
	for _, name := range []string{"local.example", "example.org", "localhost"} {
		if err := e.Local.Add(LocalHosts, "w", name); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"relay.example", "10.9", "virt.example"} {
		if err := e.Relay.Add(form, "R", name); err != nil {
			t.Fatal(err)
		}
	}
	e.Table = table(t, text, e.Options)
	return e
}

func base(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "base.access"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// ask is a question in words: "connect NAME ADDR", "mail ADDRESS", "rcpt
// ADDRESS [ADDR [NAME [RESOLVE]]]", and "delayed ADDR NAME SENDER RCPT [MECH]".
func ask(t testing.TB, e *Engine, question string) string {
	t.Helper()
	words := strings.Fields(question)
	word := func(i int) string {
		if i < len(words) {
			return strings.Trim(words[i], "-")
		}
		return ""
	}
	var q Query
	client := func(addr, name, resolve string) {
		if addr = cmp.Or(addr, "198.18.0.9"); addr != "0" {
			q.Client.Addr = netip.MustParseAddr(strings.TrimPrefix(addr, "IPv6:"))
		}
		if !strings.HasPrefix(name, "[") {
			q.Client.Name = name
		}
		q.Client.Resolve = mail.Resolve(resolve)
	}
	mailbox := func(s string) (Mailbox, bool) {
		m, refusal := ReadMailbox(s)
		if !refusal.IsZero() {
			question = "reject " + refusal.String()
		}
		return m, refusal.IsZero()
	}
	var ok bool
	switch word(0) {
	case "connect":
		client(word(2), word(1), "")
		return e.CheckRelay(q, nil).String()
	case "mail":
		client(word(2), word(3), "")
		if q.From, ok = mailbox(word(1)); !ok {
			return question
		}
		return e.CheckMail(q, nil).String()
	case "rcpt":
		client(word(2), word(3), word(4))
		if q.To, ok = mailbox(word(1)); !ok {
			return question
		}
		return e.CheckRcpt(q, nil).String()
	case "delayed":
		client(word(1), word(2), "OK")
		q.From, _ = mailbox(word(3))
		q.To, _ = mailbox(word(4))
		q.Mech = word(5)
		return e.CheckRcpt(q, nil).String()
	}
	t.Fatalf("no question: %s", question)
	return ""
}

// asks runs a table of questions and answers.
func asks(t *testing.T, e *Engine, rows [][2]string) {
	t.Helper()
	for _, row := range rows {
		if got := ask(t, e, row[0]); got != row[1] {
			t.Errorf("%s:\n got  %s\n want %s", row[0], got, row[1])
		}
	}
}

const (
	accessDeniedText = "reject 550 5.7.1 Access denied"
	relayDenied      = "reject 550 5.7.1 Relaying denied"
	mailboxDisabled  = "reject 550 5.2.1 Mailbox disabled for this recipient"
	mailboxBad       = "reject 550 5.2.1 Mailbox disabled for badlocal"
)

func TestVectorsConnect(t *testing.T) {
	asks(t, engine(t, base(t), nil), [][2]string{
		{"connect host.cyber.example 198.18.0.1", accessDeniedText},
		{"connect good.cyber.example 198.18.0.1", "OK"},
		{"connect x.example 192.168.2.9", "RELAY"},
		{"connect x.example 192.168.2.7", accessDeniedText},
		{"connect x.example 128.32.2.9", "continue"},
		{"connect x.example 128.32.3.9", "RELAY"},
		{"connect x.example 203.0.113.5", "tempfail 421 4.3.2 too busy"},
		{"connect x.example 203.0.113.6", "reject 550 5.0.0 go away"},
		{"connect x.example 203.0.113.7", "reject 553 5.3.0 ACCEPT"},
		{"connect x.example 203.0.113.8", "quarantine suspicious host"},
		{"connect x.example 203.0.113.9", "discard"},
		{"connect x.example 203.0.113.10", accessDeniedText},
		{"connect x.example 203.0.113.11", "reject 554 5.0.0 plain text"},
		{"connect [203.0.113.20] 203.0.113.20", accessDeniedText},
		{"connect [203.0.113.21] 203.0.113.21", "continue"},
		{"connect x.example IPv6:2001:db8:1:0:0:0:0:5", "RELAY"},
		{"connect x.untagged.example 198.18.0.1", accessDeniedText},
		{"connect x.example 198.51.100.3", accessDeniedText},
	})
}

func TestVectorsMail(t *testing.T) {
	asks(t, engine(t, base(t), nil), [][2]string{
		{"mail spammer@aol.example", accessDeniedText},
		{"mail other@aol.example", "continue"},
		{"mail free.stealth@anything.test", "reject 550 5.0.0 Spam not accepted"},
		{"mail u@another.example", accessDeniedText},
		{"mail good@another.example", "OK"},
		{"mail u@sub.another.example", accessDeniedText},
		{"mail good@sub.another.example", accessDeniedText},
		{"mail plus+x@ext.example", accessDeniedText},
		{"mail plus@ext.example", "continue"},
		{"mail base+y@ext.example", "reject 553 5.1.8 base hit"},
		{"mail a@disc.example", "discard"},
		{"mail a@quar.example", "quarantine from quar"},
		{"mail <>", "OK"},
		{"mail u", "reject 553 5.5.4 Domain name required for sender address u"},
		{"mail u@localhost 198.18.0.9 x.example", "reject 553 5.5.4 Real domain name required for sender address"},
		{"mail u@localhost 127.0.0.1 localhost", "continue"},
		{"mail u@[127.0.0.1] 198.18.0.9 x.example", "reject 553 5.5.4 Real domain name required for sender address"},
	})
}

func TestVectorsRcpt(t *testing.T) {
	asks(t, engine(t, base(t), nil), [][2]string{
		{"rcpt u@friend.example", "RELAY"},
		{"rcpt u@sub.friend.example", "RELAY"},
		{"rcpt u@skipme.friend.example", relayDenied},
		{"rcpt u@elsewhere.example", relayDenied},
		{"rcpt u@FRIEND.example.", "RELAY"},
		{"rcpt u@local.example", "RELAY"},
		{"rcpt u@relay.example", "RELAY"},
		{"rcpt u@sub.relay.example", "RELAY"},
		{"rcpt u@virt.example", "RELAY"},
		{"rcpt u@sub.virt.example", "RELAY"},
		{"rcpt u@notrelay.example", relayDenied},
		{"rcpt badlocal@local.example", mailboxBad},
		{"rcpt badlocal+x@local.example", mailboxBad},
		{"rcpt badlocal@elsewhere.example", relayDenied},
		{"rcpt user@example.org", mailboxDisabled},
		{"rcpt user+tag@example.org", mailboxDisabled},
		{"rcpt u@host.local.example", mailboxDisabled},
		{"rcpt u@untagged.example", mailboxDisabled},
		{"rcpt a%elsewhere.example@local.example", relayDenied},
		{"rcpt a%friend.example@local.example", "RELAY"},
		{"rcpt elsewhere.example!a@local.example", relayDenied},
		{`rcpt "a@elsewhere.example"@local.example`, relayDenied},
		{"rcpt a@elsewhere.example@local.example", "reject 553 5.1.3 Invalid route address"},
		{"rcpt <postmaster>", "RELAY"},
		{"rcpt <joe>", "RELAY"},
		{"rcpt <>", "reject 553 5.0.0 User address required"},
		{"rcpt u@elsewhere.example 192.168.2.9", "RELAY"},
		{"rcpt u@elsewhere.example 10.9.1.1", "RELAY"},
		{"rcpt u@elsewhere.example 10.90.1.1", relayDenied},
		{"rcpt u@elsewhere.example 127.0.0.1", "RELAY"},
		{"rcpt u@elsewhere.example ::1", "RELAY"},
		{"rcpt u@elsewhere.example 0", "RELAY"},
		{"rcpt u@elsewhere.example 128.32.9.9", "RELAY"},
		{"rcpt u@elsewhere.example 128.32.2.9", relayDenied},
		{"rcpt u@elsewhere.example 192.168.2.7", relayDenied},
		{"rcpt u@elsewhere.example 198.18.0.77 h.relay.example OK", "RELAY"},
		{"rcpt u@elsewhere.example 198.18.0.77 h.relay.example FORGED", "reject 550 5.7.1 Relaying denied. IP name possibly forged h.relay.example"},
		{"rcpt u@elsewhere.example 198.18.0.77 h.relay.example TEMP", "tempfail 450 4.4.0 Relaying temporarily denied. Cannot resolve PTR record for 198.18.0.77"},
		{"rcpt u@elsewhere.example 198.18.0.77 [198.18.0.77] FAIL", "reject 550 5.7.1 Relaying denied. IP name lookup failed [198.18.0.77]"},
	})
}

const delayText = `Connect:bad.example	REJECT
From:spam.example	REJECT
From:whitelisted.example	OK
Spam:abuse@	FRIEND
Spam:me+abuse@	FRIEND
Spam:hater@local.example	HATER
To:blocked@	REJECT
`

func TestVectorsDelayChecks(t *testing.T) {
	const bad, white = "delayed 198.18.0.1 h.bad.example u@clean.example ", "delayed 198.18.0.1 h.bad.example u@whitelisted.example "
	const login = "delayed 198.18.0.1 h.bad.example u@spam.example "
	tests := []struct {
		mode  DelayChecks
		mechs []string
		rows  [][2]string
	}{
		{DelayPlain, []string{"PLAIN"}, [][2]string{
			{bad + "u@local.example", accessDeniedText},
			{bad + "abuse@local.example", accessDeniedText},
			{bad + "hater@local.example", accessDeniedText},
			{bad + "blocked@local.example", mailboxDisabled},
			{white + "u@local.example", "OK"},
			{login + "u@local.example PLAIN", "RELAY"},
			{login + "u@elsewhere.example PLAIN", "RELAY"},
			{"delayed 198.18.0.1 x.example u@spam.example u@local.example", accessDeniedText},
			{"delayed 198.18.0.1 x.example u@fine.example u@local.example", "RELAY"},
			{"delayed 198.18.0.1 x.example <> u@local.example", "RELAY"},
			{bad + "u@elsewhere.example", relayDenied + ". Proper authentication required."},
		}},
		{DelayFriend, []string{"PLAIN"}, [][2]string{
			{bad + "u@local.example", accessDeniedText},
			{bad + "abuse@local.example", "SPAMFRIEND"},
			{bad + "abuse+x@local.example", "SPAMFRIEND"},
			{bad + "me+abuse@local.example", "SPAMFRIEND"},
			{bad + "me@local.example", accessDeniedText},
			{bad + "abuse@relay.example", accessDeniedText}, // user@ is for local domains
			{bad + "hater@local.example", accessDeniedText},
			{bad + "blocked@local.example", mailboxDisabled},
			{white + "u@local.example", "OK"},
			{login + "u@local.example PLAIN", "RELAY"},
			{login + "u@elsewhere.example PLAIN", "RELAY"},
		}},
		{DelayHater, nil, [][2]string{
			{bad + "u@local.example", "NOSPAMHATER"},
			{bad + "abuse@local.example", "NOSPAMHATER"},
			{bad + "hater@local.example", accessDeniedText},
			{bad + "blocked@local.example", mailboxDisabled},
			{white + "u@local.example", "NOSPAMHATER"},
			{login + "u@local.example PLAIN", "NOSPAMHATER"},
			{login + "u@elsewhere.example PLAIN", relayDenied},
		}},
	}
	for _, tt := range tests {
		t.Run(string(tt.mode), func(t *testing.T) {
			asks(t, engine(t, delayText, func(e *Engine) { e.DelayChecks, e.Mechs = tt.mode, tt.mechs }), tt.rows)
		})
	}
}

func TestVectorsFeatures(t *testing.T) {
	full := "To:one@full.example\tRELAY\n"
	tests := []struct {
		name, text string
		change     func(*Engine)
		rows       [][2]string
	}{
		{"relaytofulladdress", full, func(e *Engine) { e.RelayToFullAddress = true }, [][2]string{
			{"rcpt one@full.example", "RELAY"}, {"rcpt one+x@full.example", "RELAY"}, {"rcpt two@full.example", relayDenied},
		}},
		{"without it", full, nil, [][2]string{
			{"rcpt one@full.example", relayDenied}, {"rcpt one+x@full.example", relayDenied}, {"rcpt two@full.example", relayDenied},
		}},
		{"lookupdotdomain", "Connect:.dot.example\tRELAY\n", func(e *Engine) { e.LookupDotDomain = true }, [][2]string{
			{"rcpt u@elsewhere.example 198.18.0.77 h.dot.example OK", "RELAY"},
			{"rcpt u@elsewhere.example 198.18.0.77 a.h.dot.example OK", "RELAY"},
			{"rcpt u@elsewhere.example 198.18.0.77 dot.example OK", relayDenied},
		}},
		{"relay_hosts_only", base(t) + "Connect:relayhost.example\tRELAY\n", func(e *Engine) { e.RelayHostsOnly = true }, [][2]string{
			{"rcpt u@friend.example", "RELAY"},
			{"rcpt u@sub.friend.example", relayDenied},
			{"rcpt u@relay.example", "RELAY"},
			{"rcpt u@sub.relay.example", relayDenied},
			{"rcpt u@elsewhere.example 198.18.0.77 relayhost.example OK", "RELAY"},
			{"rcpt u@elsewhere.example 198.18.0.77 h.relayhost.example OK", relayDenied},
			{"rcpt u@elsewhere.example 10.9.1.1", "RELAY"},
		}},
		{"loose_relay_check", base(t), func(e *Engine) { e.LooseRelayCheck = true }, [][2]string{
			{"rcpt a%elsewhere.example@friend.example", "RELAY"},
		}},
		{"without it", base(t), nil, [][2]string{
			{"rcpt a%elsewhere.example@friend.example", relayDenied},
		}},
		{"relay_entire_domain", "", func(e *Engine) {
			e.RelayEntireDomain = true
			e.Own, _ = OwnDomain("mx1.sm.test.example")
		}, [][2]string{
			{"rcpt u@a.b.sm.test.example", "RELAY"},
			{"rcpt u@sm.test.example", "RELAY"},
			{"rcpt u@test.example", relayDenied},
			{"rcpt u@elsewhere.example 198.18.0.77 h.sm.test.example OK", "RELAY"},
		}},
		{"no skip", base(t), func(e *Engine) { e.Skip = false }, [][2]string{
			{"connect x.example 128.32.2.9", "reject 553 5.3.0 SKIP"},
		}},
		{"no blocklist_recipients", base(t), func(e *Engine) { e.BlocklistRecipients = false }, [][2]string{
			{"rcpt user@example.org", "RELAY"},
			{"rcpt u@untagged.example", relayDenied},
		}},
		{"a network without its tag", "10.0.0\tRELAY\n", nil, [][2]string{
			{"rcpt u@10.0.0", "RELAY"},
			{"rcpt u@elsewhere.example 10.0.0.7", "RELAY"},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { asks(t, engine(t, tt.text, tt.change), tt.rows) })
	}
}

// The files that the original of this kind of gateway came with.
func TestVectorsSeed(t *testing.T) {
	const text = "10.0.0\tRELAY\n192.168.2\tRELAY\nmy.site\tRELAY\nspam.com\tREJECT\n"
	rows := [][2]string{
		{"rcpt u@elsewhere.example 10.0.0.5", "RELAY"},
		{"rcpt u@spam.com 10.0.0.5", mailboxDisabled},
		{"mail u@x.spam.com", accessDeniedText},
		{"mail u@notspam.com", "continue"},
		{"rcpt u@elsewhere.example 192.168.2.200 [192.168.2.200] FAIL", "RELAY"},
		{"rcpt u@elsewhere.example 192.168.1.18 [192.168.1.18] FAIL", "reject 550 5.7.1 Relaying denied. IP name lookup failed [192.168.1.18]"},
		{"rcpt u@elsewhere.example 192.168.1.19 h.my.site OK", "RELAY"},
		{"rcpt u@my.site 198.18.0.9", "RELAY"},
	}
	asks(t, engine(t, text, nil), rows)
	rows[1][1] = "RELAY"
	asks(t, engine(t, text, func(e *Engine) { e.BlocklistRecipients = false }), rows)
}

func TestVectorsRates(t *testing.T) {
	const text = `ClientRate:192.0.2.1	4
ClientRate:127.0.0.1	0
ClientRate:	10
ClientConn:10.5	2
GreetPause:a.my.domain	0
GreetPause:x.example.com	7000
GreetPause:10.1.2	2000
`
	e := engine(t, text, nil)
	for _, tt := range []struct {
		addr string
		n    int
		open int
		want string
	}{
		{"192.0.2.1", 4, 0, "continue"},
		{"192.0.2.1", 5, 0, "tempfail 452 4.3.2 Connection rate limit exceeded."},
		{"192.0.2.2", 10, 0, "continue"},
		{"192.0.2.2", 11, 0, "tempfail 452 4.3.2 Connection rate limit exceeded."},
		{"127.0.0.1", 1000, 0, "continue"},
		{"10.5.6.7", 1, 2, "continue"},
		{"10.5.6.7", 1, 3, "tempfail 452 4.3.2 Too many open connections."},
		{"10.6.6.7", 1, 300, "continue"},
	} {
		q := Query{Client: Client{Addr: netip.MustParseAddr(tt.addr), Name: "x.example"}, Rate: tt.n, Open: tt.open}
		if got := e.CheckRelay(q, nil).String(); got != tt.want {
			t.Errorf("%s, rate %d, open %d: %s, want %s", tt.addr, tt.n, tt.open, got, tt.want)
		}
	}
	for _, tt := range []struct{ addr, name, want string }{
		{"198.18.0.1", "a.my.domain", "0s"},
		{"198.18.0.1", "b.a.my.domain", "0s"},
		{"198.18.0.1", "x.example.com", "7s"},
		{"10.1.2.9", "", "2s"},
		{"10.1.2.9", "x.example.com", "7s"},
		{"10.1.3.9", "other.example", "default"},
	} {
		got := "default"
		if d, _, ok := e.Table.Pause(Client{Addr: netip.MustParseAddr(tt.addr), Name: tt.name}, nil); ok {
			got = d.String()
		}
		if got != tt.want {
			t.Errorf("pause of %s [%s]: %s, want %s", tt.name, tt.addr, got, tt.want)
		}
	}
}

func TestRequirement(t *testing.T) {
	e := engine(t, `TLS_Clt:verify.example	VERIFY
TLS_Clt:strong.example	PERM+ENCR:128
TLS_Clt:named.example	PERM+VERIFY:112+CN++CS:CN=named.example,O=My+20Firm
TLS_Clt:192.0.2	TEMP+VERIFY:256
TLS_Clt:	ENCR:1
`, nil)
	const subject = "CN=named.example,O=My Firm"
	tests := []struct {
		name, client, addr string
		state              TLSState
		want               string
	}{
		{"in clear", "a.verify.example", "198.18.0.1", TLSState{}, "454 4.7.0 authentication required"},
		{"no certificate", "a.verify.example", "198.18.0.1", TLSState{On: true, Bits: 256}, "454 4.7.0 authentication failed"},
		{"verified", "a.verify.example", "198.18.0.1", TLSState{On: true, Verified: true}, "0"},
		{"weak", "strong.example", "198.18.0.1", TLSState{On: true, Bits: 112}, "554 5.7.0 encryption too weak 112 less than 128"},
		{"strong", "strong.example", "198.18.0.1", TLSState{On: true, Bits: 128}, "0"},
		{"strong, but in clear", "strong.example", "198.18.0.1", TLSState{Bits: 128}, "554 5.7.0 encryption too weak 128 less than 128"},
		{"its own name", "named.example", "198.18.0.1", TLSState{On: true, Verified: true, Bits: 256, CN: "named.example", Subject: subject}, "0"},
		{"another name", "named.example", "198.18.0.1", TLSState{On: true, Verified: true, Bits: 256, CN: "x", Subject: subject}, "554 5.7.0 CN x does not match named.example"},
		{"another subject", "named.example", "198.18.0.1", TLSState{On: true, Verified: true, Bits: 256, CN: "named.example"}, "554 5.7.0 Cert Subject does not match CN=named.example,O=My Firm"},
		{"by address", "x.example", "192.0.2.7", TLSState{On: true, Verified: true, Bits: 128}, "454 4.7.0 encryption too weak 128 less than 256"},
		{"all others", "x.example", "198.18.0.1", TLSState{}, "454 4.7.0 encryption too weak 0 less than 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := Client{Addr: netip.MustParseAddr(tt.addr), Name: tt.client}
			r, _, ok := e.Table.Requirement(c, nil)
			if !ok {
				t.Fatal("no requirement")
			}
			if got := r.Check(c, tt.state).String(); got != tt.want {
				t.Errorf("reply %q, want %q", got, tt.want)
			}
		})
	}
}

// The keys of each walk, in order.
func TestTrace(t *testing.T) {
	tests := []struct {
		name string
		dots bool
		walk func(a *Table, tr *Trace)
		want string
	}{
		{"D", false, func(a *Table, tr *Trace) { a.Domain(Connect, "a.b.c", tr) }, "Connect:a.b.c a.b.c Connect:b.c b.c Connect:c c"},
		{"D with dots", true, func(a *Table, tr *Trace) { a.Domain(Connect, "a.b.c", tr) }, "Connect:a.b.c a.b.c Connect:.b.c .b.c Connect:b.c b.c Connect:.c .c Connect:c c"},
		{"D, tag alone", false, func(a *Table, tr *Trace) { a.Domain(GreetPause, "a.b", tr) }, "GreetPause:a.b GreetPause:b"},
		{"D of an address", false, func(a *Table, tr *Trace) { a.Domain(GreetPause, "[1.2.3.4]", tr) }, "GreetPause:[1.2.3.4] GreetPause:[1.2.3] GreetPause:[1.2] GreetPause:[1]"},
		{"A", false, func(a *Table, tr *Trace) { a.Address(Connect, netip.MustParseAddr("1.2.3.4"), tr) }, "Connect:1.2.3.4 1.2.3.4 Connect:1.2.3 1.2.3 Connect:1.2 1.2 Connect:1 1"},
		{"A of IPv6", false, func(a *Table, tr *Trace) { a.Address(ClientRate, netip.MustParseAddr("2001:db8::1"), tr) }, "ClientRate:ipv6:2001:db8:0:0:0:0:0:1 ClientRate:ipv6:2001:db8:0:0:0:0:0 ClientRate:ipv6:2001:db8:0:0:0:0 ClientRate:ipv6:2001:db8:0:0:0 ClientRate:ipv6:2001:db8:0:0 ClientRate:ipv6:2001:db8:0 ClientRate:ipv6:2001:db8 ClientRate:ipv6:2001 ClientRate:ipv6"},
		{"F", false, func(a *Table, tr *Trace) { a.Full(From, Mailbox{"u+d", "dom"}, tr) }, "From:u+d@dom u+d@dom From:u+*@dom u+*@dom From:u@dom u@dom"},
		{"F without detail", false, func(a *Table, tr *Trace) { a.Full(From, Mailbox{"u", "dom"}, tr) }, "From:u@dom u@dom"},
		{"F, a plus in front is no detail", false, func(a *Table, tr *Trace) { a.Full(Spam, Mailbox{"+d", "dom"}, tr) }, "Spam:+d@dom"},
		{"F, two pluses in front", false, func(a *Table, tr *Trace) { a.Full(Spam, Mailbox{"++d", "dom"}, tr) }, "Spam:++d@dom Spam:++*@dom Spam:+@dom"},
		{"U", false, func(a *Table, tr *Trace) { a.User(To, "u+d", tr) }, "To:u+d@ u+d@ To:u+*@ u+*@ To:u@ u@"},
		{"E", false, func(a *Table, tr *Trace) { a.Exact(ClientConn, "", tr) }, "ClientConn:"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tr := &Trace{}
			tt.walk(table(t, "", Options{LookupDotDomain: tt.dots}), tr)
			var keys []string
			for _, try := range tr.Tried {
				keys = append(keys, try.Key)
			}
			if got := strings.Join(keys, " "); got != tt.want {
				t.Errorf("tried %s\n want %s", got, tt.want)
			}
		})
	}
}
