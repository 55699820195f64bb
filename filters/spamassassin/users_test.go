package spamassassin

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/filters/filtertest"
	"gatepost/internal/mail"
)

func rcpts(addresses ...string) (list []mail.Path) {
	for _, a := range addresses {
		at := strings.LastIndexByte(a, '@')
		list = append(list, mail.Path{Address: mail.Address{Local: a[:at], Domain: a[at+1:]}})
	}
	return list
}

// Whose preferences are asked for.
func TestUsers(t *testing.T) {
	const a, b, c = "Anna+lists@Example.com", "bert@example.com", "carl@example.org"
	many := make([]string, 30)
	for i := range many {
		many[i] = fmt.Sprintf("u%d@example.com", i)
	}
	tests := []struct {
		name string
		cfg  Config
		to   []string
		want string // users, and for how many
	}{
		{"spamd's own", Config{}, []string{a, b}, ":2"},
		{"a name", Config{User: "filter"}, []string{a, b}, "filter:2"},
		{"local part", Config{User: "local-part"}, []string{a}, "anna:1"},
		{"domain", Config{User: "domain"}, []string{a, b}, "example.com:2"},
		{"recipient", Config{User: "recipient"}, []string{a}, "anna@example.com:1"},
		{"the same twice", Config{User: "local-part"}, []string{b, b}, "bert:2"},
		{"several", Config{User: "local-part"}, []string{a, b}, ":2"},
		{"several, with a default", Config{User: "local-part", DefaultUser: "all"}, []string{a, b}, "all:2"},
		{"several domains", Config{User: "domain", DefaultUser: "all"}, []string{b, c}, "all:2"},
		{"each", Config{User: "local-part", PerRecipient: All}, []string{a, b, c, b}, "anna:1 bert:2 carl:1"},
		{"each domain", Config{User: "domain", PerRecipient: All}, []string{a, b, c}, "example.com:2 example.org:1"},
		{"too many", Config{User: "local-part", PerRecipient: All, MaxUsers: 2, DefaultUser: "all"}, many, "u0:1 u1:1 all:28"},
		{"nobody", Config{User: "local-part"}, nil, ":0"},
		{"P3 odd local part", Config{User: "local-part", DefaultUser: "all"}, []string{"a\"b c@example.com"}, "all:1"},
		{"P3 the directory above", Config{User: "local-part", DefaultUser: "all"}, []string{"..@example.com"}, "all:1"},
		{"P3 slash", Config{User: "local-part", DefaultUser: "all"}, []string{`a/b@example.com`}, "all:1"},
		{"P3 apostrophe", Config{User: "recipient", DefaultUser: "all"}, []string{`o'neil@example.com`}, "all:1"},
		{"P3 long", Config{User: "local-part", DefaultUser: "all"}, []string{strings.Repeat("a", 64) + "@example.com"}, strings.Repeat("a", 64) + ":1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := judge(t, tt.cfg, "tcp:127.0.0.1:1")
			var got []string
			for _, q := range f.questions(&mail.Transaction{Envelope: mail.Envelope{Recipients: rcpts(tt.to...)}}) {
				got = append(got, fmt.Sprintf("%s:%d", q.user, len(q.rcpts)))
			}
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("asked for %q, want %q", s, tt.want)
			}
		})
	}
}

// Each user has a score of his own; that of the message is the highest.
func TestEachUsersScore(t *testing.T) {
	fake := (&fakeSpamd{byUser: map[string]string{
		"anna": says("False ; 1.5 / 5.0", ""), "bert": says("True ; 7.3 / 5.0", report), "carl": says("False ; -4.2 / 5.0", ""),
	}}).start(t, "tcp")
	tx := message(t, plain)
	tx.Envelope.Recipients = rcpts("anna@example.com", "bert@example.com", "carl@example.com", "bert@example.org")
	r, err := judge(t, Config{User: "local-part", PerRecipient: All}, fake.address).Check(t.Context(), tx)
	if err != nil {
		t.Fatal(err)
	}
	var own []string
	for _, f := range r.Findings {
		if f.Name == mail.FindingScoreFor {
			own = append(own, f.Rcpt.String()+"="+f.Value)
		}
	}
	if want := []string{"anna@example.com=1.5", "bert@example.com=7.3", "bert@example.org=7.3", "carl@example.com=-4.2"}; !slices.Equal(own, want) {
		t.Errorf("own scores %q, want %q", own, want)
	}
	tx.Findings = r.Findings
	if tx.Score() != 7.3 {
		t.Errorf("score = %v, want the highest", tx.Score())
	}
	if rules := tx.Find(mail.FindingSpamRule); len(rules) == 0 {
		t.Error("no rules of the question with the highest score")
	}
	fake.mu.Lock()
	defer fake.mu.Unlock()
	if len(fake.all) != 3 {
		t.Errorf("%d questions, want 3", len(fake.all))
	}
	if strings.Count(fake.content, "X-Envelope-To") != 1 {
		t.Errorf("a user's question names others: %q", fake.content)
	}
}

// One user who can't be judged is a message that can't.
func TestOneUserFails(t *testing.T) {
	fake := (&fakeSpamd{byUser: map[string]string{"anna": says("False ; 1.5 / 5.0", ""), "bert": "SPAMD/1.0 79 Timeout: ()\r\n\r\n"}}).start(t, "tcp")
	tx := message(t, plain)
	tx.Envelope.Recipients = rcpts("anna@example.com", "bert@example.com")
	if got := check(t, judge(t, Config{User: "local-part", PerRecipient: All}, fake.address), tx); got != "error" {
		t.Errorf("got %s", got)
	}
}

// E.2: 512000 octets are judged, one more is what oversize says.
func TestOversize(t *testing.T) {
	fake := (&fakeSpamd{reply: says("False ; 1 / 5", "")}).start(t, "tcp")
	head := "From: a\r\n\r\n"
	for _, tt := range []struct {
		over int
		how  Oversize
		want string
	}{
		{0, Skip, "score 1 / 5"},
		{1, Skip, "partial unscanned: size 512001 bytes, max_size is 512000"},
		{1, Partial, "score 1 / 5; partial 512000 of 512001 bytes larger than max_size"},
	} {
		text := head + strings.Repeat("x", 512000-len(head)+tt.over)
		if got := check(t, judge(t, Config{Oversize: tt.how}, fake.address), message(t, text)); got != tt.want {
			t.Errorf("%d over, %s: %s, want %s", tt.over, tt.how, got, tt.want)
		}
	}
}

// E.3: scores are decimals, whatever the bits say. 14.96 comes as 15.0.
func TestDecimals(t *testing.T) {
	for spam, want := range map[string]float64{"True ; 15.0 / 5.0": 15, "True ; 14.9 / 5.0": 14.9, "True ; 1000.0 / 5.0": 1000, "False ; -4.2 / 5.0": -4.2} {
		fake := (&fakeSpamd{reply: says(spam, "")}).start(t, "tcp")
		r, err := judge(t, Config{}, fake.address).Check(t.Context(), message(t, plain))
		if err != nil || math.Abs(r.Findings[0].Score-want) > 1e-9 || (r.Findings[0].Score >= 15) != (want >= 15) {
			t.Errorf("%s: %v, %v", spam, r.Findings, err)
		}
	}
}

// The report is kept for people, whatever stands in it.
func TestReportText(t *testing.T) {
	body := "Spam detection software\x1b[2J\r\n\r\n" + report + strings.Repeat("x", 20<<10)
	fake := (&fakeSpamd{reply: says("True ; 7.3 / 5.0", body)}).start(t, "tcp")
	r, err := judge(t, Config{}, fake.address).Check(t.Context(), message(t, plain))
	if err != nil {
		t.Fatal(err)
	}
	last := r.Findings[len(r.Findings)-1]
	if last.Name != mail.FindingReport || last.Score != 0 || !strings.HasPrefix(last.Text, "Spam detection software [2J\n") || len(last.Text) > maxText+10 {
		t.Errorf("report %+.300v", last)
	}
}

func TestContract(t *testing.T) {
	with := func(f func() *fakeSpamd) func(t *testing.T) filters.Step {
		return func(t *testing.T) filters.Step {
			return judge(t, Config{Timeout: 30 * time.Second}, f().start(t, "tcp").address).Step()
		}
	}
	filtertest.Run(t, filtertest.Subject{
		New:    with(func() *fakeSpamd { return &fakeSpamd{reply: says("True ; 15.3 / 5.0", report)} }),
		Silent: with(func() *fakeSpamd { return &fakeSpamd{silent: true} }),
		Broken: map[string]func(t *testing.T) filters.Step{
			"nobody there": func(t *testing.T) filters.Step { return judge(t, Config{}, "tcp:127.0.0.1:1").Step() },
			"hangs up":     with(func() *fakeSpamd { return &fakeSpamd{} }),
			"nonsense":     with(func() *fakeSpamd { return &fakeSpamd{reply: says("False ; nan / 5", "")} }),
			"timeout":      with(func() *fakeSpamd { return &fakeSpamd{reply: "SPAMD/1.0 79 Timeout: (300 second timeout)\r\n\r\n"} }),
		},
	})
}
