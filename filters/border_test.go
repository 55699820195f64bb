package filters

import (
	"context"
	"strings"
	"testing"

	"gatepost/internal/mail"
)

// H2: what a stranger writes in our name.
func TestForgedHeaders(t *testing.T) {
	tests := []struct {
		name, field string
		forged      bool
	}{
		{name: "spam flag", field: "X-Spam-Flag: NO", forged: true},
		{name: "upper case", field: "X-SPAM-STATUS: No", forged: true},
		{name: "blank before the colon", field: "X-Spam-Score : 0", forged: true},
		{name: "tab before the colon", field: "X-Spam-Level\t: ", forged: true},
		{name: "folded", field: "X-Spam-Status:\n No,\n score=0", forged: true},
		{name: "rspamd's", field: "X-Spam: no", forged: true},
		{name: "virus", field: "x-virus-scanned: clean", forged: true},
		{name: "ours", field: "X-Gatepost-ID: 1", forged: true},
		{name: "amavis quarantine", field: "X-Quarantine-ID: <1>", forged: true},
		{name: "another name", field: "X-Spamity: 1"},
		{name: "another name with the same beginning", field: "X-Viruses: 0"},
		{name: "the name in a value", field: "Subject: X-Spam-Flag: NO"},
		{name: "received", field: "Received: from x by mx1.example.com; Sat, 21 Nov 2026 10:00:00 +0000"},

		{name: "a-r of ours", field: "Authentication-Results: mx1.example.com; dmarc=pass", forged: true},
		{name: "a-r blank before the colon", field: "Authentication-Results : mx1.example.com; dmarc=pass", forged: true},
		{name: "a-r upper case", field: "AUTHENTICATION-RESULTS: MX1.EXAMPLE.COM; dmarc=pass", forged: true},
		{name: "a-r without blank", field: "Authentication-Results:mx1.example.com;dmarc=pass", forged: true},
		{name: "a-r folded", field: "Authentication-Results:\n\tmx1.example.com;\n\tdmarc=pass", forged: true},
		{name: "a-r quoted", field: `Authentication-Results: "mx1.example.com"; dmarc=pass`, forged: true},
		{name: "a-r quoted pair", field: `Authentication-Results: "mx1\.example.com"; dmarc=pass`, forged: true},
		{name: "a-r comment before", field: "Authentication-Results: (a (nested) \\) one) mx1.example.com; dmarc=pass", forged: true},
		{name: "a-r comment behind", field: "Authentication-Results: mx1.example.com (ours); dmarc=pass", forged: true},
		{name: "a-r version", field: "Authentication-Results: mx1.example.com 1; dmarc=pass", forged: true},
		{name: "a-r version in comments", field: "Authentication-Results: mx1.example.com (v) 1 (w); dmarc=pass", forged: true},
		{name: "a-r trailing dot", field: "Authentication-Results: mx1.example.com.; dmarc=pass", forged: true},
		{name: "a-r host below", field: "Authentication-Results: a.mx1.example.com; dmarc=pass", forged: true},
		{name: "a-r domain above", field: "Authentication-Results: example.com; dmarc=pass", forged: true},
		{name: "a-r no result", field: "Authentication-Results: mx1.example.com; none", forged: true},
		{name: "a-r id alone", field: "Authentication-Results: mx1.example.com", forged: true},
		{name: "a-r empty", field: "Authentication-Results:", forged: true},
		{name: "a-r unfinished comment", field: "Authentication-Results: (mx1.example.com; dmarc=pass", forged: true},
		{name: "a-r unfinished quote", field: `Authentication-Results: "mx1.example.com; dmarc=pass`, forged: true},
		{name: "a-r two words", field: "Authentication-Results: other.example mx1.example.com; dmarc=pass", forged: true},
		{name: "a-r encoded word", field: "Authentication-Results: =?utf-8?q?mx1.example.com?=; dmarc=pass", forged: true},
		{name: "SPF of ours", field: "Received-SPF: pass (MX1.example.com: domain of x) receiver=y", forged: true},
		{name: "SPF of ours, by name", field: "received-spf : Pass client-ip=192.0.2.1;\n receiver=mx1.example.com", forged: true},
		{name: "SPF of another", field: "Received-SPF: pass (mx.google.com: domain of x)"},
		{name: "a chain", field: "ARC-Authentication-Results: i=1; mx1.example.com; dmarc=pass"},

		{name: "a-r of another", field: "Authentication-Results: mx.google.com; dmarc=pass"},
		{name: "a-r of another, quoted", field: `Authentication-Results: "mx.google.com" 1; spf=pass`},
		{name: "a-r of a sibling", field: "Authentication-Results: mx2.example.com; dmarc=pass"},
		{name: "a-r of a longer name", field: "Authentication-Results: xmx1.example.com; dmarc=pass"},
		{name: "a-r with our name in a value", field: "Authentication-Results: mx.google.com; spf=pass smtp.helo=mx1.example.com"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			header := "Received: ours\n" + tt.field + "\nSubject: x\n"
			var seen string
			look := checkFunc(func(_ context.Context, tx *mail.Transaction) (Report, error) {
				seen = text(t, tx.Message)
				return Report{}, nil
			})
			b := newBench(t, Config{Hostname: "mx1.example.com"}, nil, Step{Name: "f", Filter: look})
			tx := message(header)
			v := b.message(t, tx)
			want := header + "\nbody\n"
			if tt.forged {
				want = "Received: ours\nSubject: x\n\nbody\n"
			}
			if seen != want {
				t.Errorf("the filter saw %q, want %q", seen, want)
			}
			if _, m := mail.Apply(tx.Envelope, tx.Message, v.Edits); text(t, m) != want {
				t.Errorf("what goes out: %q, want %q", text(t, m), want)
			}
			if got := text(t, tx.Message); got != header+"\nbody\n" {
				t.Errorf("the message as given was changed: %q", got)
			}
		})
	}
}

// The policy's edits name fields of the message without the forged ones; the
// verdict's name those of the message as given. Also per recipient.
func TestPolicyEditsBesideForgedHeaders(t *testing.T) {
	mark := func(at int, name string) mail.Edit {
		return mail.InsertHeader{At: at, Field: mail.NewField(name, "1")}
	}
	policy := &testPolicy{decide: func(tx *mail.Transaction, _ *mail.Path) mail.Verdict {
		end := len(tx.Message.Header)
		return mail.Verdict{
			Action:     mail.Quarantine,
			Edits:      []mail.Edit{mark(end, "X-Spam-Flag")},
			Recipients: []mail.Verdict{{Action: mail.Accept, Edits: []mail.Edit{mark(0, "X-Top"), mark(1, "X-Second")}}, {Action: mail.Quarantine}},
		}
	}}
	b := newBench(t, Config{}, policy)
	tx := message("X-Spam-Flag: NO\nFrom: a\nX-Spam-Flag: NO\nTo: b\nX-Spam-Flag: NO\n", "a", "b")
	v := b.message(t, tx)
	for _, tt := range []struct {
		name  string
		edits []mail.Edit
		want  string
	}{
		{name: "all", edits: v.Edits, want: "From: a\nTo: b\nX-Spam-Flag: 1\n\nbody\n"},
		{name: "first", edits: v.For(0).Edits, want: "X-Top: 1\nFrom: a\nX-Second: 1\nTo: b\n\nbody\n"},
		{name: "second", edits: v.For(1).Edits, want: "From: a\nTo: b\n\nbody\n"},
	} {
		if _, m := mail.Apply(tx.Envelope, tx.Message, tt.edits); text(t, m) != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, text(t, m), tt.want)
		}
	}
}

func FuzzAuthservID(f *testing.F) {
	for _, s := range []string{"", "mx1.example.com; none", `"mx1\.example.com" 1 (c); x`, "((a)\\)) b", "(", `"`, `"\`, "a 1 (", "\\", "a(b)1;"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, ok := authservID(s)
		if ok && id == "" {
			t.Errorf("%q has an empty id", s)
		}
		if ok && !strings.ContainsAny(s, `"(`) && !strings.Contains(s, id) {
			t.Errorf("%q: id %q is not in it", s, id)
		}
	})
}
