package mime

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"

	"gatepost/internal/testkit"
)

// What it costs to take ordinary mail apart: a short letter, text with HTML, and
// one with an attachment of 1 MB.
func BenchmarkInspect(b *testing.B) {
	ordinary := testkit.OrdinaryMail()
	file := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("some content "), 80_000))
	var lines strings.Builder
	for len(file) > 76 {
		lines.WriteString(file[:76] + "\n")
		file = file[76:]
	}
	for _, bb := range []struct{ name, text string }{
		{"letter", ordinary["Outlook: plain"]},
		{"alternative", ordinary["Outlook: alternative"]},
		{"attachment", "From: a@example.net\nSubject: x\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain\n\nhello\n--b\nContent-Type: application/pdf; name=a.pdf\nContent-Transfer-Encoding: base64\n\n" + lines.String() + "--b--\n"},
	} {
		b.Run(bb.name, func(b *testing.B) {
			m := message(b, bb.text)
			b.SetBytes(m.Size())
			b.ReportAllocs()
			for b.Loop() {
				Inspect(b.Context(), m, DefaultConfig())
			}
		})
	}
}
