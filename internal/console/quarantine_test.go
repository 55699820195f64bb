package console

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"gatepost/internal/mail"
)

// heldLog is a HeldQueue that notes what was wanted.
type heldLog struct{ did []string }

func (h *heldLog) note(what, id string, of []mail.Address) {
	text := what + " " + id
	for _, a := range of {
		text += " " + a.String()
	}
	h.did = append(h.did, text)
}

func (h *heldLog) ReleaseTo(_ context.Context, id string, to []mail.Address) (string, error) {
	h.note("release", id, to)
	return id, nil
}

func (h *heldLog) Withdraw(_ context.Context, id string, of []mail.Address) error {
	h.note("delete", id, of)
	return nil
}

func (h *heldLog) Learn(_ context.Context, id, lesson string) error {
	h.note("learn "+lesson, id, nil)
	return nil
}

func (h *heldLog) List(_ context.Context, id string, of []mail.Address, allow bool, by string, _ time.Duration) error {
	h.note(fmt.Sprintf("list %v by %s", allow, by), id, of)
	return nil
}

// Who may do what with which recipients of held mail.
func TestHeldRights(t *testing.T) {
	const spam, infected, waits, free = 0, 1, 2, 3
	to := []Recipient{{Address: "u@example.com"}, {Address: "v@example.org"}}
	q := &memory{messages: []Message{
		spam: {Lane: Held, Kind: mail.HeldSpam, Recipients: to}, infected: {Lane: Held, Kind: mail.HeldVirus, Recipients: to},
		waits: {Lane: Held, Kind: mail.HeldUnscanned, Unscanned: "clamav", Recipients: to}, free: {Lane: Waiting, Recipients: to},
	}}
	for i := range q.messages {
		q.messages[i].ID = name(i)
	}
	helpdesk := Identity{Name: "carol", Role: Helpdesk, Domains: []string{"example.com"}}
	security := Identity{Name: "sam", Role: Security}
	tests := []struct {
		name string
		who  Identity
		verb HeldVerb
		id   int
		req  HeldRequest
		did  string
		says string
	}{
		{"to all of them", security, HeldRelease, spam, HeldRequest{}, "release %s u@example.com v@example.org", ""},
		{"to one of them", security, HeldRelease, spam, HeldRequest{Recipients: []string{"V@EXAMPLE.org"}}, "release %s v@example.org", ""},
		{"W7: to somebody else", security, HeldRelease, spam, HeldRequest{Recipients: []string{"u@example.com", "eve@example.com"}}, "", "not held for eve"},
		{"a helpdesk, for all: for its own", helpdesk, HeldRelease, spam, HeldRequest{}, "release %s u@example.com", ""},
		{"W5: a helpdesk, for another domain's", helpdesk, HeldDelete, spam, HeldRequest{Recipients: []string{"v@example.org"}}, "", "not held for v@"},
		{"a virus, without approval", security, HeldRelease, infected, HeldRequest{}, "", "with an approval"},
		{"a virus, approved", security, HeldRelease, infected, HeldRequest{Approve: "a test"}, "release %s u@example.com v@example.org", ""},
		{"a virus, by who may not approve", helpdesk, HeldRelease, infected, HeldRequest{Approve: "a test"}, "", "who may approve"},
		{"a virus can be deleted", helpdesk, HeldDelete, infected, HeldRequest{}, "delete %s u@example.com", ""},
		{"what no filter has judged", security, HeldRelease, waits, HeldRequest{}, "", "judgement of clamav"},
		{"what is not held", security, HeldRelease, free, HeldRequest{}, "", "is not held"},
		{"what is not there", security, HeldRelease, 9, HeldRequest{}, "", "no such message"},
		{"a lesson", helpdesk, HeldLearn, spam, HeldRequest{Lesson: "spam"}, "learn spam %s", ""},
		{"an allowed sender", helpdesk, HeldAllow, spam, HeldRequest{}, "list true by carol %s u@example.com", ""},
		{"of another helpdesk", Identity{Name: "x", Role: Helpdesk, Domains: []string{"example.net"}}, HeldDelete, spam, HeldRequest{}, "", "no such message"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := &heldLog{}
			tt.req.IDs = []string{name(tt.id)}
			c := ClientOf(NewControl("", ControlDeps{Queue: q, Held: h, Log: quiet()}).Handler())
			r, err := c.ApplyHeld(WithIdentity(t.Context(), tt.who), tt.verb, tt.req)
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			if tt.did != "" {
				want = []string{fmt.Sprintf(tt.did, name(tt.id))}
			}
			if !slices.Equal(h.did, want) || r.Done != len(want) || r.Failures != 1-len(want) || !strings.Contains(strings.Join(r.Failed, ""), tt.says) {
				t.Errorf("did %q, want %q; %+v", h.did, want, r)
			}
		})
	}
	for _, who := range []Identity{{Name: "viewer", Role: Viewer}, {}} {
		h := &heldLog{}
		c := ClientOf(NewControl("", ControlDeps{Queue: q, Held: h, Log: quiet()}).Handler())
		for _, v := range HeldVerbs() {
			req := HeldRequest{IDs: []string{name(spam)}}
			if v == HeldLearn {
				req.Lesson = "ham"
			}
			if _, err := c.ApplyHeld(WithIdentity(t.Context(), who), v, req); err == nil || len(h.did) > 0 {
				t.Errorf("%q may %s: %q", who.Role, v, h.did)
			}
		}
	}
}
