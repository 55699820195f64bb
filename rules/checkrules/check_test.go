package checkrules

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"gatepost/internal/mail"
)

// zones is a DNS of a few names.
type zones struct {
	listed  []string // "zone address"
	servers map[string][]string
	exist   []string
	down    bool
}

var errDown = errors.New("SERVFAIL")

func (z zones) Listed(_ context.Context, zone string, a netip.Addr) (bool, error) {
	if z.down {
		return false, errDown
	}
	return slices.Contains(z.listed, zone+" "+a.String()), nil
}

func (z zones) Servers(_ context.Context, name string) ([]string, []netip.Addr, error) {
	if z.down {
		return nil, nil, errDown
	}
	for ; strings.Contains(name, "."); _, name, _ = strings.Cut(name, ".") {
		if hosts := z.servers[name]; hosts != nil {
			return hosts, []netip.Addr{netip.MustParseAddr("192.0.2.53")}, nil
		}
	}
	return nil, nil, nil
}

func (z zones) Exists(_ context.Context, name string) (bool, error) {
	if z.down {
		return false, errDown
	}
	return slices.Contains(z.exist, name), nil
}

func parse(t testing.TB, lines ...string) *Rules {
	t.Helper()
	r, _, err := Parse("rules", strings.Join(lines, "\n")+"\n")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func address(t testing.TB, s string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(s, true)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// The rules of a firewall that never existed, with every construction. Two "@"
// never get as far as the rules: such an address is refused by its syntax.
var firewall = []string{
	"# comment",
	"allow:root@freenet.my.domain uucp@freenet.my.domain:ALL:ALL",
	"allow:ALL@freenet.my.domain:USER@freenet.my.domain:ALL",
	"deny:freenet.my.domain:ALL:ALL",
	"noto:RBL.rbl.test:ALL:ALL:550 Mail from %I blocked, see http%C//rbl.test/ (100%%)",
	"noto:ALL:ALL:*%*@*:551 Sorry %H (%I), no relaying to %T",
	"noto:ALL:ALL:*@*@*:551 no",
	"allow:10.1.0.0/16 *.inside.test EXCEPT 10.1.9.0/24 bad.inside.test:ALL:ALL",
	"deny:UNKNOWN:ALL@spam.test:ALL",
	"noto:ALL:/^[0-9]+@.*$/:ALL:550 digits",
	"allow:ALL:ALL:*my.domain",
	"noto:ALL:ALL:ALL:551 Sorry %H (%I), user %U%C I don't relay from %F to %T",
}

func TestFirewall(t *testing.T) {
	dns := zones{listed: []string{"rbl.test 203.0.113.66"}}
	rules := parse(t, firewall...)
	tests := []struct {
		name              string
		host, addr, ident string
		from, to          string
		kind              Kind
		line              int
		reply             string
	}{
		{"an ident of the host", "freenet.my.domain", "192.0.2.1", "root", "a@b.test", "c@d.test", Allow, 2, ""},
		{"as himself", "freenet.my.domain", "192.0.2.1", "bob", "bob@freenet.my.domain", "c@d.test", Allow, 3, ""},
		{"as somebody else", "freenet.my.domain", "192.0.2.1", "bob", "eve@freenet.my.domain", "c@d.test", Deny, 4,
			"550 5.7.1 Mail from <eve@freenet.my.domain> to <c@d.test> prohibited from your location (bob@freenet.my.domain ip=192.0.2.1)"},
		{"a listed address", "x.test", "203.0.113.66", "", "a@b.test", "u@my.domain", NoTo, 5, "550 5.7.1 Mail from 203.0.113.66 blocked, see http://rbl.test/ (100%)"},
		{"a percent hack", "x.test", "198.51.100.1", "", "a@b.test", "u%far@my.domain", NoTo, 6, "551 5.7.1 Sorry x.test (198.51.100.1), no relaying to <u%far@my.domain>"},
		{"a network", "x.test", "10.1.2.3", "", "a@b.test", "u@d.test", Allow, 8, ""},
		{"its exception", "x.test", "10.1.9.3", "", "a@b.test", "u@d.test", NoTo, 12, "551 5.7.1 Sorry x.test (10.1.9.3), user UNKNOWN: I don't relay from <a@b.test> to <u@d.test>"},
		{"a name", "h.inside.test", "198.51.100.1", "", "a@b.test", "u@d.test", Allow, 8, ""},
		{"an excepted name", "bad.inside.test", "198.51.100.1", "", "a@b.test", "u@d.test", NoTo, 12, ""},
		{"no name", "", "198.51.100.1", "", "a@spam.test", "u@my.domain", Deny, 9,
			"550 5.7.1 Mail from <a@spam.test> to <u@my.domain> prohibited from your location (UNKNOWN@UNKNOWN ip=198.51.100.1)"},
		{"a regular expression", "x.test", "198.51.100.1", "", "12345@z.test", "u@my.domain", NoTo, 10, "550 5.7.1 digits"},
		{"the trap of an open glob", "x.test", "198.51.100.1", "", "a@b.test", "u@notmy.domain", Allow, 11, ""},
		{"case", "X.test", "198.51.100.1", "", "a@b.test", "U@MY.Domain", Allow, 11, ""},
		{"the last rule", "x.test", "198.51.100.1", "joe", "a@b.test", "u@other.test", NoTo, 12,
			"551 5.7.1 Sorry x.test (198.51.100.1), user joe: I don't relay from <a@b.test> to <u@other.test>"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := rules.Check(t.Context(), dns, Query{Name: tt.host, Addr: netip.MustParseAddr(tt.addr), Ident: tt.ident, From: address(t, tt.from), To: address(t, tt.to)})
			if got.Kind != tt.kind || got.Line != tt.line {
				t.Errorf("kind %d by line %d, want %d by %d", got.Kind, got.Line, tt.kind, tt.line)
			}
			if tt.reply != "" && got.Reply.String() != tt.reply {
				t.Errorf("reply\n%s, want\n%s", got.Reply, tt.reply)
			}
		})
	}
}

func TestTokens(t *testing.T) {
	dns := zones{
		listed:  []string{"rbl.test 203.0.113.66"},
		servers: map[string][]string{"hosted.test": {"ns.spammer.test"}, "2.0.192.in-addr.arpa": {"ns.isp.test"}},
		exist:   []string{"real.test"},
	}
	client := Query{Name: "h.client.test", Addr: netip.MustParseAddr("192.0.2.1"), From: address(t, "a@real.test"), To: address(t, "u@my.domain")}
	unnamed, six, null := client, client, client
	unnamed.Name = ""
	six.Addr = netip.MustParseAddr("2001:db8::5")
	null.From = mail.Address{}
	hosted := client
	hosted.From = address(t, "a@sub.hosted.test")
	nowhere := client
	nowhere.From = address(t, "a@nowhere.test")
	tests := []struct {
		rule string
		q    Query
		fits bool
	}{
		{"allow:ALL:ALL:ALL", client, true},
		{"allow:192.0.2.1:ALL:ALL", client, true},
		{"allow:192.0.2.0/31:ALL:ALL", client, true},
		{"allow:192.0.2.2/31:ALL:ALL", client, false},
		{"allow:0/0:ALL:ALL", client, true},
		{"allow:0/0:ALL:ALL", six, false},
		{"allow:[2001:db8::/32]:ALL:ALL", six, true},
		{"allow:[2001:db8::5]:ALL:ALL", six, true},
		{"allow:[2001:db9::/32]:ALL:ALL", six, false},
		{"allow:192.0.2.*:ALL:ALL", client, true},
		{"allow:KNOWN:ALL:ALL", client, true},
		{"allow:KNOWN:ALL:ALL", unnamed, false},
		{"allow:UNKNOWN:ALL:ALL", unnamed, true},
		{"allow:/client/:ALL:ALL", client, true},
		{"allow:KNOWN@*.client.test:ALL:ALL", client, false},
		{"allow:ALL@*.client.test:ALL:ALL", client, true},
		{"allow:NS=ns.isp.test:ALL:ALL", unnamed, true},
		{"allow:ALL:NS=*.spammer.test:ALL", hosted, true},
		{"allow:ALL:NS=192.0.2.0/24:ALL", hosted, true},
		{"allow:ALL:NS=ns.isp.test:ALL", hosted, false},
		{"allow:ALL:NS=KNOWN:ALL", client, true},
		{"allow:ALL:NS=UNKNOWN:ALL", nowhere, true},
		{"allow:ALL:NS=UNKNOWN:ALL", client, false},
		{"allow:ALL:a@/^real/:ALL", client, true},
		{"allow:ALL:/^A$/@real.test:ALL", client, true},
		{"allow:ALL:*@*:ALL", null, false},
		{"allow:ALL:ALL:ALL EXCEPT *@my.domain EXCEPT u@*", client, true},
		{"allow:ALL:ALL:ALL EXCEPT *@my.domain except x@*", client, false},
		{"allow:a.test,h.client.test\tb.test:ALL:ALL", client, true},
		{"allow::ALL::ALL:ALL", client, true},
		{"debug:ALL:ALL:ALL", client, false},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			if got := parse(t, tt.rule).Check(t.Context(), dns, tt.q); (got.Kind == Allow) != tt.fits {
				t.Errorf("%+v, want it to fit: %v", got, tt.fits)
			}
		})
	}
}

// Without an answer from the DNS nothing fits, neither what allows nor what
// refuses.
func TestDNSDown(t *testing.T) {
	q := Query{Name: "x.test", Addr: netip.MustParseAddr("192.0.2.1"), From: address(t, "a@b.test"), To: address(t, "u@my.domain")}
	for _, rule := range []string{"allow:RBL.white.test:ALL:ALL", "allow:ALL:NS=KNOWN:ALL", "deny:ALL:NS=UNKNOWN:ALL", "deny:NS=*:ALL:ALL"} {
		if got := parse(t, rule).Check(t.Context(), zones{down: true}, q); got.Kind != NoMatch {
			t.Errorf("%s: %+v", rule, got)
		}
	}
}

func TestBadRules(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{"allow:*mydomain.com *otherdomain.com:ALL", "3 fields"},
		{"refuse:ALL:ALL:ALL", `action "refuse"`},
		{"Allow:ALL:ALL:ALL", `action "Allow"`},
		{"noto:ALL:ALL:ALL:550 see http://rbl.test/", "a colon in it is written %C"},
		{"deny:10.0.0.0/33:ALL:ALL", "never fits"},
		{"deny:10.0.0:ALL:ALL", "no address"},
		{"deny:[2001:db8::/200]:ALL:ALL", "source"},
		{"deny:/[/:ALL:ALL", "error parsing regexp"},
		{"deny:ALL:/a/@/b/:ALL", "only one side"},
		{"deny:TRUSTED:ALL:ALL", "Juniper"},
		{"deny:ALL EXCEPT:ALL:ALL", "empty list"},
		{"deny:RBL.-bad-:ALL:ALL", "source"},
		{"deny:ALL:ALL:" + strings.Repeat("x", 1100), "longer than"},
		{" # no comment", "1 fields"},
	} {
		_, _, err := Parse("rules", "# one\n"+tt.line+"\n")
		if err == nil || !strings.HasPrefix(err.Error(), "rules:2: ") || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want rules:2 and %q", tt.line, err, tt.want)
		}
	}
}

func TestWarnings(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{"noto:ALL:ALL:ALL:Sorry", "clients read"},
		{"noto:ALL:ALL:ALL:550 %Q", "clients read"},
		{"allow:ALL:ALL:*my.domain", "fits every domain that ends so"},
		{"deny:root@host.test:ALL:ALL", "never fits"},
		{"deny:ALL:USER@host.test:ALL", "never fits"},
	} {
		_, warnings, err := Parse("rules", tt.line+"\n")
		if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], tt.want) {
			t.Errorf("%s: %v %v, want %q", tt.line, warnings, err, tt.want)
		}
	}
	for _, line := range []string{"noto:ALL:ALL:ALL:Sorry", "noto:ALL:ALL:ALL:550 %Q", "noto:ALL:ALL:ALL:250 come in"} {
		got := parse(t, line).Check(t.Context(), zones{}, Query{From: address(t, "a@b.test"), To: address(t, "c@d.test")})
		if got.Reply.String() != "550 5.7.1 Recipient not allowed" {
			t.Errorf("%s: %s", line, got.Reply)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, line := range firewall {
		f.Add(line)
	}
	f.Add("deny:[2001:db8::/32] EXCEPT NS=RBL.x:/a/@b:c@/d/:550 %% %C:# x")
	q := Query{Name: "x.test", Addr: netip.MustParseAddr("2001:db8::1"), From: mail.Address{Local: "a", Domain: "b.test"}, To: mail.Address{Local: "c", Domain: "d.test"}}
	f.Fuzz(func(t *testing.T, line string) {
		r, _, err := Parse("rules", line)
		if err != nil {
			return
		}
		got := r.Check(t.Context(), zones{down: true}, q)
		if got.Kind >= NoTo && got.Reply.Code < 400 {
			t.Errorf("a refusal with %s", got.Reply)
		}
	})
}
