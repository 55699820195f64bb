package child_test

import (
	"strings"
	"testing"

	"gatepost/internal/mail"
	"gatepost/milter/wire"

	gomilter "github.com/emersion/go-milter"
)

// With the header sent ahead, the milter sees what it would have seen, and its
// answers mean what they would have meant.
func TestPipeline(t *testing.T) {
	const all = "M R T L L N B E"
	for _, tt := range []struct {
		name   string
		answer func(string) []byte
		want   mail.Action
		reply  string
		again  bool // the next message is on a new connection
	}{
		{"continue", nil, mail.Accept, "", false},
		{"skip", at("L", wire.Append(nil, 's')), mail.Accept, "", false},
		{"accepted at a field", at("L", wire.Append(nil, byte(gomilter.ActAccept))), mail.Accept, "", true},
		{"refused at a field", at("L", wire.AppendText(nil, 'y', "550 5.7.1 bad field")), mail.Reject, "550 5.7.1 bad field", true},
		{"refused at the body", at("B", wire.AppendText(nil, 'y', "550 5.7.1 bad body")), mail.Reject, "550 5.7.1 bad body", true},
		{"refused at the end", at("E", wire.AppendText(nil, 'y', "550 5.7.1 bad end")), mail.Reject, "550 5.7.1 bad end", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newScript(t, tt.answer)
			cfg := c.config()
			cfg.Pipeline = true
			m, _ := multiplexer(t, named{"c", cfg})
			s := session(t, m)
			s.greet()
			for range 2 {
				c.forget()
				want(t, tt.name, s.send(plain), tt.want, tt.reply)
				if !tt.again {
					var got []string
					for _, e := range strings.Split(c.log("MRTLNBEA"), "; ") {
						got = append(got, e[:1])
					}
					if strings.Join(got, " ") != all {
						t.Errorf("the milter saw %q, want %q", got, all)
					}
				}
			}
			connections := 1
			if tt.again {
				connections = 2
			}
			if c.connections() != connections {
				t.Errorf("%d connections, want %d", c.connections(), connections)
			}
		})
	}
}

// More fields than can be sent ahead at once: nobody waits for the other for
// ever, with a milter that answers each.
func TestPipelineOfManyFields(t *testing.T) {
	c := newScript(t, nil)
	cfg := c.config()
	cfg.Pipeline = true
	m, _ := multiplexer(t, named{"c", cfg})
	s := session(t, m)
	s.greet()
	want(t, "many fields", s.send(strings.Repeat("X-Field: "+strings.Repeat("x", 60)+"\n", 900)+plain), mail.Accept, "")
	if n := strings.Count(c.log("L"), "L "); n < 900 {
		t.Errorf("the milter saw %d fields", n)
	}
}
