package mail

import (
	"strings"
	"testing"
)

func TestReplyWire(t *testing.T) {
	tests := []struct {
		name string
		in   Reply
		want string
	}{
		{"class follows the code", Reply{451, "7.1", "later"}, "451 4.7.1 later\r\n"},
		{"no detail", Reply{354, "", "go on"}, "354 go on\r\n"},
		{"no class for 3xx", Reply{354, "0.0", "go on"}, "354 go on\r\n"},
		{"lines", Reply{550, "7.1", "a\nb"}, "550-5.7.1 a\r\n550 5.7.1 b\r\n"},
		{"injection", Reply{550, "", "a\r\n250 ok\rb\x00"}, "550-a\r\n550 250 ok?b?\r\n"},
		{"8-bit", Reply{550, "", "é"}, "550 ?\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := string(tt.in.Wire()); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	if n := len(Reply{550, "7.1", strings.Repeat("x", 5000)}.Wire()); n > 512 {
		t.Errorf("reply of %d octets", n)
	}
}

func TestParseReply(t *testing.T) {
	tests := []struct {
		in   string
		want Reply
		ok   bool
	}{
		{"550 5.7.1 go away", Reply{550, "7.1", "go away"}, true},
		{"550 go away", Reply{550, "", "go away"}, true},
		{"550", Reply{550, "", ""}, true},
		{"450 5.7.1 x", Reply{450, "", "5.7.1 x"}, true}, // classes that disagree are text
		{"250-2.1.0 ok", Reply{250, "1.0", "ok"}, true},
		{"550 5.7 x", Reply{550, "", "5.7 x"}, true},
		{"55 x", Reply{}, false},
		{"650 x", Reply{}, false},
		{"5505.7.1", Reply{}, false},
		{"", Reply{}, false},
	}
	for _, tt := range tests {
		if got, ok := ParseReply(tt.in); got != tt.want || ok != tt.ok {
			t.Errorf("ParseReply(%q) = %+v, %v, want %+v, %v", tt.in, got, ok, tt.want, tt.ok)
		}
	}
}
