package rules

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gatepost/internal/mail"
)

func TestParseLine(t *testing.T) {
	tests := []struct {
		name, line string
		key        string
		tag        tag
		says       keyword
		reply      string
		err        string // a part of it
	}{
		{name: "tab", line: "From:spam.example\tREJECT", key: "spam.example", tag: tagFrom, says: saysReject},
		{name: "blanks around the value", line: "From:spam.example  \t REJECT \t", key: "spam.example", tag: tagFrom, says: saysReject},
		{name: "keys are folded, values not", line: "TO:User@Example.ORG Go Away", key: "user@example.org", tag: tagTo, says: saysReply, reply: "553 5.3.0 Go Away"},
		{name: "comment behind the value is the value", line: "x y # z", key: "x", tag: tagNone, says: saysReply, reply: "553 5.3.0 y # z"},
		{name: "quotes in a reply", line: `Connect:x.example "550 5.7.1 no"`, key: "x.example", tag: tagConnect, says: saysReply, reply: "550 5.7.1 no"},
		{name: "double percent", line: "Connect:x.example 550 100%% sure", key: "x.example", tag: tagConnect, says: saysReply, reply: "550 5.0.0 100% sure"},
		{name: "ERROR with enhanced code", line: "Connect:x ERROR:5.1.8:553 base hit", key: "x", tag: tagConnect, says: saysReply, reply: "553 5.1.8 base hit"},
		{name: "enhanced code behind the code wins", line: "Connect:x ERROR:5.1.8:553 5.7.9 x", key: "x", tag: tagConnect, says: saysReply, reply: "553 5.7.9 x"},
		{name: "class follows the code", line: "Connect:x ERROR:5.2.2:450 full", key: "x", tag: tagConnect, says: saysReply, reply: "450 4.2.2 full"},
		{name: "ERROR without code", line: "Connect:x error:go away", key: "x", tag: tagConnect, says: saysReply, reply: "553 5.3.0 go away"},
		{name: "ERROR with enhanced code only", line: "Connect:x ERROR:5.1.2:go away", key: "x", tag: tagConnect, says: saysReply, reply: "553 5.1.2 go away"},
		{name: "enhanced code without ERROR is text", line: "Connect:x 5.1.2:550 go", key: "x", tag: tagConnect, says: saysReply, reply: "553 5.3.0 5.1.2:550 go"},
		{name: "code without blank is text", line: "Connect:x ERROR:550:go", key: "x", tag: tagConnect, says: saysReply, reply: "553 5.3.0 550:go"},
		{name: "quarantine", line: "Connect:x quarantine: odd host", key: "x", tag: tagConnect, says: saysQuarantine},
		{name: "untagged IPv6", line: "IPv6:2001:DB8:0a:: OK", err: "write IPv6:2001:db8:0a for all"},
		{name: "IPv6 prefix", line: "IPv6:2001:DB8:0a OK", key: "ipv6:2001:db8:a", tag: tagNone, says: saysOK},
		{name: "IPv6 short form", line: "Connect:IPv6:2001:db8::5 OK", key: "ipv6:2001:db8:0:0:0:0:0:5", tag: tagConnect, says: saysOK},
		{name: "IPv6 long form", line: "Connect:IPv6:2001:db8:0:0:0:0:0:5 OK", key: "ipv6:2001:db8:0:0:0:0:0:5", tag: tagConnect, says: saysOK},
		{name: "IPv6 unspecified", line: "Connect:IPv6::: REJECT", key: "ipv6:0:0:0:0:0:0:0:0", tag: tagConnect, says: saysReject},
		{name: "bracket", line: "Connect:[203.0.113.20] REJECT", key: "[203.0.113.20]", tag: tagConnect, says: saysReject},
		{name: "bracket prefix", line: "[203.0] REJECT", key: "[203.0]", tag: tagNone, says: saysReject},
		{name: "bracket IPv6", line: "Connect:[IPv6:2001:db8::1] REJECT", key: "[ipv6:2001:db8:0:0:0:0:0:1]", tag: tagConnect, says: saysReject},
		{name: "user", line: "From:FREE.STEALTH@ REJECT", key: "free.stealth@", tag: tagFrom, says: saysReject},
		{name: "plus wildcard", line: "From:a+*@x.example REJECT", key: "a+*@x.example", tag: tagFrom, says: saysReject},
		{name: "top-level domain", line: "From:zip REJECT", key: "zip", tag: tagFrom, says: saysReject},
		{name: "IDN", line: "From:BÜCHER.example REJECT", key: "xn--bcher-kva.example", tag: tagFrom, says: saysReject},
		{name: "one number", line: "10 RELAY", key: "10", tag: tagNone, says: saysRelay},

		{name: "leading blank", line: " x REJECT", err: "begins with a blank"},
		{name: "leading tab", line: "\tx REJECT", err: "begins with a blank"},
		{name: "no value", line: "x", err: "x has no value"},
		{name: "no value, blanks", line: "x \t ", err: "x has no value"},
		{name: "NUL", line: "x\x00 REJECT", err: "control characters"},
		{name: "escape", line: "x REJECT\x1b[2J", err: "control characters"},
		{name: "broken UTF-8", line: "x\xff REJECT", err: "broken UTF-8"},
		{name: "blank behind the tag", line: "To: friend.example RELAY", err: "nothing stands behind To:"},
		{name: "later tag", line: "GreetPause:10 0", err: `the tag "GreetPause" is not built yet`},
		{name: "later tag, small letters", line: "spam:abuse@ FRIEND", err: `the tag "spam" is not built yet`},
		{name: "later value", line: "To:x FRIEND", err: "the value FRIEND is not built yet"},
		{name: "mistyped tag", line: "Form:x.example REJECT", err: `the tag "Form" is unknown; write Connect:, From: or To:`},
		{name: "IPv6 without its prefix", line: "2001:db8::1 REJECT", err: "write IPv6:2001:db8::1"},
		{name: "IPv6 without its prefix, tagged", line: "Connect:2001:db8::1 REJECT", err: "IPv6 is written IPv6:"},
		{name: "mask", line: "Connect:10.0.0.0/8 RELAY", err: "there are no masks"},
		{name: "IPv6 mask", line: "Connect:IPv6:2001:db8::/32 RELAY", err: "is no IPv6 address"},
		{name: "final dot of a network", line: "Connect:10.0.0. RELAY", err: "is no IPv4 address"},
		{name: "number too large", line: "Connect:10.0.256 RELAY", err: "is no IPv4 address"},
		{name: "leading zero", line: "Connect:10.0.01 RELAY", err: "is no IPv4 address"},
		{name: "five numbers", line: "Connect:1.2.3.4.5 RELAY", err: "one to four numbers"},
		{name: "IPv6 of IPv4", line: "Connect:IPv6:::ffff:1.2.3.4 RELAY", err: "count as IPv4; write 1.2.3.4"},
		{name: "IPv6 nine groups", line: "Connect:IPv6:1:2:3:4:5:6:7:8:9 RELAY", err: "is no IPv6 address"},
		{name: "IPv6 zone", line: "Connect:IPv6:fe80::1%eth0 RELAY", err: "is no IPv6 address"},
		{name: "wildcard user", line: "From:*@spam.example REJECT", err: "write spam.example for a whole domain"},
		{name: "wildcard domain", line: "From:*.spam.example REJECT", err: "write spam.example"},
		{name: "leading dot", line: "From:.spam.example REJECT", err: "write spam.example"},
		{name: "at domain", line: "From:@spam.example REJECT", err: "write spam.example for a whole domain"},
		{name: "only a wildcard", line: "From:+*@spam.example REJECT", err: "no wildcards but u+*@"},
		{name: "two ats", line: "From:a@b@spam.example REJECT", err: "can never match"},
		{name: "bad domain", line: "From:spam..example REJECT", err: "can never match"},
		{name: "network as a sender", line: "From:10.0.0 REJECT", err: "use the tag Connect"},
		{name: "mailbox as a client", line: "Connect:u@x.example REJECT", err: "use the tag From or To"},
		{name: "open bracket", line: "Connect:[10.0.0.1 REJECT", err: "closing bracket"},
		{name: "code that accepts", line: "Connect:x 250 fine", err: "the code 250 does not refuse"},
		{name: "code without text", line: "Connect:x ERROR:550 5.7.1", err: "the reply has no text"},
		{name: "empty ERROR", line: "Connect:x ERROR:", err: "the reply has no text"},
		{name: "empty QUARANTINE", line: "Connect:x QUARANTINE:", err: "QUARANTINE: has no text"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			key, tag, e, err := parseLine(tt.line)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error = %v, want one with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if key != tt.key || tag != tt.tag || e.says != tt.says {
				t.Errorf("got key %q, tag %d, says %d; want %q, %d, %d", key, tag, e.says, tt.key, tt.tag, tt.says)
			}
			reply := ""
			if e.reply != nil {
				reply = e.reply.String()
			}
			if reply != tt.reply {
				t.Errorf("reply = %q, want %q", reply, tt.reply)
			}
		})
	}
}

func TestParseAccessFile(t *testing.T) {
	tests := []struct {
		name, text string
		entries    int
		err        string
		warnings   []string
	}{
		{name: "comments and empty lines", text: "# x\n\n#y\nFrom:a.example REJECT\n", entries: 1},
		{name: "Windows", text: "\ufeffFrom:a.example REJECT\r\n\r\nFrom:b.example REJECT\r\n", entries: 2},
		{name: "no end of line", text: "From:a.example REJECT", entries: 1},
		{name: "one key under several tags", text: "From:a.example REJECT\nTo:a.example RELAY\n", entries: 2},
		{
			name: "duplicate", text: "#\nFrom:a.example REJECT\nFrom:A.example. OK\n",
			err: "F:3: From:a.example is already in line 2; remove one of them",
		},
		{
			name: "every bad line is named", text: "a b\n c d\nGreetPause:x 5\nFrom:ok.example OK\nx\n",
			err: "F:2: begins with a blank; the key starts the line\n" +
				"F:3: the tag \"GreetPause\" is not built yet; remove the line\n" +
				"F:5: x has no value; write OK, RELAY, REJECT, DISCARD, SKIP, QUARANTINE:text or a reply behind it",
		},
		{name: "endless line", text: "a b\n" + strings.Repeat("x", 5000), err: "F:2: line longer than 4096 bytes; is this a text file?"},
		{
			name: "untagged relay", text: "From:x.example REJECT\nmy.example RELAY\nother.example REJECT\n", entries: 3,
			warnings: []string{
				"F:2: my.example RELAY has no tag: it holds for senders, too, who can be forged; write Connect: or To: before it",
				"F:2: 2 entries without a tag, this is the first; each holds for clients, senders and recipients",
			},
		},
		{
			name: "not the keyword that it looks like", text: "Connect:a.example ACCEPT\nConnect:b.example OK # ours\nConnect:c.example No spam please\n", entries: 3,
			warnings: []string{
				`F:1: "ACCEPT" is no keyword, so clients are refused with "553 5.3.0 ACCEPT"; a comment needs a line of its own`,
				`F:2: "OK # ours" is no keyword, so clients are refused with "553 5.3.0 OK # ours"; a comment needs a line of its own`,
			},
		},
		{
			name: "codes that disagree", text: "Connect:a.example ERROR:5.2.2:450 full\nConnect:b.example ERROR:550:no\n", entries: 2,
			warnings: []string{
				`F:1: "ERROR:5.2.2:450 full": the code decides, so clients are told "450 4.2.2 full"; make the two agree`,
				`F:2: "ERROR:550:no" has no code and a blank in front, so clients are refused with "553 5.3.0 550:no"`,
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, warnings, err := parseAccess("F", strings.NewReader(tt.text))
			if got := fmt.Sprint(err); tt.err != "" && got != tt.err || tt.err == "" && err != nil {
				t.Fatalf("error = %s\nwant %s", got, tt.err)
			}
			if tt.err != "" {
				return
			}
			n := 0
			for _, m := range a.entries {
				n += len(m)
			}
			if n != tt.entries {
				t.Errorf("%d entries, want %d", n, tt.entries)
			}
			if got, want := strings.Join(warnings, "\n"), strings.Join(tt.warnings, "\n"); got != want {
				t.Errorf("warnings:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func TestProblemsAreBounded(t *testing.T) {
	_, _, err := parseAccess("F", strings.NewReader(strings.Repeat("x\n", 10_000)))
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != maxProblems+1 || lines[maxProblems] != "and 9950 more like these" {
		t.Errorf("%d lines, last %q", len(lines), lines[len(lines)-1])
	}
}

// A bad line anywhere refuses the load, and nothing of it comes out.
func TestLoadRefuses(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	badAccess := write("access", "From:a.example REJECT\nFrom:b.example\n")
	badList := write("domains", "# ours\nexample.com # main\n\n.sub.example\n10.0.0.0/8\nbad..example\n")
	tests := []struct {
		name  string
		relay Relay
		err   []string
	}{
		{"access map", Relay{Access: badAccess}, []string{badAccess + ":2: From:b.example has no value"}},
		{"list", Relay{Domains: []string{"file:" + badList}}, []string{
			badList + `:5: "10.0.0.0/8" is an address; write clients into relay.networks`,
			badList + `:6: "bad..example": address: empty label`,
		}},
		{"both", Relay{Access: badAccess, Domains: []string{"file:" + badList}}, []string{badAccess + ":2:", badList + ":5:"}},
		{"no such map", Relay{Access: dir + "/none"}, []string{"relay.access: open " + dir + "/none"}},
		{"no such list", Relay{Domains: []string{"file:" + dir + "/none"}}, []string{"relay.domains: open " + dir + "/none"}},
		{"a folder", Relay{Access: dir}, []string{dir + ":1: read " + dir}},
		{"entry", Relay{Domains: []string{"example.com", "a b"}}, []string{`relay.domains[1]: "a b" is more than one entry`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := DefaultConfig()
			cfg.Relay = tt.relay
			s, err := Load(cfg)
			if s != nil || err == nil {
				t.Fatalf("loaded %v, error %v", s, err)
			}
			for _, want := range tt.err {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error = %v\nwant a line with %q", err, want)
				}
			}
		})
	}
}

func TestDomainLists(t *testing.T) {
	list := filepath.Join(t.TempDir(), "relay-domains")
	if err := os.WriteFile(list, []byte("# ours\r\nExample.COM. # main\r\n\r\n  .sub.example\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := newDomains([]string{"file:" + list, "bücher.example", "[192.0.2.1]"}, readDomains)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint((&Set{domains: d}).RelayDomains()), "[.sub.example [192.0.2.1] example.com xn--bcher-kva.example]"; got != want {
		t.Errorf("relay domains %s, want %s", got, want)
	}
	for domain, want := range map[string]bool{
		"example.com": true, "h.example.com": false, "notexample.com": false, "com": false,
		"sub.example": false, "a.sub.example": true, "a.b.sub.example": true, "asub.example": false,
		"xn--bcher-kva.example": true, "[192.0.2.1]": true, "[192.0.2.2]": false, "": false,
	} {
		if got := d.contains(domain); got != want {
			t.Errorf("contains(%q) = %v, want %v", domain, got, want)
		}
	}
}

// Whatever the file holds: no panic, and an error names path and line.
func FuzzAccess(f *testing.F) {
	oracle, err := os.ReadFile("testdata/oracle.access")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(oracle))
	for _, s := range []string{
		"", "#\n", "x", " x y", "a b\na c\n", "To: x RELAY", "IPv6:::: OK", "Connect:IPv6:a:b OK", "[ x", "[] x", "[ipv6:] x", "@ x", "+*@ x",
		"From:a@b@c x", "x ERROR:4.:450 ", "x ERROR:5.1.1:", "x \"\"", "x ERROR:\"", "x 5", "x 55", "x 550", "x 550 ", "x 999 a", "x\ty\r\n\x00", "\ufeffx y", "From:\u0130@x.example y",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, _, err := parseAccess("F", strings.NewReader(text))
		if err != nil {
			for _, line := range strings.Split(err.Error(), "\n") {
				var n int
				if _, scan := fmt.Sscanf(line, "F:%d: ", &n); (scan != nil || n < 1) && !strings.HasPrefix(line, "and ") {
					t.Errorf("error without a line number: %q", line)
				}
			}
			return
		}
		for i, entries := range a.entries {
			tag := tag(i)
			for key, e := range entries {
				if e.says == saysReply && (e.reply == nil || e.reply.Code < 400 || e.reply.Code > 599) {
					t.Errorf("%d %q: reply %v", tag, key, e.reply)
				}
				checkReachable(t, &a, tag, key, e)
			}
		}
	})
}

// checkReachable: what loads without a complaint can be found, or its author
// believes in a line that does nothing.
func checkReachable(t *testing.T, a *access, tag tag, key string, e entry) {
	t.Helper()
	if e.says == saysSkip || strings.Contains(key, "+*@") {
		return
	}
	ok := true
	switch local, domain, isMailbox := strings.Cut(key, "@"); {
	case isMailbox && domain == "":
		_, ok = a.mailbox(tag, local, "")
	case isMailbox:
		addr, err := mail.ParseAddress(key, true)
		if err != nil {
			t.Fatalf("key %q: %v", key, err)
		}
		_, ok = a.mailbox(tag, addr.Local, addr.ASCIIDomain())
	case strings.HasPrefix(key, prefixV6):
		if ip, err := netip.ParseAddr(key[len(prefixV6):]); err == nil {
			_, ok = a.address(tag, ip, "", "")
		}
	case looksNumeric(key):
		if ip, err := netip.ParseAddr(key); err == nil {
			_, ok = a.address(tag, ip, "", "")
		}
	case strings.HasPrefix(key, "["):
		if _, is := literal(key); is {
			_, ok = a.domain(tag, key)
		}
	default:
		domain, err := mail.ParseDomain(key)
		if err != nil {
			t.Fatalf("key %q: %v", key, err)
		}
		_, ok = a.domain(tag, mail.ASCIIDomain(domain))
	}
	if !ok {
		t.Errorf("%s%s is in the map and can't be found", tagNames[tag], key)
	}
}
