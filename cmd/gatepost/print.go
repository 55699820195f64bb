package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// visible makes text of strangers fit for a terminal: what would move the
// cursor, change colours or turn the direction of writing becomes a "?".
// Line ends and tabs stay.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if hidden(r) {
			return '?'
		}
		return r
	}, s)
}

func hidden(r rune) bool {
	switch {
	case r == '\n' || r == '\t':
		return false
	case r < ' ' || r >= 0x7f && r <= 0x9f:
		return true
	}
	// Marks, embeddings, overrides and isolates of direction; separators.
	return r == 0x061c || r == 0x200e || r == 0x200f || r >= 0x2028 && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}

// line is visible on one line.
func line(s string) string { return strings.Join(strings.Fields(visible(s)), " ") }

// printJSON writes one object on one line.
func (a *app) printJSON(v any) error {
	if err := writeJSON(a.out, v); err != nil {
		return exit(exitSystem, "writing: %w", err)
	}
	return nil
}

// writeJSON writes one object on one line. What is not fit for a terminal is
// escaped; that JSON does so itself is true of the ASCII part only.
func writeJSON(w io.Writer, v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(escapeHidden(b.Bytes()))
	return err
}

// escapeHidden writes hidden runes of JSON, which are in its strings only, as
// escapes.
func escapeHidden(b []byte) []byte {
	if !bytes.ContainsFunc(b, hiddenInJSON) {
		return b
	}
	var out []byte
	for _, r := range string(b) {
		if hiddenInJSON(r) {
			out = fmt.Appendf(out, `\u%04x`, r)
		} else {
			out = utf8.AppendRune(out, r)
		}
	}
	return out
}

func hiddenInJSON(r rune) bool { return r >= 0x7f && hidden(r) }

// screen is where a message goes: as it is into a file or a pipe, made visible
// on a terminal.
func (a *app) screen() io.Writer {
	f, ok := a.out.(*os.File)
	if !ok {
		return a.out
	}
	if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err != nil {
		return a.out
	}
	return terminal{f}
}

// terminal makes visible what is written to it. A rune that is split between
// two writes shows as "?": nothing gets through in parts.
type terminal struct{ w io.Writer }

func (t terminal) Write(p []byte) (int, error) {
	if _, err := io.WriteString(t.w, visible(strings.ReplaceAll(string(p), "\r\n", "\n"))); err != nil {
		return 0, err
	}
	return len(p), nil
}
