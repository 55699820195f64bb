package mail

import (
	"io"
	"strings"
	"testing"
)

func TestApply(t *testing.T) {
	const in = "A: 1\r\nB: 2\r\nB: 3\r\n\r\nbody\r\n"
	field := NewField
	tests := []struct {
		name  string
		edits []Edit
		want  string
	}{
		{"none", nil, in},
		{"insert on top keeps the order", []Edit{InsertHeader{0, field("X", "1")}, InsertHeader{0, field("Y", "2")}}, "X: 1\r\nY: 2\r\nA: 1\r\nB: 2\r\nB: 3\r\n\r\nbody\r\n"},
		{"insert at the end and beyond", []Edit{InsertHeader{3, field("X", "1")}, InsertHeader{99, field("Y", "2")}}, "A: 1\r\nB: 2\r\nB: 3\r\nX: 1\r\nY: 2\r\n\r\nbody\r\n"},
		{"delete doesn't shift the others", []Edit{DeleteHeader{0}, DeleteHeader{2}, ChangeHeader{1, field("B", "9")}}, "B: 9\r\n\r\nbody\r\n"},
		{"insert before a deleted one", []Edit{DeleteHeader{1}, InsertHeader{1, field("X", "1")}}, "A: 1\r\nX: 1\r\nB: 3\r\n\r\nbody\r\n"},
		{"body", []Edit{ReplaceBody{strings.NewReader("new"), 3}}, "A: 1\r\nB: 2\r\nB: 3\r\n\r\nnew"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, err := ReadMessage(strings.NewReader(in), int64(len(in)))
			if err != nil {
				t.Fatal(err)
			}
			_, got := Apply(Envelope{}, m, tt.edits)
			out, err := io.ReadAll(got.Reader())
			if err != nil || string(out) != tt.want {
				t.Errorf("got %q, %v, want %q", out, err, tt.want)
			}
			if out, _ := io.ReadAll(m.Reader()); string(out) != in {
				t.Errorf("the original became %q", out)
			}
		})
	}
}

func TestApplyEnvelope(t *testing.T) {
	at := func(s string) Path { return Path{Address: Address{Local: s, Domain: "b.example"}} }
	env := Envelope{Sender: at("s"), Recipients: []Path{at("a"), at("b")}}
	m := NewMessage(nil, strings.NewReader(""), 0)
	got, _ := Apply(env, m, []Edit{ChangeSender{at("t")}, DeleteRecipient{at("a").Address}, AddRecipient{at("c")}})
	if got.Sender.Local != "t" || len(got.Recipients) != 2 || got.Recipients[0].Local != "b" || got.Recipients[1].Local != "c" {
		t.Errorf("got %+v", got)
	}
	if env.Sender.Local != "s" || env.Recipients[0].Local != "a" || env.Recipients[1].Local != "b" {
		t.Errorf("the original became %+v", env)
	}
}
