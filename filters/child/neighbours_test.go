package child_test

import (
	"strings"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/internal/mail"
	"gatepost/milter/wire"

	gomilter "github.com/emersion/go-milter"
)

// Milters that agree on no changes are asked side by side, in one goroutine as
// long as they answer. One that doesn't costs only its own time, and its own
// answer.
func TestNeighbours(t *testing.T) {
	refusal := wire.AppendText(nil, 'y', "550 5.7.1 no")
	for _, tt := range []struct {
		name   string
		answer func(string) []byte // of the one in the middle
		quiet  gomilter.OptProtocol
		want   mail.Action
		reply  string
		fails  bool
	}{
		{"all answer", nil, 0, mail.Accept, "", false},
		{"one refuses at MAIL", at("M", refusal), 0, mail.Reject, "550 5.7.1 no", false},
		{"one refuses at DATA", at("T", refusal), 0, mail.Reject, "550 5.7.1 no", false},
		{"one refuses a field", at("L", refusal), 0, mail.Reject, "550 5.7.1 no", false},
		{"one refuses at the end", at("E", refusal), 0, mail.Reject, "550 5.7.1 no", false},
		{"silent at CONNECT", at("C", hang), 0, mail.Accept, "", true},
		{"silent at HELO", at("H", hang), 0, mail.Accept, "", true},
		{"silent at MAIL", at("M", hang), 0, mail.Accept, "", true},
		{"silent at the end", at("E", hang), 0, mail.Accept, "", true},
		{"gone at the end", at("E", closing), 0, mail.Accept, "", true},
		{"reads no further", at("B", asleep), gomilter.OptNoBodyReply, mail.Accept, "", true},
	} {
		for _, pipeline := range []bool{false, true} {
			name := tt.name
			if pipeline {
				name += ", header in one go"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				var children []named
				var scripts []*script
				for _, name := range []string{"before", "middle", "behind"} {
					s := newScript(t, nil)
					s.neg.Actions = 0
					cfg := s.config()
					cfg.Pipeline = pipeline
					if name == "middle" {
						s.does(tt.answer)
						s.neg.Protocol |= tt.quiet
						cfg.OnError = filters.Continue
					}
					if tt.fails { // whoever is held up until then fails, too
						cfg.Timeout = time.Second
					}
					children, scripts = append(children, named{name, cfg}), append(scripts, s)
				}
				m, _ := multiplexer(t, children...)
				s := session(t, m)
				s.greet()
				start := time.Now()
				want(t, tt.name, s.send(plain+strings.Repeat(strings.Repeat("x", 70)+"\n", 20_000)), tt.want, tt.reply)
				if took := time.Since(start); took > 8*time.Second {
					t.Errorf("it took %v", took)
				}
				for _, f := range s.tx.Findings {
					if f.Name == mail.FindingFailed && (f.Filter != "middle" || !tt.fails) {
						t.Errorf("%s failed: %s", f.Filter, f.Text)
					}
				}
				for _, i := range []int{0, 2} {
					if tt.want == mail.Accept && !strings.HasSuffix(scripts[i].log("E"), "E") {
						t.Errorf("neighbour %d was not told the end", i)
					}
				}
			})
		}
	}
}
