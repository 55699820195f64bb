package forward

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"gatepost/internal/mail"
)

func verify(t *testing.T, f *Forwarder, within time.Duration, rcpts ...string) ([]string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	var all []mail.Address
	for _, r := range rcpts {
		all = append(all, mailPath(t, r).Address)
	}
	out, err := f.Verify(ctx, all...)
	var got []string
	for _, o := range out {
		got = append(got, fmt.Sprint(o.Reply.Code, " ", o.Reply.Enhanced()))
	}
	return got, err
}

// TestVerify: what a next hop says of recipients, over one connection, without
// a message.
func TestVerify(t *testing.T) {
	for _, lmtp := range []bool{false, true} {
		for _, offers := range [][]string{allOffers, nil} {
			t.Run(fmt.Sprintf("lmtp=%v/%d", lmtp, len(offers)), func(t *testing.T) {
				p := startPeer(t, &peer{lmtp: lmtp, offers: offers, scripts: []script{{
					"RCPT TO:<no@": "550 5.1.1 who?", "RCPT TO:<full@": "452 4.2.2 over quota",
				}}})
				f := newForwarder(t, quick(p.url()))
				want := []string{"250 2.1.5", "550 5.1.1", "452 4.2.2"}
				for range 4 { // 8 refusals: the next finds a new connection
					got, err := verify(t, f, 5*time.Second, "yes@example.com", "no@example.com", "full@example.com")
					for i := range got { // the peer's 250 has a detail of its own, or none
						if strings.HasPrefix(got[i], "250") {
							got[i] = want[0]
						}
					}
					if err != nil || !slices.Equal(got, want) {
						t.Fatalf("got %q, %v", got, err)
					}
				}
				if n := len(p.commands()); n != 1 {
					t.Errorf("%d connections", n)
				}
				for _, c := range p.commands()[0] {
					if strings.HasPrefix(c, "DATA") {
						t.Error("a message was begun")
					}
				}
				if _, err := verify(t, f, 5*time.Second, "yes@example.com"); err != nil {
					t.Fatal(err)
				}
				check(t, deliver(t, f, envelope(t, "yes@example.com"), hello), sent)
				if n, got := len(p.commands()), p.got(); n != 2 || len(got) != 1 || !slices.Equal(got[0].rcpts, []string{"<yes@example.com>"}) {
					t.Errorf("%d connections, got %v: a delivery shall find the connection, and nothing of the questions", n, got)
				}
			})
		}
	}
}

// TestVerifyCantTell: these are errors, and none of them takes longer than it
// may.
func TestVerifyCantTell(t *testing.T) {
	tests := []struct {
		name   string
		script script
		want   string
	}{
		{"MAIL refused for good", script{"MAIL": "550 5.7.1 no"}, "takes nothing from nobody"},
		{"MAIL put off", script{"MAIL": "451 4.7.1 greylisted"}, "takes nothing from nobody"},
		{"421 greeting", script{"banner": "421 4.3.2 busy!close"}, "does not talk to us"},
		{"421 to RCPT", script{"RCPT": "421 4.3.2 bye!close"}, "bye"},
		{"garbage", script{"RCPT": "hello there"}, "protocol error"},
		{"354 to RCPT", script{"RCPT": "354 go on"}, "protocol error"},
		{"hangs at RCPT", script{"RCPT": "!hang"}, "interrupted"},
		{"hangs at the greeting", script{"banner": "!hang"}, "interrupted"},
		{"closes", script{"RCPT": "!close"}, "closed by the next hop"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := startPeer(t, &peer{offers: allOffers, scripts: []script{tt.script}})
			got, err := verify(t, newForwarder(t, quick(p.url())), time.Second, "a@example.com")
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
	if _, err := verify(t, newForwarder(t, quick("smtp://127.0.0.1:1")), time.Second, "a@elsewhere.example"); err == nil {
		t.Error("no error without a route")
	}
}

// TestVerifyInTurn: a host that hangs has half of the time, and is asked last
// from then on.
func TestVerifyInTurn(t *testing.T) {
	one := startPeer(t, &peer{offers: allOffers, scripts: []script{{"RCPT": "!hang"}}})
	two := startPeer(t, &peer{offers: allOffers, scripts: []script{{"RCPT": "550 5.1.1 who?"}}})
	f := newForwarder(t, quick(one.url(), two.url()))
	for range 2 {
		if got, err := verify(t, f, 2*time.Second, "a@example.com"); err != nil || got[0] != "550 5.1.1" {
			t.Fatal(got, err)
		}
	}
	if n := len(one.commands()); n != 1 {
		t.Errorf("%d connections to the host that hangs", n)
	}
}

// TestVerifyHungUp: a next hop that has heard enough on a kept connection is
// asked again on a new one.
func TestVerifyHungUp(t *testing.T) {
	p := startPeer(t, &peer{offers: allOffers, scripts: []script{{"RCPT TO:<b@": "421 4.7.0 too many errors!close"}, nil}})
	f := newForwarder(t, quick(p.url()))
	for _, to := range []string{"a@example.com", "b@example.com"} {
		if got, err := verify(t, f, 5*time.Second, to); err != nil || !strings.HasPrefix(got[0], "250") {
			t.Errorf("%s: %q, %v", to, got, err)
		}
	}
}
