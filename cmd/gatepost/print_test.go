package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func TestVisible(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"plain", "Grüße, 世界\tx\n", "Grüße, 世界\tx\n"},
		{"escape", "a\x1b[31mb", "a?[31mb"},
		{"title of the window", "\x1b]0;x\x07", "?]0;x?"},
		{"one-byte escape", "a\u009b31mb", "a?31mb"},
		{"carriage return", "ok\rbad", "ok?bad"},
		{"other direction", "exe.\u202egpj", "exe.?gpj"},
		{"isolate", "a\u2066b\u2069", "a?b?"},
		{"separator of lines", "a\u2028b", "a?b"},
		{"broken UTF-8", "a\xffb", "a\ufffdb"},
		{"delete", "a\x7fb", "a?b"},
	}
	for _, tt := range tests {
		if got := visible(tt.in); got != tt.want {
			t.Errorf("%s: visible(%q) = %q, want %q", tt.name, tt.in, got, tt.want)
		}
	}
	if got := line("a\n  b\r\nc"); strings.Contains(got, "\n") {
		t.Errorf("line = %q", got)
	}
}

// TestTerminal: what is split between two writes gets through in no part.
func TestTerminal(t *testing.T) {
	var b bytes.Buffer
	w := terminal{&b}
	for _, part := range []string{"a\xc2", "\x9b31m\r\n", "b\x1b", "[0m"} {
		if n, err := w.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatalf("Write = %d, %v", n, err)
		}
	}
	if got, want := b.String(), "a\ufffd\ufffd31m\nb?[0m"; got != want {
		t.Errorf("on the terminal: %q, want %q", got, want)
	}
}

// TestJSON: what JSON itself leaves as it is does no harm, and means the same.
func TestJSON(t *testing.T) {
	tests := []struct{ in, want string }{
		{"plain <a@b> Grüße 世界", `"plain <a@b> Grüße 世界"`},
		{"a\x1b[31m\n\u009b31m\x7f", `"a\u001b[31m\n\u009b31m\u007f"`},
		{"exe.\u202egpj\u2028", `"exe.\u202egpj\u2028"`},
		{"\xff", `"\ufffd"`},
		{"😀\u009d", "\"😀\\u009d\""},
	}
	for _, tt := range tests {
		var b bytes.Buffer
		if err := writeJSON(&b, tt.in); err != nil || b.String() != tt.want+"\n" {
			t.Errorf("writeJSON(%q) = %q, %v; want %q", tt.in, b.String(), err, tt.want)
		}
		var back string
		if err := json.Unmarshal(b.Bytes(), &back); err != nil || back != strings.ToValidUTF8(tt.in, "\ufffd") {
			t.Errorf("%q comes back as %q, %v", tt.in, back, err)
		}
	}
}
