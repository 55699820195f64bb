package mail

import (
	"strings"
	"testing"
)

func TestParseAddress(t *testing.T) {
	long := strings.Repeat("a", 64)
	tests := []struct {
		name, in string
		utf8     bool
		want     string // canonical form; "!" when it must be refused
	}{
		{name: "null sender", in: "", want: ""},
		{name: "postmaster", in: "Postmaster", want: "postmaster"},
		{name: "plain", in: "u@b.example", want: "u@b.example"},
		{name: "case of the domain folds, of the local part not", in: "U@B.EXAMPLE", want: "U@b.example"},
		{name: "trailing dot is dropped", in: "u@b.example.", want: "u@b.example"},
		{name: "two trailing dots", in: "u@b.example..", want: "!"},
		{name: "empty label", in: "u@.b.example", want: "!"},
		{name: "no domain", in: "joe", want: "!"},
		{name: "empty domain", in: "joe@", want: "!"},
		{name: "percent is a local part of one domain", in: "u%out.example@b.example", want: "u%out.example@b.example"},
		{name: "bang likewise", in: "out.example!u@b.example", want: "out.example!u@b.example"},
		{name: "source route", in: "@b.example:u@out.example", want: "!"},
		{name: "source route of two", in: "@b.example,@c.example:u@out.example", want: "!"},
		{name: "second at", in: "u@out.example@b.example", want: "!"},
		{name: "quoted at", in: `"u@out.example"@b.example`, want: "!"},
		{name: "only quoted", in: `"u@out.example"`, want: "!"},
		{name: "quoted path end and arguments", in: `"u@out.example> ORCPT=rfc822;x"@b.example`, want: "!"},
		{name: "quoted blank and arguments", in: `"a> NOTIFY=NEVER "@b.example`, want: "!"},
		{name: "quoted quote", in: `"\"><u@out.example> "@b.example`, want: "!"},
		{name: "quoted line end", in: "\"a\r\nRCPT TO:<u@out.example>\"@b.example", want: "!"},
		{name: "quoted pair of at", in: `"u\@x"@b.example`, want: "!"},
		{name: "needless quotes go", in: `"u"@b.example`, want: "u@b.example"},
		{name: "needed quotes stay", in: `"a..b"@b.example`, want: `"a..b"@b.example`},
		{name: "quoted empty", in: `""@b.example`, want: "!"},
		{name: "only empty quotes", in: `""`, want: "!"},
		{name: "literal", in: "u@[192.0.2.1]", want: "u@[192.0.2.1]"},
		{name: "IPv6 literal", in: "u@[ipv6:2001:DB8:0::1]", want: "u@[IPv6:2001:db8::1]"},
		{name: "IPv4 in IPv6", in: "u@[IPv6:::ffff:127.0.0.1]", want: "u@[IPv6:::ffff:127.0.0.1]"},
		{name: "IPv6 without its tag", in: "u@[::1]", want: "!"},
		{name: "IPv6 zone", in: "u@[IPv6:fe80::1%eth0]", want: "!"},
		{name: "naked number", in: "u@127.0.0.1", want: "!"},
		{name: "blank in front", in: " u@b.example", want: "!"},
		{name: "blank behind", in: "u@b.example ", want: "!"},
		{name: "comment behind", in: "u@b.example(x)", want: "!"},
		{name: "comment in front", in: "(x)u@b.example", want: "!"},
		{name: "comment inside", in: "u(x)@b.example", want: "!"},
		{name: "two with a comma", in: "u@b.example,u@out.example", want: "!"},
		{name: "percent in the domain", in: "u@b%2eexample", want: "!"},
		{name: "bracketed", in: "<u@b.example>", want: "!"},
		{name: "option", in: "-oQ/tmp@b.example", want: "!"},
		{name: "pipe", in: `"|/bin/sh"@b.example`, want: "!"},
		{name: "two dots", in: "a..b@b.example", want: "!"},
		{name: "leading dot", in: ".a@b.example", want: "!"},
		{name: "bare CR", in: "a\rb@b.example", want: "!"},
		{name: "NUL", in: "a\x00b@b.example", want: "!"},
		{name: "DEL", in: "a\x7fb@b.example", want: "!"},
		{name: "A-label", in: "u@xn--b-1ga.example", want: "u@xn--b-1ga.example"},
		{name: "8-bit without SMTPUTF8", in: "é@b.example", want: "!"},
		{name: "8-bit", in: "é@bücher.example", utf8: true, want: "é@bücher.example"},
		{name: "broken UTF-8", in: "\xff@b.example", utf8: true, want: "!"},
		{name: "ideographic full stop", in: "u@b。example", utf8: true, want: "!"},
		{name: "full-width letter in the local part", in: "ｕ@b.example", utf8: true, want: "ｕ@b.example"},
		{name: "full-width letter in the domain", in: "u@ｂ.example", utf8: true, want: "!"},
		{name: "full-width at", in: "u＠x@b.example", utf8: true, want: "!"},
		{name: "full-width percent", in: "u％x@b.example", utf8: true, want: "!"},
		{name: "line separator", in: "u\u2028x@b.example", utf8: true, want: "!"},
		{name: "longest local part", in: long + "@b.example", want: long + "@b.example"},
		{name: "too long a local part", in: long + "a@b.example", want: "!"},
		{name: "too long a label", in: "u@" + long + ".example", want: "!"},
		{name: "too long a domain", in: "u@" + strings.Repeat("a.", 128) + "example", want: "!"},
		{name: "hyphen at the edge", in: "u@-b.example", want: "!"},
		{name: "underscore", in: "u@b_c.example", want: "u@b_c.example"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, err := ParseAddress(tt.in, tt.utf8)
			if tt.want == "!" {
				if err == nil {
					t.Fatalf("ParseAddress(%q) = %q, want an error", tt.in, a)
				}
				return
			}
			if err != nil || a.String() != tt.want {
				t.Fatalf("ParseAddress(%q) = %q, %v, want %q", tt.in, a, err, tt.want)
			}
		})
	}
}

func TestASCIIDomain(t *testing.T) {
	a, err := ParseAddress("u@bücher.example", true)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := a.ASCIIDomain(), "xn--bcher-kva.example"; got != want {
		t.Errorf("ASCIIDomain = %q, want %q", got, want)
	}
}

// What is parsed prints as something that parses to the same, and never holds
// what ends a path or begins an argument.
func FuzzAddress(f *testing.F) {
	for _, s := range []string{"", "postmaster", "u@b.example", `"a..b"@b.example`, "u@[IPv6:::1]", `"\a"@b`, "é@bücher.example", "u@b.", "a%b!c@d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddress(s, true)
		if err != nil {
			return
		}
		out := a.String()
		if strings.ContainsAny(out, "<> \r\n\x00") || strings.Count(out, "@") > 1 {
			t.Fatalf("%q prints as %q", s, out)
		}
		if back, err := ParseAddress(out, true); err != nil || back != a {
			t.Fatalf("%q -> %q -> %q, %v", s, out, back, err)
		}
	})
}
