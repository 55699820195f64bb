package checkrules

import (
	"context"
	"log/slog"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
)

// taking answers every recipient the same.
type taking struct {
	mail.Handler
	verdict mail.Verdict
}

func (h taking) Rcpt(context.Context, *mail.Transaction, mail.Path) mail.Verdict { return h.verdict }

func TestHandler(t *testing.T) {
	rules := parse(t, "allow:10.0.0.0/8:ALL:ALL", "noto_delay:ALL:ALL:slow@*", "deny:ALL:ALL:bad@*:521 go away", "noto:ALL:ALL:later@*:451 not now", "allow:ALL:ALL:*@my.domain")
	for _, tt := range []struct {
		name    string
		client  string
		to      string
		next    mail.Action
		cfg     Config
		action  mail.Action
		reply   string
		close   bool
		seconds int
	}{
		{"allowed", "192.0.2.1", "u@my.domain", mail.Accept, Config{}, mail.Accept, "", false, 0},
		{"allowed, but no relaying", "10.0.0.1", "u@other.test", mail.Reject, Config{}, mail.Reject, "", false, 0},
		{"refused late", "192.0.2.1", "slow@my.domain", mail.Accept, Config{Delay: 50 * time.Second}, mail.Reject,
			"550 5.7.1 Mail from <a@b.test> to <slow@my.domain> prohibited from your location (UNKNOWN@UNKNOWN ip=192.0.2.1)", false, 50},
		{"closed", "192.0.2.1", "bad@my.domain", mail.Accept, Config{}, mail.Reject, "521 5.7.1 go away", true, 0},
		{"put off", "192.0.2.1", "later@my.domain", mail.Accept, Config{}, mail.TempFail, "451 4.7.1 not now", false, 0},
		{"no rule", "192.0.2.1", "u@other.test", mail.Accept, Config{}, mail.Accept, "", false, 0},
		{"no rule, deny", "192.0.2.1", "u@other.test", mail.Accept, Config{Default: DefaultDeny}, mail.Reject, "550 5.7.1 Recipient not allowed", false, 0},
		{"another listener", "192.0.2.1", "bad@my.domain", mail.Accept, Config{Listeners: []string{"inside"}}, mail.Accept, "", false, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := New(tt.cfg, rules, zones{}, slog.New(slog.DiscardHandler)).Handler(taking{verdict: mail.Verdict{Action: tt.next}})
				tx := &mail.Transaction{
					Session:  &mail.Session{Listener: "mx", Client: netip.AddrPortFrom(netip.MustParseAddr(tt.client), 4711)},
					Envelope: mail.Envelope{Sender: mail.Path{Address: address(t, "a@b.test")}},
				}
				began := time.Now()
				v := h.Rcpt(t.Context(), tx, mail.Path{Address: address(t, tt.to)})
				reply := ""
				if !v.Reply.IsZero() {
					reply = v.Reply.String()
				}
				if v.Action != tt.action || reply != tt.reply || v.Close != tt.close || time.Since(began) != time.Duration(tt.seconds)*time.Second {
					t.Errorf("%v %q close %v after %v", v.Action, reply, v.Close, time.Since(began))
				}
			})
		})
	}
}
