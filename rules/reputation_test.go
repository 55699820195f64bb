package rules

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gatepost/internal/mail"
)

// reputationSet relays for example.com, with that access map.
func reputationSet(t *testing.T, table string, change func(*Config)) *Set {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Hostname = "mx1.example.com"
	cfg.Relay.Domains = []string{"example.com"}
	if table != "" {
		cfg.Relay.Access = filepath.Join(t.TempDir(), "access")
		if err := os.WriteFile(cfg.Relay.Access, []byte(table), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if change != nil {
		change(&cfg)
	}
	s, err := Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func at(stage mail.Stage, found ...mail.Finding) *mail.Transaction {
	body := "text\r\n"
	return &mail.Transaction{
		Stage: stage, Findings: found,
		Session: &mail.Session{Client: netip.MustParseAddrPort("203.0.113.7:25000"), Via: mail.ViaSMTP},
		Envelope: mail.Envelope{
			Sender:     mail.Path{Address: mail.Address{Local: "a", Domain: "x.org"}},
			Recipients: []mail.Path{{Address: mail.Address{Local: "bob", Domain: "example.com"}}},
		},
		Message: mail.NewMessage(nil, strings.NewReader(body), int64(len(body))),
	}
}

func TestReputation(t *testing.T) {
	bob := mail.Address{Local: "bob", Domain: "example.com"}
	denied := mail.Finding{Name: mail.FindingDenied, Value: "zen", Score: 4, Text: "client 203.0.113.7 is listed by zen (127.0.0.4): https://check.test/\n250 OK"}
	grey := mail.Finding{Name: mail.FindingGreylisted, Value: "5m1s", Rcpt: bob}
	rate := func(what string, rcpt mail.Address) mail.Finding {
		return mail.Finding{Name: mail.FindingRate, Value: what, Text: "client 203.0.113.7 has had 4", Rcpt: rcpt}
	}
	blocked := mail.Finding{Name: mail.FindingBlocked, Value: "3 viruses"}
	for _, tt := range []struct {
		name   string
		change func(*Config)
		access string
		stage  mail.Stage
		rcpt   string
		found  []mail.Finding
		want   string // the reply, or the action
	}{
		{"nothing", nil, "", mail.StageRcpt, "bob", nil, "accept"},
		{"listed", nil, "", mail.StageRcpt, "bob", []mail.Finding{denied}, "550 5.7.1 Service unavailable; client 203.0.113.7 is listed by zen (127.0.0.4): https://check.test/ 250 OK"},
		{"listed, to postmaster", nil, "", mail.StageRcpt, "PostMaster", []mail.Finding{denied}, "accept"},
		{"listed, to abuse", nil, "", mail.StageRcpt, "Abuse", []mail.Finding{denied}, "accept"},
		{"listed, and by an allow list", nil, "", mail.StageRcpt, "bob", []mail.Finding{denied, {Name: mail.FindingAllowed}}, "accept"},
		{"listed by one that may not refuse", nil, "", mail.StageRcpt, "bob", []mail.Finding{{Name: mail.FindingListed, Score: 9}}, "accept"},
		{"listed, tempfail", func(c *Config) { c.Policy.DNSBL = ListedTempFail }, "", mail.StageRcpt, "bob", []mail.Finding{denied}, "451 4.7.1 Service unavailable;"},
		{"listed, continue", func(c *Config) { c.Policy.DNSBL = ListedContinue }, "", mail.StageRcpt, "bob", []mail.Finding{denied}, "accept"},
		{"listed, the access map says OK", nil, "Connect:203.0.113\tOK\n", mail.StageRcpt, "bob", []mail.Finding{denied}, "accept"},
		{"listed, the access map says nothing of it", nil, "Connect:203.0.114\tOK\nFrom:x.org\tOK\n", mail.StageRcpt, "bob", []mail.Finding{denied}, "550"},
		{"nobody may relay who is listed", nil, "", mail.StageRcpt, "elsewhere", []mail.Finding{denied}, "550 5.7.1 Relaying denied"},
		{"greylisted", nil, "", mail.StageRcpt, "bob", []mail.Finding{grey}, "450 4.2.0 Greylisted, please try again in 5m1s"},
		{"another was greylisted", nil, "", mail.StageRcpt, "carol", []mail.Finding{grey}, "accept"},
		{"greylisting on trial", func(c *Config) { c.Policy.Greylist = PutOffContinue }, "", mail.StageRcpt, "bob", []mail.Finding{grey}, "accept"},
		{"greylisted, the access map says OK", nil, "Connect:203.0.113\tOK\n", mail.StageRcpt, "bob", []mail.Finding{grey}, "accept"},
		{"the message of whoever was greylisted", nil, "", mail.StageMessage, "", []mail.Finding{grey}, "accept"},
		{"too fast", nil, "", mail.StageConnect, "", []mail.Finding{rate(mail.RateConnections, mail.Address{})}, "452 4.3.2 Connection rate limit exceeded."},
		{"too many at a time", nil, "", mail.StageConnect, "", []mail.Finding{rate(mail.RateConcurrency, mail.Address{})}, "452 4.3.2 Too many open connections."},
		{"too fast, the access map says RELAY", nil, "Connect:203.0.113.7\tRELAY\n", mail.StageConnect, "", []mail.Finding{rate(mail.RateConnections, mail.Address{})}, "accept"},
		{"connections are judged when they come", nil, "", mail.StageMail, "", []mail.Finding{rate(mail.RateConnections, mail.Address{})}, "continue"},
		{"too many messages", nil, "", mail.StageMail, "", []mail.Finding{rate(mail.RateMessages, mail.Address{})}, "450 4.7.1 Too many messages"},
		{"too many recipients", nil, "", mail.StageRcpt, "bob", []mail.Finding{rate(mail.RateRecipients, bob)}, "452 4.5.3 Too many recipients"},
		{"another was one too many", nil, "", mail.StageRcpt, "carol", []mail.Finding{rate(mail.RateRecipients, bob)}, "accept"},
		{"too much", nil, "", mail.StageMessage, "", []mail.Finding{rate(mail.RateBytes, mail.Address{})}, "450 4.7.1 Too much mail"},
		{"too much, with a virus", nil, "", mail.StageMessage, "", []mail.Finding{rate(mail.RateBytes, mail.Address{}), {Name: mail.FindingVirus, Value: "Eicar"}}, "554 5.7.1 Message refused: virus found"},
		{"rates on trial", func(c *Config) { c.Policy.Rates = PutOffContinue }, "", mail.StageConnect, "", []mail.Finding{rate(mail.RateConnections, mail.Address{})}, "continue"},
		{"blocked", nil, "", mail.StageConnect, "", []mail.Finding{blocked}, "421 4.7.0 Too much unwanted mail"},
		{"blocked, the access map says OK", nil, "Connect:203.0.113.7\tOK\n", mail.StageConnect, "", []mail.Finding{blocked}, "accept"},
		{"blocking on trial", func(c *Config) { c.Policy.Blocked = PutOffContinue }, "", mail.StageConnect, "", []mail.Finding{blocked}, "continue"},
		{"a friend of spam", func(c *Config) { c.Relay.DelayChecks = "friend" }, "Spam:bob@example.com\tFRIEND\n", mail.StageRcpt, "bob", []mail.Finding{denied}, "accept"},
		{"no friend of spam", func(c *Config) { c.Relay.DelayChecks = "friend" }, "Spam:bob@example.com\tFRIEND\n", mail.StageRcpt, "carol", []mail.Finding{denied}, "550"},
		{"delayed, and the sender is welcome", func(c *Config) { c.Relay.DelayChecks = "plain" }, "From:x.org\tOK\n", mail.StageRcpt, "bob", []mail.Finding{denied}, "accept"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := reputationSet(t, tt.access, tt.change)
			var rcpt *mail.Path
			switch tt.rcpt {
			case "":
			case "elsewhere":
				rcpt = &mail.Path{Address: mail.Address{Local: "x", Domain: "elsewhere.org"}}
			default:
				rcpt = &mail.Path{Address: mail.Address{Local: tt.rcpt, Domain: "example.com"}}
			}
			v := s.Decide(at(tt.stage, tt.found...), rcpt)
			got := v.Action.String()
			if v.Action >= mail.TempFail {
				got = v.Reply.String()
				if v.Reason == "" || (v.Action == mail.TempFail) != (v.Reply.Code < 500) {
					t.Errorf("verdict %+v", v)
				}
			}
			if !strings.HasPrefix(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// Scores of lists add up with the others, but not for whom the access map speaks.
func TestReputationScores(t *testing.T) {
	found := []mail.Finding{
		{Name: mail.FindingListed, Score: 6}, {Name: mail.FindingAllowed, Score: -2}, {Name: mail.FindingClient, Score: 3},
		{Name: mail.FindingSpamScore, Score: 8},
	}
	for _, tt := range []struct {
		access string
		want   mail.Action
	}{{"", mail.Reject}, {"Connect:203.0.113.7\tOK\n", mail.Accept}} {
		if v := reputationSet(t, tt.access, nil).Decide(at(mail.StageMessage, found...), nil); v.Action != tt.want {
			t.Errorf("%q: %+v", tt.access, v)
		}
	}
}
