package main

import (
	"bytes"
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
