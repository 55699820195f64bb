package forward

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"gatepost/internal/mail"
)

const (
	offerXClient  = "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT REVERSE_NAME"
	offerXForward = "XFORWARD NAME ADDR PROTO HELO SOURCE PORT IDENT"
)

func client(addr string) mail.Facts {
	return mail.Facts{
		ID: "4kX1", Listener: "mx", ClientName: "mail.example.org", ClientAddr: netip.MustParseAddrPort(addr),
		Helo: "mail.example.org", Proto: "ESMTPS",
	}
}

// TestXCommands: encoding, what is unknown, and lines that would be too long.
func TestXCommands(t *testing.T) {
	all := strings.Fields(offerXClient)
	v6 := client("[2001:db8::1]:25000")
	v6.ClientName, v6.User, v6.Helo = "", "a+b=c@example.org", "[IPv6:2001:db8::1]"
	mapped := client("[::ffff:192.0.2.7]:1")
	long := client("192.0.2.7:25")
	long.Helo, long.ClientName, long.User = strings.Repeat("h", 300), strings.Repeat("n", 250), strings.Repeat("u", 500)
	odd := client("192.0.2.7:25")
	odd.Helo, odd.Proto = "a\r\nRCPT é", "SMTP"
	tests := []struct {
		name  string
		facts mail.Facts
		known []string
		want  []string
	}{
		{"IPv4", client("192.0.2.7:25000"), all, []string{"X NAME=mail.example.org ADDR=192.0.2.7 PORT=25000 PROTO=ESMTP HELO=mail.example.org LOGIN=[UNAVAILABLE]"}},
		{"IPv6, encoded", v6, all, []string{"X NAME=[UNAVAILABLE] ADDR=IPV6:2001:db8::1 PORT=25000 PROTO=ESMTP HELO=[IPv6:2001:db8::1] LOGIN=a+2Bb+3Dc@example.org"}},
		{"IPv4 in IPv6", mapped, []string{"addr"}, []string{"X ADDR=192.0.2.7"}},
		{"only what is known there", client("192.0.2.7:1"), strings.Fields("NAME SOURCE IDENT"), []string{"X NAME=mail.example.org IDENT=4kX1"}},
		{"nothing is", client("192.0.2.7:1"), []string{"FUTURE"}, nil},
		{"two lines, one value too long", long, all, []string{
			"X NAME=" + long.ClientName + " ADDR=192.0.2.7 PORT=25 PROTO=ESMTP",
			"X HELO=" + long.Helo + " LOGIN=[UNAVAILABLE]",
		}},
		{"controls", odd, []string{"HELO", "PROTO"}, []string{"X PROTO=SMTP HELO=a+0D+0ARCPT+20+C3+A9"}},
	}
	for _, tt := range tests {
		got := xcommands("X", attributes(tt.facts, tt.known))
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s:\n got  %q\n want %q", tt.name, got, tt.want)
		}
		for _, line := range got {
			if len(line)+2 > maxXLine {
				t.Errorf("%s: a line of %d bytes", tt.name, len(line)+2)
			}
		}
	}
}

// TestXClient: who is introduced when, over kept connections, too.
func TestXClient(t *testing.T) {
	a, b := client("192.0.2.7:25000"), client("192.0.2.8:25000")
	next := a
	next.ID = "4kX2"
	own := mail.Facts{ID: "4kX3"}
	const begin = "X NAME=mail.example.org ADDR=192.0.2.7 PORT=25000 PROTO=ESMTP HELO=mail.example.org"
	xclient := func(addr string) string {
		return strings.Replace(strings.Replace(begin, "X ", "XCLIENT ", 1), "192.0.2.7", addr, 1) + " LOGIN=[UNAVAILABLE]"
	}
	xforward := func(addr, id string) string {
		return strings.Replace(strings.Replace(begin, "X ", "XFORWARD ", 1), "192.0.2.7", addr, 1) + " IDENT=" + id
	}
	const noXClient = "deferred 451 4.7.1 the next hop does not offer us XCLIENT; is our address in its smtpd_authorized_xclient_hosts?"
	tests := []struct {
		name   string
		how    XClient
		offer  string
		script script
		facts  []mail.Facts
		want   []string
		said   [][]string // the commands that matter, by connection
	}{
		{"none", XClientNone, offerXClient, nil, []mail.Facts{a}, []string{sent}, [][]string{{"EHLO mx.example.net", "MAIL"}}},
		{"xclient", XClientFull, offerXClient, nil, []mail.Facts{a}, []string{sent},
			[][]string{{"EHLO mx.example.net", xclient("192.0.2.7"), "EHLO mail.example.org", "MAIL"}}},
		{"the same client again", XClientFull, offerXClient, nil, []mail.Facts{a, next}, []string{sent, sent},
			[][]string{{"EHLO mx.example.net", xclient("192.0.2.7"), "EHLO mail.example.org", "MAIL", "MAIL"}}},
		{"another client", XClientFull, offerXClient, nil, []mail.Facts{a, b}, []string{sent, sent},
			[][]string{{"EHLO mx.example.net", xclient("192.0.2.7"), "EHLO mail.example.org", "MAIL", xclient("192.0.2.8"), "EHLO mail.example.org", "MAIL"}}},
		{"our own comes from us", XClientFull, offerXClient, nil, []mail.Facts{a, own, a}, []string{sent, sent, sent},
			[][]string{{"EHLO mx.example.net", xclient("192.0.2.7"), "EHLO mail.example.org", "MAIL", "MAIL"}, {"EHLO mx.example.net", "MAIL"}}},
		{"not offered", XClientFull, "XYZ", nil, []mail.Facts{a}, []string{noXClient}, [][]string{{"EHLO mx.example.net"}}},
		{"refused", XClientFull, offerXClient, script{"XCLIENT": "550 5.7.0 insufficient authorization"}, []mail.Facts{a},
			[]string{"deferred 451 4.7.1 XCLIENT was refused: 550 5.7.0 insufficient authorization"}, [][]string{{"EHLO mx.example.net", xclient("192.0.2.7")}}},
		{"the client is not wanted", XClientFull, offerXClient, script{"EHLO mail.": "550 5.7.1 go away", "HELO": "550 5.7.1 go away"}, []mail.Facts{a},
			[]string{"deferred 451 4.3.2…"}, [][]string{{"EHLO mx.example.net", xclient("192.0.2.7"), "EHLO mail.example.org", "HELO mail.example.org"}}},
		{"421", XClientFull, offerXClient, script{"XCLIENT": "421 4.3.2 bye!close"}, []mail.Facts{a}, []string{"deferred 421 4.3.2 bye"}, [][]string{{"EHLO mx.example.net", xclient("192.0.2.7")}}},
		{"xforward", XClientForward, offerXForward, nil, []mail.Facts{a, next, own}, []string{sent, sent, sent},
			[][]string{{"EHLO mx.example.net", xforward("192.0.2.7", "4kX1"), "MAIL", xforward("192.0.2.7", "4kX2"), "MAIL", "MAIL"}}},
		{"xforward not offered", XClientForward, offerXClient, nil, []mail.Facts{a}, []string{sent}, [][]string{{"EHLO mx.example.net", "MAIL"}}},
		{"xforward refused", XClientForward, offerXForward, script{"XFORWARD": "501 5.5.4 what?"}, []mail.Facts{a, next}, []string{sent, sent},
			[][]string{{"EHLO mx.example.net", xforward("192.0.2.7", "4kX1"), "MAIL", "MAIL"}}},
	}
	for _, lmtp := range []bool{false, true} {
		for _, tt := range tests {
			if lmtp && strings.Contains(tt.name, "wanted") {
				continue
			}
			t.Run(map[bool]string{false: "smtp/", true: "lmtp/"}[lmtp]+tt.name, func(t *testing.T) {
				p := startPeer(t, &peer{lmtp: lmtp, offers: append([]string{tt.offer}, allOffers...), scripts: []script{tt.script}})
				r := quick(p.url())
				r.XClient = tt.how
				f := newForwarder(t, r)
				for i, facts := range tt.facts {
					check(t, f.Deliver(t.Context(), ".", facts, envelope(t, "a@example.com"), hello), tt.want[i])
				}
				dialogs := p.commands()
				if len(dialogs) != len(tt.said) {
					t.Fatalf("%d connections, want %d: %q", len(dialogs), len(tt.said), dialogs)
				}
				for i, want := range tt.said {
					if got := essence(dialogs[i]); !slices.Equal(got, want) {
						t.Errorf("connection %d:\n got  %q\n want %q", i, got, want)
					}
				}
			})
		}
	}
}

// essence leaves what says who is who; go-smtp's client says LHLO twice.
func essence(commands []string) []string {
	var kept []string
	for _, c := range commands {
		c = strings.Replace(c, "LHLO", "EHLO", 1)
		switch verb, _, _ := strings.Cut(c, " "); verb {
		case "MAIL":
			kept = append(kept, verb)
		case "EHLO":
			if len(kept) == 0 || kept[len(kept)-1] != c {
				kept = append(kept, c)
			}
		case "HELO", "XCLIENT", "XFORWARD":
			kept = append(kept, c)
		}
	}
	return kept
}
