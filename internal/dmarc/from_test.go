package dmarc

import (
	"slices"
	"strings"
	"testing"

	"gatepost/internal/mail"
)

func header(t testing.TB, text string) mail.Header {
	t.Helper()
	h, _, err := mail.SplitHeader([]byte(strings.ReplaceAll(text, "\n", "\r\n")))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestAuthors(t *testing.T) {
	for _, tt := range []struct{ name, in, odd, domains, display string }{
		{"bare", "From: a@good.test\n", "", "good.test", ""},
		{"named", "From: Jane Doe <a@good.test>\n", "", "good.test", ""},
		{"upper case", "FROM: <A@Good.TEST>\n", "", "good.test", ""},
		{"quoted name", "From: \"Doe, Jane (x) <y>\" <a@good.test>\n", "", "good.test", ""},
		{"comment", "From: a@good.test (Jane)\n", "", "good.test", ""},
		{"nested comment", "From: (a (b) \\) c) Jane <a@good.test> (end)\n", "", "good.test", ""},
		{"folded between", "From: \"A very long name\"\n <a@good.test>\n", "", "good.test", ""},
		{"encoded name", "From: =?utf-8?q?J=C3=BCrgen?= <a@good.test>\n", "", "good.test", ""},
		{"raw 8 bit name", "From: J\xfcrgen <a@good.test>\n", "", "good.test", ""},
		{"brackets in the name", "From: Jane [Sales] <a@good.test>\n", "", "good.test", ""},
		{"international domain", "From: a@bücher.test\n", "", "xn--bcher-kva.test", ""},
		{"trailing dot", "From: a@good.test.\n", "", "good.test", ""},
		{"quoted local part", "From: \"a.b\"@good.test\n", "", "good.test", ""},
		{"H3 address as the name", "From: \"a@good.test\" <b@evil.test>\n", "", "evil.test", "good.test"},
		{"H3 encoded address as the name", "From: =?utf-8?q?a=40good.test?= <b@evil.test>\n", "", "evil.test", "good.test"},
		{"own address as the name", "From: a@good.test <a@good.test>\n", "", "good.test", ""},
		{"other address as the name, bare", "From: a@good.test <b@evil.test>\n", "malformed", "good.test evil.test", ""},

		{"H3 none", "To: a@good.test\n", "missing", "", ""},
		{"H3 two fields", "From: a@good.test\nFrom: b@evil.test\n", "duplicate", "good.test evil.test", ""},
		{"H3 the same twice", "From: a@good.test\nFrom: a@good.test\n", "duplicate", "good.test", ""},
		{"H3 two addresses", "From: a@good.test, b@evil.test\n", "several", "good.test evil.test", ""},
		{"H3 two in brackets", "From: <a@good.test> <b@evil.test>\n", "malformed", "good.test evil.test", ""},
		{"H3 blank before the colon", "From : a@good.test\n", "spaced", "good.test", ""},
		{"H3 tab before the colon", "From\t: a@good.test\n", "spaced", "good.test", ""},
		{"H3 blank before the name", "X: y\n From: a@good.test\n", "missing", "", ""},
		{"H3 NUL in the name", "X: y\nFrom\x00: a@good.test\n", "missing", "", ""},
		{"H3 empty first line", "From:\n a@good.test\n", "folded", "good.test", ""},
		{"H3 line of blanks", "From: Jane\n \n <a@good.test>\n", "folded", "good.test", ""},
		{"H3 folded address", "From: <a@\n good.test>\n", "malformed", "good.test", ""},
		{"H3 group", "From: friends: a@good.test, b@evil.test;\n", "group", "good.test evil.test", ""},
		{"H3 empty group", "From: undisclosed:;\n", "group", "", ""},
		{"H3 route", "From: <@x.test:a@good.test>\n", "malformed", "x.test good.test", ""},
		{"H3 encoded address", "From: =?utf-8?b?YUBnb29kLnRlc3Q=?=\n", "encoded", "good.test", ""},
		{"H3 encoded local part", "From: <=?utf-8?q?a?=@good.test>\n", "encoded", "good.test", ""},
		{"H3 encoded bracket", "From: =?utf-8?q?a=40good.test=3E?= b@evil.test\n", "malformed", "evil.test good.test", ""},
		{"H3 empty", "From:\n", "malformed", "", ""},
		{"H3 null", "From: <>\n", "malformed", "", ""},
		{"blank in the address", "From: <a @good.test>\n", "malformed", "good.test", ""},
		{"quoted at", "From: \"a@good.test\"@evil.test\n", "malformed", "good.test evil.test", ""},
		{"two at", "From: <a@good.test@evil.test>\n", "malformed", "good.test evil.test", ""},
		{"something behind", "From: <a@good.test> x\n", "malformed", "good.test", ""},
		{"D4 comment at the address", "From: a@good.test(.evil.test)\n", "malformed", "good.test", ""},
		{"comment before the at", "From: a(x)@good.test\n", "malformed", "good.test", ""},
		{"open quote", "From: \"Jane <a@good.test>\n", "malformed", "good.test", ""},
		{"open comment", "From: (Jane <a@good.test>\n", "malformed", "good.test", ""},
		{"control character", "From: a\x01b <a@good.test>\n", "malformed", "good.test", ""},
		{"literal", "From: a@[192.0.2.1]\n", "malformed", "", ""},
		{"no domain", "From: root\n", "malformed", "", ""},
		{"full-width at", "From: a＠good.test\n", "malformed", "good.test", ""},
		{"blanks around dots", "From: a @ good . test\n", "malformed", "good.test", ""},
		{"comments in the domain", "From: <a@good(x)(y(z)).test>\n", "malformed", "good.test", ""},
		{"behind much", "From: \"" + strings.Repeat("x", 30000) + "\" <a@good.test> x\n", "malformed", "good.test", ""},
		{"encoded, behind much", "From: " + strings.Repeat("x ", 10000) + "=?utf-8?b?YUBnb29kLnRlc3Q=?=\n", "malformed", "good.test", ""},
		{"behind ten others", "From: a@1.test, a@2.test, a@3.test, a@4.test, a@5.test, a@6.test, a@7.test, a@8.test, a@9.test, a@a.test, a@good.test, a@b.test\n", "excessive",
			"1.test 2.test 3.test 4.test 5.test 6.test 7.test 8.test 9.test a.test good.test", ""},
		{"bare CR", "From: a@evil.test\rFrom: a@good.test\n", "malformed", "evil.test good.test", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := Authors(header(t, tt.in))
			want := From{Odd: tt.odd, Domains: strings.Fields(tt.domains), Display: tt.display}
			if got.Odd != want.Odd || !slices.Equal(got.Domains, want.Domains) || got.Display != want.Display {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

// Whatever stands there, a clear author has one domain, and its text is in the
// field, or was made ASCII.
func FuzzAuthors(f *testing.F) {
	f.Add("Jane <a@good.test>")
	f.Add("\"a@good\" <b@evil.test>, (c)")
	f.Add("=?utf-8?b?YUBnb29kLnRlc3Q=?= <x@y.test>")
	f.Fuzz(func(t *testing.T, value string) {
		h, _, err := mail.SplitHeader([]byte("From: " + value + "\r\n\r\n"))
		if err != nil {
			return
		}
		from := Authors(h)
		if from.Odd == "" && (len(from.Domains) != 1 || !strings.Contains(strings.ToLower(value), from.Domains[0]) && !strings.Contains(from.Domains[0], "xn--")) {
			t.Errorf("%q: %+v", value, from)
		}
	})
}
