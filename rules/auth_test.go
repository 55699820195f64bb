package rules

import (
	"net/netip"
	"strings"
	"testing"

	"gatepost/internal/mail"
)

func author(value, published, applied string) mail.Finding {
	text := "header.from=x.org"
	if published != "" {
		text += " policy.published=" + published
	}
	return mail.Finding{Name: mail.FindingDMARC, Value: value, Text: text + " policy.applied=" + applied}
}

func TestAuthors(t *testing.T) {
	reject, hold := author("fail", "reject", "reject"), author("fail", "quarantine", "quarantine")
	unknown := author("temperror", "", "unknown")
	odd := mail.Finding{Name: mail.FindingFrom, Value: "several"}
	dmarc := func(a DMARCAction) func(*Config) { return func(c *Config) { c.Policy.DMARC = a } }
	for _, tt := range []struct {
		name   string
		change func(*Config)
		found  []mail.Finding
		want   string // reply or action: reason
	}{
		{"nothing", nil, nil, "accept: "},
		{"pass", nil, []mail.Finding{author("pass", "reject", "none")}, "accept: "},
		{"p=reject", nil, []mail.Finding{reject}, "550 5.7.1 Message refused: it is not from x.org, whose owner wants such mail refused (DMARC): DMARC: not from x.org, which wants it refused"},
		{"p=quarantine", nil, []mail.Finding{hold}, "quarantine: DMARC: not from x.org, which wants it held"},
		{"p=none", nil, []mail.Finding{author("fail", "none", "none")}, "accept: "},
		{"tried out, or set aside", nil, []mail.Finding{author("fail", "reject", "none")}, "accept: "},
		{"p=reject, held", dmarc(DMARCQuarantine), []mail.Finding{reject}, "quarantine: DMARC: not from x.org, which wants it refused"},
		{"p=reject, marked", dmarc(DMARCTag), []mail.Finding{reject}, "accept: DMARC: not from x.org"},
		{"p=reject, ignored", dmarc(DMARCIgnore), []mail.Finding{reject}, "accept: "},
		{"nobody can tell", nil, []mail.Finding{unknown}, "451 4.7.1 Whether this message is from its author can't be told now; please try again later: DMARC: nobody could tell whether it is from x.org"},
		{"nobody can tell, p=none", nil, []mail.Finding{author("temperror", "none", "none")}, "accept: "},
		{"nobody can tell, let go on", func(c *Config) { c.Policy.DMARCTempError = PutOffContinue }, []mail.Finding{unknown}, "accept: "},
		{"nobody can tell, ignored", dmarc(DMARCIgnore), []mail.Finding{unknown}, "accept: "},
		{"nobody can tell, marked", dmarc(DMARCTag), []mail.Finding{unknown}, "accept: "},
		{"of no author", nil, []mail.Finding{{Name: mail.FindingDMARC, Value: "permerror", Text: "policy.applied=none"}, odd}, "accept: "},
		{"of no author, held", func(c *Config) { c.Policy.MalformedFrom = FromQuarantine }, []mail.Finding{odd}, "quarantine: From is several"},
		{"of no author, refused", func(c *Config) { c.Policy.MalformedFrom = FromReject }, []mail.Finding{odd}, "550 5.7.1 Message refused: it has no one clear author (From is several): From is several"},
		{"shown as another", func(c *Config) { c.Policy.MalformedFrom = FromReject }, []mail.Finding{{Name: mail.FindingFrom, Value: "display"}}, "accept: "},
		{"held for two reasons", nil, []mail.Finding{hold, {Name: "x", Score: 11}}, "quarantine: spam score 11.0 reaches quarantine 10.0; DMARC: not from x.org, which wants it held"},
		{"a virus decides alone", nil, []mail.Finding{unknown, {Name: mail.FindingVirus, Value: "Eicar"}}, "554 5.7.1 Message refused: virus found: Eicar: virus Eicar"},
		{"another limit for bob", func(c *Config) {
			c.Policy.For = map[string]Limits{"bob@example.com": {DMARC: DMARCQuarantine}}
		}, []mail.Finding{reject}, `quarantine: DMARC: not from x.org, which wants it refused for "bob@example.com"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := reputationSet(t, "", tt.change).Decide(at(mail.StageMessage, tt.found...), nil)
			got := v.Action.String()
			if v.Reply.Code != 0 {
				got = v.Reply.String()
			}
			if got += ": " + v.Reason; got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestSPFFail(t *testing.T) {
	fail := mail.Finding{Name: mail.FindingSPF, Value: "fail", Text: "smtp.mailfrom=x.org"}
	refuse := func(c *Config) { c.Policy.SPFFail = SPFReject }
	for _, tt := range []struct {
		name   string
		change func(*Config)
		access string
		rcpt   string
		found  mail.Finding
		want   string
	}{
		{"by default", nil, "", "bob", fail, "accept"},
		{"refused", refuse, "", "bob", fail, "550 5.7.23 SPF of x.org does not allow this client to send in its name"},
		{"of HELO", refuse, "", "bob", mail.Finding{Name: mail.FindingSPF, Value: "fail", Text: "smtp.helo=x.org"}, "550 5.7.23"},
		{"softfail", refuse, "", "bob", mail.Finding{Name: mail.FindingSPF, Value: "softfail", Text: "smtp.mailfrom=x.org"}, "accept"},
		{"temperror", refuse, "", "bob", mail.Finding{Name: mail.FindingSPF, Value: "temperror", Text: "smtp.mailfrom=x.org"}, "accept"},
		{"to postmaster", refuse, "", "postmaster", fail, "accept"},
		{"to abuse", refuse, "", "abuse", fail, "accept"},
		{"the access map says OK", refuse, "Connect:203.0.113\tOK\n", "bob", fail, "accept"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			to := &mail.Path{Address: mail.Address{Local: tt.rcpt, Domain: "example.com"}}
			v := reputationSet(t, tt.access, tt.change).Decide(at(mail.StageRcpt, tt.found), to)
			got := v.Action.String()
			if v.Reply.Code != 0 {
				got = v.Reply.String()
			}
			if !strings.HasPrefix(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestAuthenticationResults(t *testing.T) {
	found := func(name, value, text string) mail.Finding {
		return mail.Finding{Name: name, Value: value, Text: text}
	}
	for _, tt := range []struct {
		name  string
		found []mail.Finding
		want  string
	}{
		{"nobody looked", []mail.Finding{found("virus", "x", "")}, ""},
		{"in one order", []mail.Finding{
			found("dmarc", "pass", "header.from=a.test policy.published=reject"), found("dkim", "pass", "header.d=a.test header.s=s1 header.b=ab+/cd=="),
			found("arc", "pass", "policy.sealer=l.test"), found("dkim", "fail", "header.d=b.test"), found("spf", "none", ""), found("iprev", "pass", "policy.iprev=2001:db8::1"),
		}, `mx1.example.com; iprev=pass policy.iprev="2001:db8::1"; spf=none; dkim=pass header.d=a.test header.s=s1 header.b="ab+/cd=="; dkim=fail header.d=b.test; arc=pass policy.sealer=l.test; dmarc=pass header.from=a.test policy.published=reject`},
		{"AR-1 a word that is none", []mail.Finding{found("spf", "pass; dmarc=pass", ""), found("arc", "", "")}, ""},
		{"D4 AR-1 properties", []mail.Finding{found("dkim", "fail", `header.d=a;dmarc=pass header.s=a"b header.a=(x) header.b=a\ header.i=`)}, "mx1.example.com; dkim=fail"},
		{"D4 names of properties", []mail.Finding{found("dkim", "fail", "x;y.z=1 .a=1 b.=1 c=1 header.d=ok")}, "mx1.example.com; dkim=fail header.d=ok"},
		{"controls", []mail.Finding{found("dkim", "fail", "header.d=a\x00b header.s=ok\r\nX-Evil: header.a=1")}, "mx1.example.com; dkim=fail header.s=ok header.a=1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := reputationSet(t, "", nil).authResults(tt.found); got != tt.want {
				t.Errorf("\n%s, want\n%s", got, tt.want)
			}
		})
	}
}

// The field is there whatever becomes of a message that is kept, and the mark of
// policy.dmarc = "tag" with it.
func TestAuthenticationFields(t *testing.T) {
	fields := func(change func(*Config), found ...mail.Finding) string {
		var names []string
		for _, e := range reputationSet(t, "", change).Decide(at(mail.StageMessage, found...), nil).Edits {
			names = append(names, e.(mail.InsertHeader).Field.Name())
		}
		return strings.Join(names, " ")
	}
	if got := fields(nil, author("pass", "", "none")); got != "Authentication-Results" {
		t.Errorf("delivered: %s", got)
	}
	if got := fields(nil, author("fail", "quarantine", "quarantine")); got != "Authentication-Results" {
		t.Errorf("held: %s", got)
	}
	if got := fields(func(c *Config) { c.Policy.DMARC = DMARCTag }, author("fail", "reject", "reject")); got != "Authentication-Results X-Gatepost-Forged" {
		t.Errorf("marked: %s", got)
	}
}

// Customers of a provider that sends for many, by what filters/auth has found.
func TestTenantsByFindings(t *testing.T) {
	proof := func(name, value, text string) mail.Finding {
		return mail.Finding{Name: name, Value: value, Text: text}
	}
	for _, tt := range []struct {
		name  string
		kind  string
		found []mail.Finding
		want  string
	}{
		{"signed", "dkim", []mail.Finding{proof("dkim", "fail", "header.d=ours.test"), proof("dkim", "pass", "header.d=ours.test")}, "accept"},
		{"signed by another", "dkim", []mail.Finding{proof("dkim", "pass", "header.d=other.test")}, "550"},
		{"signature broken", "dkim", []mail.Finding{proof("dkim", "fail", "header.d=ours.test")}, "550"},
		{"nobody can tell", "dkim", []mail.Finding{proof("dkim", "temperror", "header.d=ours.test")}, "451"},
		{"nobody can tell about another", "dkim", []mail.Finding{proof("dkim", "temperror", "header.d=other.test")}, "550"},
		{"nobody looked", "dkim", nil, "550"},
		{"sealed", "arc", []mail.Finding{proof("arc", "pass", "policy.sealer=ours.test")}, "accept"},
		{"sealed by another", "arc", []mail.Finding{proof("arc", "pass", "policy.sealer=other.test")}, "550"},
		{"chain broken", "arc", []mail.Finding{proof("arc", "fail", "")}, "550"},
		{"chain can't be told", "arc", []mail.Finding{proof("arc", "temperror", "")}, "451"},
		{"signed, not sealed", "arc", []mail.Finding{proof("dkim", "pass", "header.d=ours.test")}, "550"},
	} {
		t.Run(tt.kind+" "+tt.name, func(t *testing.T) {
			s := reputationSet(t, "", func(c *Config) {
				one := Tenant{Networks: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}}
				if tt.kind == "dkim" {
					one.DKIM = []string{"Ours.test"}
				} else {
					one.ARC = []string{"ours.test"}
				}
				c.Relay.Tenant, c.Verifies = map[string]Tenant{"one": one}, true
			})
			tx := at(mail.StageMessage, tt.found...)
			tx.Envelope.Recipients[0].Domain = "elsewhere.test"
			v := s.Decide(tx, nil)
			got := v.Action.String()
			if v.Reply.Code != 0 {
				got = v.Reply.String()
			}
			if !strings.HasPrefix(got, tt.want) {
				t.Errorf("%q (%s), want %q", got, v.Reason, tt.want)
			}
		})
	}
}
