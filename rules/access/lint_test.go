package access

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What a table and the classes say together, and is probably not meant.
func TestEngineWarnings(t *testing.T) {
	relay := filepath.Join(t.TempDir(), "relay-domains")
	if err := os.WriteFile(relay, []byte("relay.example\ncom\n10\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, text string
		relay      bool
		change     func(*Engine)
		want       []string
	}{
		{"nothing to say", "To:a.example\tRELAY\nConnect:10\tRELAY\nFrom:com\tREJECT\nConnect:zip\tREJECT\n", false, nil, nil},
		{"top-level domains", "To:com\tRELAY\nConnect:org\tRELAY\nConnect:IPv6\tRELAY\n", false, nil, []string{
			"F:1: To:com RELAY is for every name", "F:2: Connect:org RELAY is for every name", "F:3: Connect:ipv6 RELAY is for every name",
		}},
		{"a top-level domain in relay-domains", "", true, nil, []string{relay + ":2: com relays for every name below it"}},
		{"a user that is blocked for local domains alone", "To:gone@\tREJECT\n", true, nil, []string{
			relay + ":2: com relays", "F:1: To:gone@ counts for the domains of relay.domains",
		}},
		{"a switch that does nothing", "", false, func(e *Engine) { e.LooseRelayCheck = true }, []string{"relay.loose_relay_check does nothing"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := &Engine{Local: &Class{}, Relay: &Class{}, Options: DefaultOptions()}
			if err := e.Local.Add(LocalHosts, "w", "local.example"); err != nil {
				t.Fatal(err)
			}
			if tt.relay {
				if err := e.Relay.AddFile(RelayDomains, relay); err != nil {
					t.Fatal(err)
				}
			}
			if tt.change != nil {
				tt.change(e)
			}
			e.Table = table(t, tt.text, e.Options)
			got := e.Warnings()
			for _, want := range tt.want {
				if !strings.Contains(strings.Join(got, "\n"), want) {
					t.Errorf("no warning with %q in %q", want, got)
				}
			}
			if len(got) != len(tt.want) {
				t.Errorf("%d warnings, want %d: %q", len(got), len(tt.want), got)
			}
		})
	}
}

// Traps of a table alone.
func TestTableWarnings(t *testing.T) {
	tests := []struct {
		name, text string
		change     func(*Options)
		want       string // of the one warning; "" for none
	}{
		{"an exception that ends where the rule goes on", "From:x.example\tREJECT\nFrom:good@x.example\tOK\n", nil, "F:2: From:good@x.example is for this domain alone"},
		{"no rule, no exception", "From:good@x.example\tOK\n", nil, ""},
		{"a user with every detail", "To:u@x.example\tREJECT\nTo:v@x.example\t550 gone\n", nil, "F:1: To:u@x.example refuses mail to u+anything@x.example, too, and 1 more lines"},
		{"detail alone", "To:u+*@x.example\tREJECT\n", nil, ""},
		{"senders with every detail are meant", "From:u@x.example\tREJECT\n", nil, ""},
		{"a friend without delay_checks", "Spam:abuse@\tFRIEND\n", nil, `does nothing with relay.delay_checks = "off"`},
		{"a friend with it", "Spam:abuse@\tFRIEND\n", func(o *Options) { o.DelayChecks = DelayFriend }, ""},
		{"a hater with friends", "Spam:abuse@\tHATER\n", func(o *Options) { o.DelayChecks = DelayFriend }, `it is for "hater"`},
		{"SKIP without skip", "Connect:x.example\tSKIP\n", func(o *Options) { o.Skip = false }, `SKIP is no keyword without relay.skip`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := DefaultOptions()
			if tt.change != nil {
				tt.change(&o)
			}
			_, warnings, err := Parse("F", strings.NewReader(tt.text), o)
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Join(warnings, "\n")
			if tt.want == "" && got != "" || !strings.Contains(got, tt.want) || len(warnings) > 1 {
				t.Errorf("warnings %q, want one with %q", got, tt.want)
			}
		})
	}
}
