package milter

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"gatepost/internal/mail"

	"github.com/emersion/go-milter"
)

// What we hold is on disk before the MTA is told to drop it, and for nobody
// else; what can't be held is put off.
func TestHold(t *testing.T) {
	deliver, drop := mail.Verdict{Action: mail.Accept}, mail.Verdict{Action: mail.Discard, Reason: "list"}
	hold := func(why string) mail.Verdict { return mail.Verdict{Action: mail.Quarantine, Reason: why} }
	reject := mail.Verdict{Action: mail.Reject, Reply: mail.Reply{Code: 550, Text: "no"}}
	strip := func(body string) mail.Verdict {
		return mail.Verdict{Action: mail.Accept, Edits: []mail.Edit{mail.ReplaceBody{Body: strings.NewReader(body), Size: int64(len(body))}}}
	}
	note := strip("note\r\n")
	tagged := func(tag string) mail.Verdict {
		return mail.Verdict{Action: mail.Accept, Edits: []mail.Edit{mail.InsertHeader{Field: mail.NewField("X-Tag", tag)}}}
	}
	mixed := func(v ...mail.Verdict) mail.Verdict {
		return mail.Verdict{Action: mail.Quarantine, Reason: "mixed", Recipients: v}
	}
	for _, tt := range []struct {
		name    string
		verdict mail.Verdict
		rights  milter.OptAction
		fails   error
		held    string // recipients and reason of each copy
		answer  string
	}{
		{name: "all", verdict: hold("virus"), held: "r0@b.example,r1@b.example,r2@b.example: virus", answer: "d"},
		{name: "disk full", verdict: hold("virus"), fails: errors.New("no space"), held: "r0@b.example,r1@b.example,r2@b.example: virus", answer: "t"},
		{name: "one of three", verdict: mixed(deliver, hold("spam"), deliver), held: "r1@b.example: spam", answer: "-<r1@b.example>| c"},
		{name: "one of three, disk full", verdict: mixed(deliver, hold("spam"), deliver), fails: errors.New("no space"), held: "r1@b.example: spam", answer: "t"},
		{name: "two reasons", verdict: mixed(hold("a"), deliver, hold("b")), held: "r0@b.example: a; r2@b.example: b", answer: "-<r0@b.example>| -<r2@b.example>| c"},
		{name: "one held, one dropped", verdict: mixed(deliver, hold("a"), drop), held: "r1@b.example: a", answer: "-<r1@b.example>| -<r2@b.example>| c"},
		{name: "held and dropped alone", verdict: mixed(drop, hold("a"), drop), held: "r1@b.example: a", answer: "d"},
		{name: "one refused", verdict: mixed(deliver, reject, deliver), held: "r1@b.example: ", answer: "-<r1@b.example>| c"},
		{name: "all refused", verdict: mixed(reject, reject, reject), answer: "y550 no|"},
		{name: "nobody", verdict: mixed(deliver, deliver, deliver), answer: "c"},
		{name: "MTA without DELRCPT", verdict: mixed(deliver, hold("a"), drop), rights: wantedActions &^ milter.OptRemoveRcpt,
			held: "r1@b.example: a; r0@b.example: ours to deliver", answer: "d"},
		{name: "one body for all", verdict: mixed(note, note, note), answer: "bnote\r\n c"},
		{name: "another body for one", verdict: mixed(deliver, note, deliver), held: "r1@b.example: ours to deliver", answer: "-<r1@b.example>| c"},
		{name: "another header for one", verdict: mixed(deliver, tagged("[X] "), tagged("[X] ")), held: "r1@b.example,r2@b.example: ours to deliver", answer: "-<r1@b.example>| -<r2@b.example>| c"},
		{name: "three outcomes", verdict: mixed(reject, tagged("[X] "), hold("spam")), held: "r0@b.example: ; r2@b.example: spam", answer: "i|||\x01X-Tag| [X]| -<r0@b.example>| -<r2@b.example>| c"},
		{name: "another body for two", verdict: mixed(note, deliver, strip("other\r\n")), held: "r1@b.example: ours to deliver; r2@b.example: ours to deliver", answer: "-<r1@b.example>| -<r2@b.example>| bnote\r\n c"},
		{name: "plain", verdict: deliver, answer: "c"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var held []string
			h := &fakeHandler{at: map[mail.Stage]mail.Verdict{mail.StageMessage: tt.verdict}}
			offer := full
			if tt.rights != 0 {
				offer.Actions = tt.rights
			}
			m := dial(t, start(t, h, func(c *Config, d *Deps) {
				c.Quarantine = QuarantineHold
				d.Hold = func(_ context.Context, tx *mail.Transaction, copies []Held) error {
					for _, c := range copies {
						var to []string
						for _, r := range c.Recipients {
							to = append(to, r.String())
						}
						why := c.Verdict.Reason
						if c.Verdict.Action.Delivers() {
							why = "ours to deliver"
						}
						held = append(held, strings.Join(to, ",")+": "+why)
					}
					return tt.fails
				}
			}), offer)
			m.hello()
			m.ask(envelope('M', "<s@sender.test>"))
			for i := range 3 {
				m.ask(envelope('R', fmt.Sprintf("<r%d@b.example>", i)))
			}
			answer := strings.Join(m.content(plain, "body\r\n"), " ")
			if got := strings.Join(held, "; "); got != tt.held {
				t.Errorf("held %q, want %q", got, tt.held)
			}
			if answer != tt.answer {
				t.Errorf("answer %q, want %q", answer, tt.answer)
			}
		})
	}
}

// What an earlier stage said is for every recipient.
func TestStrongest(t *testing.T) {
	hold := mail.Verdict{Action: mail.Quarantine, Reason: "earlier"}
	v := strongest(mail.Verdict{Action: mail.Quarantine, Recipients: []mail.Verdict{{Action: mail.Accept}, {Action: mail.Reject}, {Action: mail.Quarantine, Reason: "later"}}}, hold)
	var got []string
	for _, r := range v.Recipients {
		got = append(got, r.Action.String()+" "+r.Reason)
	}
	if want := "quarantine earlier,reject ,quarantine later"; strings.Join(got, ",") != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Who has no place to hold messages is not told to.
func TestHoldNeedsAPlace(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Socket, cfg.Quarantine = "unix:/x", QuarantineHold
	if _, err := New(cfg, Deps{}); err == nil {
		t.Error("taken")
	}
	cfg.Quarantine = "here"
	if err := cfg.Validate(); err == nil {
		t.Error("another word is taken")
	}
}
