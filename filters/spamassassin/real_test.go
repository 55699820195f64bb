package spamassassin

import (
	"strings"
	"testing"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/testkit"
)

// What a real spamd says, over both sockets.
func TestRealSpamd(t *testing.T) {
	if testing.Short() {
		t.Skip("starts spamd")
	}
	d := testkit.Up(t, testkit.NewSpamd(testkit.Dir(t),
		"header   H_ENVELOPE EnvelopeFrom =~ /^sender\\@sender\\.example$/",
		"score    H_ENVELOPE 0.101",
		"header   H_RELAY X-Spam-Relays-External =~ /^\\[ ip=192\\.0\\.2\\.7 rdns=client\\.example helo=helo\\.example by=mx1\\.example\\.com /",
		"score    H_RELAY 0.102",
		"full     H_TAIL /the very end/",
		"score    H_TAIL 7",
		"header   H_FORGED ALL =~ /forged\\.example/",
		"score    H_FORGED 0.103",
	))
	clean := string(testkit.Message("1", "hello", "hello, this is a letter"))
	// Received now, as the messages are dated now: SpamAssassin compares.
	now := time.Now()
	received := "Received: from helo.example (client.example [192.0.2.7]) by mx1.example.com (Gatepost) with ESMTP id T1; " +
		now.UTC().Format(time.RFC1123Z) + "\r\n"
	long := received + string(testkit.Message("1", "long", testkit.Filler(300<<10)+"the very end"))
	milter := func(tx *mail.Transaction) { tx.Session.Via = mail.ViaMilter }
	tests := []struct {
		name    string
		cfg     Config
		text    string
		change  func(*mail.Transaction)
		atLeast float64
		below   float64
		has     []string // rules
		not     []string
		partial string
	}{
		{name: "clean, proxy", text: received + clean, atLeast: -5, below: 5, has: []string{"H_ENVELOPE", "H_RELAY"}, not: []string{"NO_RECEIVED", "NO_RELAYS", "UNPARSEABLE_RELAY"}},
		{name: "clean, milter", text: clean, change: milter, atLeast: -5, below: 5, has: []string{"H_ENVELOPE", "H_RELAY"}, not: []string{"NO_RECEIVED", "NO_RELAYS", "UNPARSEABLE_RELAY"}},
		{name: "forged envelope", text: received + "X-Envelope-From: <a@forged.example>\r\n" + clean, atLeast: -5, below: 5, has: []string{"H_ENVELOPE"}, not: []string{"H_FORGED"}},
		{name: "GTUBE", text: received + string(testkit.Message("1", "spam", testkit.GTUBE())), atLeast: 999, below: 1100, has: []string{"GTUBE"}},
		{name: "without a last line end", text: received + strings.TrimSuffix(clean, "\r\n"), atLeast: -5, below: 5},
		{name: "whole", cfg: Config{MaxSize: 1 << 20}, text: long, atLeast: 5, below: 12, has: []string{"H_TAIL"}},
		{name: "above max_size", cfg: Config{MaxSize: 100_000}, text: long, atLeast: -5, below: 5, has: []string{"H_RELAY"}, not: []string{"H_TAIL"}, partial: "100000 of "},
	}
	for _, tt := range tests {
		for _, address := range []string{"unix:" + d.Socket, "tcp:" + d.Addr} {
			t.Run(tt.name+", "+address[:4], func(t *testing.T) {
				tx := message(t, tt.text)
				tx.Start = now
				if tt.change != nil {
					tt.change(tx)
				}
				tt.cfg.Hostname, tt.cfg.Timeout = "mx1.example.com", time.Minute
				start := time.Now()
				r, err := judge(t, tt.cfg, address).Check(t.Context(), tx)
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("%s in %v", verdict(r, err), time.Since(start))
				tx.Findings = r.Findings
				if s := tx.Score(); s < tt.atLeast || s >= tt.below {
					t.Errorf("score = %v, want from %v to %v", s, tt.atLeast, tt.below)
				}
				rules := make(map[string]bool)
				for _, f := range tx.Find(mail.FindingSpamRule) {
					rules[f.Value] = true
				}
				for _, name := range tt.has {
					if !rules[name] {
						t.Errorf("rule %s is missing", name)
					}
				}
				for _, name := range tt.not {
					if rules[name] {
						t.Errorf("rule %s was hit", name)
					}
				}
				partial := tx.Find(mail.FindingPartial)
				if (tt.partial != "") != (len(partial) == 1) || len(partial) == 1 && !strings.HasPrefix(partial[0].Value, tt.partial) {
					t.Errorf("partial = %v, want %q", partial, tt.partial)
				}
			})
		}
	}
	f := judge(t, Config{}, "unix:"+d.Socket)
	if err := f.Ping(t.Context()); err != nil {
		t.Errorf("ping: %v", err)
	}
	if err := d.Stop(); err != nil {
		t.Fatal(err)
	}
	if got := check(t, f, message(t, clean)); got != "error" {
		t.Errorf("spamd away: %s", got)
	}
	if err := f.Ping(t.Context()); err == nil {
		t.Error("spamd away: ping is answered")
	}
}
