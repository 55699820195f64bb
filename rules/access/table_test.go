package access

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gatepost/internal/mail"
)

// oneLine reads one line as a table has it.
func oneLine(line string) (string, Tag, Value, error) {
	p := parser{table: &Table{}, options: DefaultOptions(), known: make(map[valueKey]int32)}
	if err := p.entry(1, line); err != nil {
		return "", 0, Value{}, err
	}
	for t, slots := range p.table.slots {
		for key, s := range slots {
			return key, Tag(t), p.table.values[s.value], nil
		}
	}
	return "", 0, Value{}, nil
}

func TestParseLine(t *testing.T) {
	tests := []struct {
		name, line string
		key        string
		tag        Tag
		says       Says
		reply      string
		err        string // a part of it
	}{
		{name: "tab", line: "From:spam.example\tREJECT", key: "spam.example", tag: From, says: REJECT},
		{name: "blanks around the value", line: "From:spam.example  \t REJECT \t", key: "spam.example", tag: From, says: REJECT},
		{name: "keys are folded, values not", line: "TO:User@Example.ORG Go Away", key: "user@example.org", tag: To, says: ANSWER, reply: "553 5.3.0 Go Away"},
		{name: "comment behind the value is the value", line: "x y # z", key: "x", tag: Untagged, says: ANSWER, reply: "553 5.3.0 y # z"},
		{name: "quotes in a reply", line: `Connect:x.example "550 5.7.1 no"`, key: "x.example", tag: Connect, says: ANSWER, reply: "550 5.7.1 no"},
		{name: "double percent", line: "Connect:x.example 550 100%% sure", key: "x.example", tag: Connect, says: ANSWER, reply: "550 5.0.0 100% sure"},
		{name: "ERROR with enhanced code", line: "Connect:x ERROR:5.1.8:553 base hit", key: "x", tag: Connect, says: ANSWER, reply: "553 5.1.8 base hit"},
		{name: "enhanced code behind the code wins", line: "Connect:x ERROR:5.1.8:553 5.7.9 x", key: "x", tag: Connect, says: ANSWER, reply: "553 5.7.9 x"},
		{name: "class follows the code", line: "Connect:x ERROR:5.2.2:450 full", key: "x", tag: Connect, says: ANSWER, reply: "450 4.2.2 full"},
		{name: "ERROR without code", line: "Connect:x error:go away", key: "x", tag: Connect, says: ANSWER, reply: "553 5.3.0 go away"},
		{name: "ERROR with enhanced code only", line: "Connect:x ERROR:5.1.2:go away", key: "x", tag: Connect, says: ANSWER, reply: "553 5.1.2 go away"},
		{name: "enhanced code without ERROR is text", line: "Connect:x 5.1.2:550 go", key: "x", tag: Connect, says: ANSWER, reply: "553 5.3.0 5.1.2:550 go"},
		{name: "code without blank is text", line: "Connect:x ERROR:550:go", key: "x", tag: Connect, says: ANSWER, reply: "553 5.3.0 550:go"},
		{name: "quarantine", line: "Connect:x quarantine: odd host", key: "x", tag: Connect, says: QUARANTINE},
		{name: "untagged IPv6", line: "IPv6:2001:DB8:0a:: OK", err: "write IPv6:2001:db8:0a for all"},
		{name: "IPv6 prefix", line: "IPv6:2001:DB8:0a OK", key: "ipv6:2001:db8:a", tag: Untagged, says: OK},
		{name: "IPv6 short form", line: "Connect:IPv6:2001:db8::5 OK", key: "ipv6:2001:db8:0:0:0:0:0:5", tag: Connect, says: OK},
		{name: "IPv6 long form", line: "Connect:IPv6:2001:db8:0:0:0:0:0:5 OK", key: "ipv6:2001:db8:0:0:0:0:0:5", tag: Connect, says: OK},
		{name: "IPv6 unspecified", line: "Connect:IPv6::: REJECT", key: "ipv6:0:0:0:0:0:0:0:0", tag: Connect, says: REJECT},
		{name: "bracket", line: "Connect:[203.0.113.20] REJECT", key: "[203.0.113.20]", tag: Connect, says: REJECT},
		{name: "bracket prefix", line: "[203.0] REJECT", key: "[203.0]", tag: Untagged, says: REJECT},
		{name: "bracket IPv6", line: "Connect:[IPv6:2001:db8::1] REJECT", key: "[ipv6:2001:db8:0:0:0:0:0:1]", tag: Connect, says: REJECT},
		{name: "user", line: "From:FREE.STEALTH@ REJECT", key: "free.stealth@", tag: From, says: REJECT},
		{name: "plus wildcard", line: "From:a+*@x.example REJECT", key: "a+*@x.example", tag: From, says: REJECT},
		{name: "top-level domain", line: "From:zip REJECT", key: "zip", tag: From, says: REJECT},
		{name: "IDN", line: "From:BÜCHER.example REJECT", key: "xn--bcher-kva.example", tag: From, says: REJECT},
		{name: "one number", line: "10 RELAY", key: "10", tag: Untagged, says: RELAY},

		{name: "leading blank", line: " x REJECT", err: "begins with a blank"},
		{name: "leading tab", line: "\tx REJECT", err: "begins with a blank"},
		{name: "no value", line: "x", err: "x has no value"},
		{name: "no value, blanks", line: "x \t ", err: "x has no value"},
		{name: "NUL", line: "x\x00 REJECT", err: "control characters"},
		{name: "escape", line: "x REJECT\x1b[2J", err: "control characters"},
		{name: "broken UTF-8", line: "x\xff REJECT", err: "broken UTF-8"},
		{name: "blank behind the tag", line: "To: friend.example RELAY", err: "nothing stands behind To:"},
		{name: "pause", line: "GreetPause:10 0", key: "10", tag: GreetPause, says: NUMBER},
		{name: "pause by name", line: "greetpause:my.example 5000", key: "my.example", tag: GreetPause, says: NUMBER},
		{name: "friend, small letters", line: "spam:abuse@ friend", key: "abuse@", tag: Spam, says: FRIEND},
		{name: "hater", line: "Spam:h@x.example HATER", key: "h@x.example", tag: Spam, says: HATER},
		{name: "rate of all", line: "ClientRate: 10", key: "", tag: ClientRate, says: NUMBER},
		{name: "connections of a network", line: "ClientConn:10.5 2", key: "10.5", tag: ClientConn, says: NUMBER},
		{name: "rate, skipped", line: "ClientRate:10.5 SKIP", key: "10.5", tag: ClientRate, says: SKIP},
		{name: "TLS", line: "TLS_Clt:x.example PERM+VERIFY:112", key: "x.example", tag: TLSClt, says: REQUIRE},
		{name: "TLS of all", line: "TLS_Clt: ENCR:112", key: "", tag: TLSClt, says: REQUIRE},
		{name: "all of IPv6", line: "Connect:IPv6 REJECT", key: "ipv6", tag: Connect, says: REJECT},

		{name: "pause in words", line: "GreetPause:10 5s", err: "takes a number of milliseconds from 0 to 300000"},
		{name: "pause too long", line: "GreetPause:10 300001", err: "from 0 to 300000"},
		{name: "negative rate", line: "ClientRate:10 -1", err: "takes a number of connections"},
		{name: "rate that is a word", line: "ClientRate:10 OK", err: "takes a number of connections"},
		{name: "rate of a name", line: "ClientRate:x.example 5", err: "only the address of a client"},
		{name: "rate of a mailbox", line: "ClientRate:u@x.example 5", err: "a client is no mail address"},
		{name: "pause of nobody", line: "GreetPause: 5", err: "nothing stands behind GreetPause:"},
		{name: "friend under another tag", line: "To:x FRIEND", err: "FRIEND is a value of the tag Spam: alone"},
		{name: "no friend", line: "Spam:x OK", err: "Spam: takes FRIEND or HATER"},
		{name: "friend of a network", line: "Spam:10.5 FRIEND", err: "holds no client address"},
		{name: "TLS in other words", line: "TLS_Clt:x REJECT", err: "TLS_Clt: takes"},
		{name: "TLS without bits", line: "TLS_Clt:x ENCR", err: "TLS_Clt: takes"},
		{name: "TLS with too much", line: "TLS_Clt:x VERIFY+", err: "TLS_Clt: takes"},
		{name: "TLS with a table", line: "TLS_Clt:x VERIFY+CN++CITag:MyCA", err: "the issuer is not asked for here"},
		{name: "TLS with sendmail's subject", line: "TLS_Clt:x VERIFY+CS:/CN=x", err: "write it as the log has it"},
		{name: "TLS of an unknown name", line: "TLS_Clt:x VERIFY+XX:y", err: "asks for nothing that is known"},
		{name: "tag of the other side", line: "TLS_Srv:x VERIFY", err: "has no effect here; remove the line: write the TLS policy of the next hop"},
		{name: "certificates", line: "CERTISSUER:/CN=x RELAY", err: "has no effect here"},
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
			key, tag, e, err := oneLine(tt.line)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error = %v, want one with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if key != tt.key || tag != tt.tag || e.Says != tt.says {
				t.Errorf("got key %q, tag %d, says %d; want %q, %d, %d", key, tag, e.Says, tt.key, tt.tag, tt.says)
			}
			reply := ""
			if !e.Reply.IsZero() {
				reply = e.Reply.String()
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
			name: "every bad line is named", text: "a b\n c d\nAuthInfo:x 5\nFrom:ok.example OK\nx\n",
			err: "F:2: begins with a blank; the key starts the line\n" +
				"F:3: the tag \"AuthInfo\" has no effect here; remove the line: write the password of the next hop into its [route] section\n" +
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
			a, warnings, err := Parse("F", strings.NewReader(tt.text), DefaultOptions())
			if got := fmt.Sprint(err); tt.err != "" && got != tt.err || tt.err == "" && err != nil {
				t.Fatalf("error = %s\nwant %s", got, tt.err)
			}
			if tt.err != "" {
				return
			}
			if n := a.Len(); n != tt.entries {
				t.Errorf("%d entries, want %d", n, tt.entries)
			}
			if got, want := strings.Join(warnings, "\n"), strings.Join(tt.warnings, "\n"); got != want {
				t.Errorf("warnings:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func TestProblemsAreBounded(t *testing.T) {
	_, _, err := Parse("F", strings.NewReader(strings.Repeat("x\n", 10_000)), DefaultOptions())
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != maxProblems+1 || lines[maxProblems] != "and 9950 more like these" {
		t.Errorf("%d lines, last %q", len(lines), lines[len(lines)-1])
	}
}

// Whatever the file holds: no panic, and an error names path and line.
func FuzzAccess(f *testing.F) {
	oracle, err := os.ReadFile("../testdata/oracle.access")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(oracle))
	for _, s := range []string{
		"", "#\n", "x", " x y", "a b\na c\n", "To: x RELAY", "IPv6:::: OK", "Connect:IPv6:a:b OK", "[ x", "[] x", "[ipv6:] x", "@ x", "+*@ x",
		"From:a@b@c x", "x ERROR:4.:450 ", "x ERROR:5.1.1:", "x \"\"", "x ERROR:\"", "x 5", "x 55", "x 550", "x 550 ", "x 999 a", "x\ty\r\n\x00", "\ufeffx y", "From:\u0130@x.example y",
		"Spam:abuse@ FRIEND\nSpam:h@x.example HATER", "GreetPause:10 300000", "ClientRate: 10\nClientRate:10.5 0", "ClientConn:IPv6:1 1",
		"TLS_Clt: TEMP+ENCR:112", "TLS_Clt:x PERM+VERIFY:256+CN:a+20b++CS:x", "TLS_Clt:x VERIFY+", "TLS_Clt:x VERIFY:+CN", "Connect:.x.example OK",
		"Connect:IPv6 REJECT", "x SKIP", "From:+a@x y", "From:++a@ y",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		withDots := DefaultOptions()
		withDots.LookupDotDomain, withDots.Skip = true, false
		_, _, errDots := Parse("F", strings.NewReader(text), withDots)
		a, _, err := Parse("F", strings.NewReader(text), DefaultOptions())
		placed(t, "F", err)
		placed(t, "F", errDots)
		_, _ = (&Table{}).Lookup(text)
		m, _ := ReadMailbox(text)
		if e := (Engine{Table: &Table{}}); e.Strip(m, nil).Domain == "" && m.Domain != "" {
			t.Errorf("%q: a foreign domain was stripped off %v", text, m)
		}
		if err != nil {
			return
		}
		for i, slots := range a.slots {
			tag := Tag(i)
			for key, s := range slots {
				v := a.values[s.value]
				if v.Says == ANSWER && (v.Reply.Code < 400 || v.Reply.Code > 599) {
					t.Errorf("%d %q: reply %v", tag, key, v.Reply)
				}
				if v.Says == NUMBER && v.Number < 0 || v.Says == REQUIRE && v.TLS == nil {
					t.Errorf("%d %q: value %+v", tag, key, v)
				}
				checkReachable(t, a, tag, key, v)
			}
		}
	})
}

// Whatever the lists hold: no panic, errors name path and line, nothing is
// everybody.
func FuzzLists(f *testing.F) {
	for _, s := range []string{"", "# x\n", "10.0.0.0/8 OK\n", "10.9\nIPv6:2001:db8\nrelay.example\n", "0.0.0.0/0", "::/0", "!10.0.0.1", "[::1]", "::ffff:10.0.0.1/104", ".x.example", "x y z", "0", "IPv6", "ipv6:", "[1.2.3.4]", "10.0.0.0/33"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "F")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		networks, err := ReadNetworks(path)
		placed(t, path, err)
		for _, n := range networks {
			if !n.IsValid() || n.Bits() == 0 || n != n.Masked() {
				t.Errorf("network %v", n)
			}
		}
		for form := Domains; form <= PostfixDomains; form++ {
			c := &Class{}
			placed(t, path, c.AddFile(form, path))
			if _, ok := c.Has(""); ok {
				t.Error("the class has the empty name")
			}
			for _, name := range c.Names() {
				if _, ok := c.Has(strings.TrimPrefix(name, ".")); !ok && name[0] != '.' {
					t.Errorf("%q is in the class and not found", name)
				}
			}
		}
	})
}

// placed wants an error that says where, line by line.
func placed(t *testing.T, path string, err error) {
	t.Helper()
	if err == nil {
		return
	}
	for _, line := range strings.Split(err.Error(), "\n") {
		var n int
		rest, _ := strings.CutPrefix(line, path+":")
		if _, scan := fmt.Sscanf(rest, "%d: ", &n); (scan != nil || n < 1) && !strings.HasPrefix(line, "and ") {
			t.Errorf("error without a place: %q", line)
		}
	}
}

// checkReachable: what loads without a complaint can be found, or its author
// believes in a line that does nothing.
func checkReachable(t *testing.T, a *Table, tag Tag, key string, v Value) {
	t.Helper()
	if v.Says == SKIP || strings.Contains(key, "+*@") {
		return
	}
	ok := true
	switch local, domain, isMailbox := strings.Cut(key, "@"); {
	case key == "":
		_, ok = a.Exact(tag, "", nil)
	case isMailbox && domain == "":
		_, ok = a.User(tag, local, nil)
	case isMailbox:
		addr, err := mail.ParseAddress(key, true)
		if err != nil {
			t.Fatalf("key %q: %v", key, err)
		}
		_, ok = a.Full(tag, Of(addr), nil)
	case strings.HasPrefix(key, prefixV6):
		if ip, err := netip.ParseAddr(key[len(prefixV6):]); err == nil {
			_, ok = a.Address(tag, ip, nil)
		}
	case looksNumeric(key):
		if ip, err := netip.ParseAddr(key); err == nil {
			_, ok = a.Address(tag, ip, nil)
		}
	case strings.HasPrefix(key, "["):
		if _, is := literal(key); is {
			_, ok = a.Domain(tag, key, nil)
		}
	default:
		domain, err := CanonicalDomain(key)
		if err != nil {
			t.Fatalf("key %q: %v", key, err)
		}
		_, ok = a.Domain(tag, domain, nil)
	}
	if !ok {
		t.Errorf("%s%s is in the map and can't be found", tag, key)
	}
}
