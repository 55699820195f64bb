package rewrite

import (
	"context"
	"strings"
	"testing"

	"gatepost/internal/mail"
)

// judge answers with what it is given, and remembers what it saw.
type judge struct {
	mail.Handler
	rcpt, message mail.Verdict
	saw           string
}

func (j *judge) Rcpt(context.Context, *mail.Transaction, mail.Path) mail.Verdict { return j.rcpt }

func (j *judge) Message(_ context.Context, tx *mail.Transaction) mail.Verdict {
	j.saw = string(tx.Message.Header.Bytes())
	tx.Findings = append(tx.Findings, mail.Finding{Filter: "judge"})
	return j.message
}

func transaction(t testing.TB, role string, rcpts ...string) *mail.Transaction {
	t.Helper()
	const text = "Received: by us\r\nFrom: u@pc.example.com\r\nTo: x@far.example\r\n\r\nbody\r\n"
	m, err := mail.ReadMessage(strings.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	tx := &mail.Transaction{Stage: mail.StageMessage, Session: &mail.Session{Via: mail.ViaSMTP, Role: role}, Message: m}
	tx.Envelope.Sender = mail.Path{Address: address(t, "u@pc.example.com")}
	for _, r := range rcpts {
		tx.Envelope.Recipients = append(tx.Envelope.Recipients, mail.Path{Address: address(t, r)})
	}
	return tx
}

func field(t testing.TB, raw string) mail.Field {
	t.Helper()
	f, ok := mail.RawField(raw + "\r\n")
	if !ok {
		t.Fatal(raw)
	}
	return f
}

func everywhere(mail.Address) bool { return true }

func TestOutgoing(t *testing.T) {
	r := load(t, Config{MasqueradeAs: "example.com", MasqueradeDomains: []string{".example.com"}, MasqueradeEnvelope: true})
	const rewritten = "Received: by us\r\nFrom: u@example.com\r\nTo: x@far.example\r\n"
	for _, tt := range []struct {
		name, role string
		theirs     []mail.Edit
		saw, want  string
		sender     string
	}{
		{"a relay", "relay", nil, rewritten, rewritten, "u@example.com"},
		{"signed", "submission", []mail.Edit{mail.InsertHeader{At: 0, Field: field(t, "DKIM-Signature: x")}}, rewritten, "DKIM-Signature: x\r\n" + rewritten, "u@example.com"},
		{"changed by a filter, too", "submissions", []mail.Edit{mail.ChangeHeader{At: 1, Field: field(t, "From: v@example.com")}}, rewritten,
			"Received: by us\r\nFrom: v@example.com\r\nTo: x@far.example\r\n", "u@example.com"},
		{"another sender by a filter", "relay", []mail.Edit{mail.ChangeSender{Sender: mail.Path{Address: address(t, "srs@example.com")}}}, rewritten, rewritten, "srs@example.com"},
		{"on the way in", "mx", nil, "Received: by us\r\nFrom: u@pc.example.com\r\nTo: x@far.example\r\n",
			"Received: by us\r\nFrom: u@pc.example.com\r\nTo: x@far.example\r\n", "u@pc.example.com"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			next := &judge{message: mail.Verdict{Edits: tt.theirs}}
			tx := transaction(t, tt.role, "x@far.example")
			v := r.Handler(next, everywhere).Message(t.Context(), tx)
			env, m := mail.Apply(tx.Envelope, tx.Message, v.Edits)
			if next.saw != tt.saw || string(m.Header.Bytes()) != tt.want || env.Sender.String() != tt.sender {
				t.Errorf("saw %q, sender %s, became\n%q, want\n%q", next.saw, env.Sender, m.Header.Bytes(), tt.want)
			}
			if len(tx.Findings) != 1 {
				t.Errorf("findings: %v", tx.Findings)
			}
		})
	}
}

func TestIncoming(t *testing.T) {
	r := load(t, Config{
		Virtusertable: file(t, "info@virt.example a@in.example\nno@virt.example error:nouser 550 No such user\nlost@virt.example x@nowhere.example\n"), VirtualDomains: []string{"virt.example"},
		Aliases: file(t, "team: a, b\n"), AliasDomains: []string{"in.example"},
	})
	routed := func(a mail.Address) bool { return a.Domain == "in.example" }
	next := &judge{rcpt: mail.Verdict{Action: mail.Accept}}
	h := r.Handler(next, routed)
	for rcpt, want := range map[string]string{"info@virt.example": "", "no@virt.example": "550 5.1.1 No such user", "lost@virt.example": "451 4.3.5"} {
		v := h.Rcpt(t.Context(), transaction(t, "mx"), mail.Path{Address: address(t, rcpt)})
		if want == "" && v.Action != mail.Accept || want != "" && !strings.HasPrefix(v.Reply.String(), want) {
			t.Errorf("%s: %v %s, want %q", rcpt, v.Action, v.Reply, want)
		}
	}

	list := func(env mail.Envelope) string {
		var out []string
		for _, p := range env.Recipients {
			out = append(out, strings.Join(append([]string{p.String()}, p.Args...), " "))
		}
		return strings.Join(out, ", ")
	}
	tx := transaction(t, "mx", "info@virt.example", "c@in.example", "team@in.example")
	v := h.Message(t.Context(), tx)
	env, _ := mail.Apply(tx.Envelope, tx.Message, v.Edits)
	want := "c@in.example, a@in.example ORCPT=rfc822;info@virt.example, a@in.example ORCPT=rfc822;team@in.example, b@in.example ORCPT=rfc822;team@in.example"
	if got := list(env); got != want {
		t.Errorf("recipients\n%s, want\n%s", got, want)
	}

	next.message = mail.Verdict{Action: mail.Quarantine, Recipients: []mail.Verdict{{}, {Action: mail.Quarantine}, {}}}
	v = h.Message(t.Context(), tx)
	for i, want := range []string{"a@in.example ORCPT=rfc822;info@virt.example", "c@in.example", "a@in.example ORCPT=rfc822;team@in.example, b@in.example ORCPT=rfc822;team@in.example"} {
		part := mail.Envelope{Sender: tx.Envelope.Sender, Recipients: tx.Envelope.Recipients[i : i+1]}
		part, _ = mail.Apply(part, tx.Message, v.For(i).Edits)
		if got := list(part); got != want {
			t.Errorf("recipient %d: %s, want %s", i, got, want)
		}
	}
}
