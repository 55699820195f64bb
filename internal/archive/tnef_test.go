package archive

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func tnefAttr(level byte, id uint32, data string) string {
	var b bytes.Buffer
	var sum uint16
	for _, c := range []byte(data) {
		sum += uint16(c)
	}
	put(&b, level, id, uint32(len(data)), data, sum)
	return b.String()
}

func winmail(attrs ...string) []byte {
	var b bytes.Buffer
	put(&b, uint32(tnefSignature), uint16(1))
	for _, a := range attrs {
		b.WriteString(a)
	}
	return b.Bytes()
}

func mapiText(id uint16, text string) string {
	var b bytes.Buffer
	put(&b, uint16(mapiString), id, uint32(1), uint32(len(text)+1), text, byte(0))
	b.WriteString(strings.Repeat("\x00", (4-(len(text)+1)%4)%4))
	return b.String()
}

func mapiBytes(kind, id uint16, data string) string {
	var b bytes.Buffer
	put(&b, kind, id, uint32(1), uint32(len(data)), data)
	b.WriteString(strings.Repeat("\x00", (4-len(data)%4)%4))
	return b.String()
}

func mapiList(props ...string) string {
	var b bytes.Buffer
	put(&b, uint32(len(props)))
	return b.String() + strings.Join(props, "")
}

// rtfStored is a compressed RTF body that is one literal run, then the end.
func rtfPacked(text string) string {
	var b bytes.Buffer
	put(&b, uint32(0), uint32(len(text)), "LZFu", uint32(0))
	at := len(lzfuStart)
	for len(text) >= 8 {
		b.WriteString("\x00" + text[:8])
		text, at = text[8:], at+8
	}
	b.WriteByte(1 << len(text))
	b.WriteString(text)
	at += len(text)
	put(&b, byte(at>>4), byte(at<<4))
	return b.String()
}

func winmailFull() []byte {
	inner := string(winmail(
		tnefAttr(2, 0x00069002, strings.Repeat("\x00", 14)),
		tnefAttr(2, 0x00018010, "deep.exe\x00"),
		tnefAttr(2, 0x0006800f, "MZ deep"),
	))
	return winmail(
		tnefAttr(1, 0x00069003, mapiList(mapiBytes(mapiBinary, propRTF, rtfPacked("{\\rtf1 hello world}")), mapiBytes(mapiBinary, propHTML, "<p>hi</p>"))),
		tnefAttr(2, 0x00069002, strings.Repeat("\x00", 14)),
		tnefAttr(2, 0x00018010, "LONGNA~1.EXE\x00"),
		tnefAttr(2, 0x0006800f, "MZ content"),
		tnefAttr(2, 0x00069005, mapiList(mapiText(propLongName, "long name.exe"))),
		tnefAttr(2, 0x00069002, strings.Repeat("\x00", 14)),
		tnefAttr(2, 0x00018010, "message\x00"),
		tnefAttr(2, 0x00069005, mapiList(mapiBytes(mapiObject, propData, strings.Repeat("i", 16)+inner))),
	)
}

// TestTNEF: attachments, bodies, and the message in the message.
func TestTNEF(t *testing.T) {
	s := look(t, "winmail.dat", winmailFull(), DefaultLimits())
	want := []string{"winmail.dat/body.rtf", "winmail.dat/body.html", "winmail.dat/long name.exe", "winmail.dat/deep.exe", "winmail.dat/message"}
	if got := s.names(); !slices.Equal(got, want) {
		t.Errorf("files = %q, want %q", got, want)
	}
	if s.Kind != "tnef" || len(s.Unseen)+len(s.Ambiguous) > 0 {
		t.Errorf("result = %+v", s.Result)
	}
	e := s.entry(t, "winmail.dat/long name.exe")
	if !slices.Contains(e.Names, "LONGNA~1.EXE") || s.content[e.Path] != "MZ content" {
		t.Errorf("entry %+v with %q", e, s.content[e.Path])
	}
	if got := s.content["winmail.dat/body.rtf"]; got != "{\\rtf1 hello world}" {
		t.Errorf("rtf = %q", got)
	}
}

// TestTNEFLies: what two readers would see differently, or can't read.
func TestTNEFLies(t *testing.T) {
	start := tnefAttr(2, 0x00069002, strings.Repeat("\x00", 14))
	two := look(t, "w", winmail(start, tnefAttr(2, 0x00018010, "a\x00"), tnefAttr(2, 0x0006800f, "one"), tnefAttr(2, 0x0006800f, "two")), DefaultLimits())
	if !says(two.Ambiguous, "2 contents") || len(two.entries) != 2 {
		t.Errorf("two contents: %+v", two)
	}
	full := winmailFull()
	if s := look(t, "w", full[:len(full)-30], DefaultLimits()); !says(s.Unseen, "cut or garbled") {
		t.Errorf("cut: %+v", s.Result)
	}
	if s := look(t, "w", winmail(tnefAttr(1, 0x00069003, "\xff\xff\xff\xff")), DefaultLimits()); !says(s.Unseen, "properties") {
		t.Errorf("properties: %+v", s.Result)
	}
	if s := look(t, "x.zip", zipped(t, file{"winmail.dat", string(full)}), DefaultLimits()); len(s.entries) != 6 {
		t.Errorf("in a zip: %q", s.names())
	}
}
