package web

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"gatepost/internal/mail"
)

// deeds are what was done with held messages.
type deeds struct{ all []string }

func (d *deeds) note(what, id string, of []mail.Address) {
	var to []string
	for _, a := range of {
		to = append(to, a.String())
	}
	d.all = append(d.all, strings.TrimSpace(fmt.Sprintf("%s %s %s", what, strings.TrimLeft(id, "0"), strings.Join(to, ","))))
}

func (d *deeds) ReleaseTo(_ context.Context, id string, to []mail.Address) (string, error) {
	d.note("release", id, to)
	return id, nil
}

func (d *deeds) Withdraw(_ context.Context, id string, of []mail.Address) error {
	d.note("delete", id, of)
	return nil
}

func (d *deeds) Learn(_ context.Context, id, lesson string) error {
	d.note("learn "+lesson, id, nil)
	return nil
}

func (d *deeds) List(_ context.Context, id string, of []mail.Address, allow bool, _ string, _ time.Duration) error {
	what := "block"
	if allow {
		what = "allow"
	}
	d.note(what, id, of)
	return nil
}

func TestQuarantine(t *testing.T) {
	held := &deeds{}
	l := newLetters("Subject: a\n\n", "Subject: b\n\n", "Subject: c\n\n")
	l.all[2].Kind = mail.HeldVirus
	b := over(t, l, held)
	for _, tt := range []struct {
		name, who string
		form      url.Values
		code      int
		to        string // where it leads, or a part of the page
		done      string
	}{
		{"release of two", "alice", url.Values{"id": {idOf(0), idOf(1)}, "action": {"release"}, "back": {"/quarantine?kind=spam"}}, 303, "/quarantine?kind=spam", "release  bob@example.com,eve@other.example release 1 bob@example.com,eve@other.example"},
		{"release to one", "alice", url.Values{"id": {idOf(1)}, "named": {"yes"}, "rcpt": {"bob@example.com"}, "action": {"release"}, "back": {"/quarantine/" + idOf(1)}}, 303, "/quarantine", "release 1 bob@example.com"},
		{"release to nobody", "alice", url.Values{"id": {idOf(1)}, "named": {"yes"}, "action": {"release"}}, 400, "No recipient was chosen", ""},
		{"release to a stranger", "alice", url.Values{"id": {idOf(1)}, "rcpt": {"mallory@example.net"}, "action": {"release"}}, 400, "is not held for mallory@example.net", ""},
		{"a helpdesk releases to its own", "hal", url.Values{"id": {idOf(1)}, "action": {"release"}}, 303, "/", "release 1 bob@example.com"},
		{"and not to others", "hal", url.Values{"id": {idOf(1)}, "rcpt": {"eve@other.example"}, "action": {"release"}}, 400, "is not held for eve@other.example", ""},
		{"a virus without approval", "alice", url.Values{"id": {idOf(2)}, "action": {"release"}}, 400, "with an approval", ""},
		{"a virus with approval", "alice", url.Values{"id": {idOf(2)}, "action": {"release"}, "approve": {"a sample"}}, 303, "/", "release 2 bob@example.com,eve@other.example"},
		{"a virus by a helpdesk", "hal", url.Values{"id": {idOf(2)}, "action": {"release"}, "approve": {"please"}}, 400, "who may approve", ""},
		{"delete is asked for once more", "alice", url.Values{"id": {idOf(0)}, "action": {"delete"}, "back": {"/quarantine"}}, 303, "/quarantine/sure?back=%2Fquarantine&id=" + idOf(0), ""},
		{"delete", "alice", url.Values{"id": {idOf(0)}, "rcpt": {"bob@example.com"}, "action": {"delete"}, "sure": {"yes"}, "back": {"/quarantine"}}, 303, "/quarantine", "delete  bob@example.com"},
		{"learn", "hal", url.Values{"id": {idOf(1)}, "rcpt": {"bob@example.com"}, "action": {"learn-ham"}}, 303, "/", "learn ham 1"},
		{"block", "alice", url.Values{"id": {idOf(1)}, "rcpt": {"bob@example.com"}, "action": {"block"}, "back": {"/quarantine/" + idOf(1)}}, 303, "/quarantine/" + idOf(1), "block 1 bob@example.com"},
		{"another site as the way back", "alice", url.Values{"id": {idOf(1)}, "action": {"learn-spam"}, "back": {"//evil.example"}}, 303, "/", "learn spam 1"},
		{"a viewer", "bob", url.Values{"id": {idOf(1)}, "action": {"release"}}, 403, "may not", ""},
		{"nothing chosen", "alice", url.Values{"action": {"release"}}, 400, "No message was chosen", ""},
		{"no such action", "alice", url.Values{"id": {idOf(1)}, "action": {"explode"}}, 400, "no action", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b.login(tt.who)
			held.all = nil
			tt.form.Set("token", b.token())
			code, body, h := b.post("/quarantine/act", tt.form)
			if code != tt.code || code == 303 && h.Get("Location") != tt.to || code != 303 && !strings.Contains(body, tt.to) {
				t.Errorf("%d to %q, want %d %q\n%s", code, h.Get("Location"), tt.code, tt.to, body)
			}
			if got := strings.Join(held.all, " "); got != tt.done {
				t.Errorf("did %q, want %q", got, tt.done)
			}
		})
	}
	for _, path := range []string{"/quarantine", "/quarantine/" + idOf(2), "/quarantine/sure?id=" + idOf(0), "/quarantine?kind=spam"} {
		for _, who := range []string{"alice", "hal", "bob"} {
			b.login(who)
			code, body, _ := b.get(path)
			if mayNot := who == "bob" && strings.Contains(path, "sure"); (code == http.StatusForbidden) != mayNot {
				t.Errorf("%s, %s: %d", who, path, code)
			}
			if strings.Contains(body, "<script") || strings.Contains(body, "<img") {
				t.Errorf("%s: not escaped: %s", path, body)
			}
			if who == "hal" && strings.Contains(body, "eve@other.example") {
				t.Errorf("%s shows other people's recipients: %s", path, body)
			}
			if who == "bob" && strings.Contains(body, `name="action"`) {
				t.Errorf("%s shows a viewer buttons", path)
			}
		}
	}
}
