package testkit

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Hostile is a message that is built to show a file to some mail program and
// not to a filter.
type Hostile struct {
	Row  string // what it tries: "M3" are parameters of RFC 2231, "M7d" decoders…
	Name string
	Raw  string
	// ByName: the file has its own bytes behind an ordinary encoding; what is
	// hidden is its name, invoice.exe.
	ByName bool
}

// HostileMail returns messages that each hide the same file, an invoice.exe.
// text is what it contains: printable ASCII in one line.
func HostileMail(text string) []Hostile {
	h := &hostile{file: text}
	h.duplicates()
	h.names()
	h.encodings()
	h.decoders()
	h.boundaries()
	h.delimiters()
	h.shapes()
	slices.SortStableFunc(h.all, func(a, b Hostile) int { return strings.Compare(a.Row, b.Row) })
	return h.all
}

type hostile struct {
	file string
	all  []Hostile
}

func (h *hostile) add(row, name, raw string) {
	h.all = append(h.all, Hostile{Row: row, Name: fmt.Sprintf("%s %s", row, name), Raw: raw})
}

func (h *hostile) base64() string {
	return base64.StdEncoding.EncodeToString([]byte(h.file)) + "\r\n"
}

// quoted is the file in quoted-printable, every byte escaped.
func (h *hostile) quoted() string {
	var b strings.Builder
	for i := range len(h.file) {
		if i > 0 && i%24 == 0 {
			b.WriteString("=\r\n")
		}
		fmt.Fprintf(&b, "=%02X", h.file[i])
	}
	return b.String() + "\r\n"
}

const (
	hostileTop  = "From: a@example.net\r\nTo: b@example.com\r\nSubject: invoice\r\nMIME-Version: 1.0\r\n"
	hostileText = "Content-Type: text/plain\r\n\r\nplease see the attached\r\n"
	hostileName = "Content-Disposition: attachment; filename=\"invoice.exe\"\r\n"
	hostileB64  = "Content-Transfer-Encoding: base64\r\n"
)

// part is the file as an ordinary part.
func (h *hostile) part() string {
	return "Content-Type: application/octet-stream\r\n" + hostileB64 + hostileName + "\r\n" + h.base64()
}

// mixed is a message whose Content-Type fields are given, with the parts between
// the delimiters of one boundary.
func mixed(fields, boundary string, parts ...string) string {
	return hostileTop + fields + "\r\n" + body(boundary, parts...)
}

func body(boundary string, parts ...string) string {
	var b strings.Builder
	for _, p := range parts {
		b.WriteString("--" + boundary + "\r\n" + p)
	}
	return b.String() + "--" + boundary + "--\r\n"
}

const ordinaryType = "Content-Type: multipart/mixed; boundary=\"abc\"\r\n"

// attached is a message with a part that has these fields and this content.
func attached(fields, content string) string {
	return mixed(ordinaryType, "abc", hostileText, fields+"\r\n"+content)
}

// duplicates are fields and parameters that are there twice (M1).
func (h *hostile) duplicates() {
	for _, pair := range [][2]string{{`boundary="%s"`, `boundary="%s"`}, {`boundary=%s`, `boundary=%s`}, {`boundary="%s"`, `Boundary=%s`}, {`boundary=%s`, `boundary*=us-ascii''%s`}, {`boundary*0=%s`, `boundary=%s`}} {
		for _, between := range []string{"; ", ";\r\n\t", ";; ", " "} {
			for _, used := range []string{"abc", "xyz"} {
				field := "Content-Type: multipart/mixed; " + fmt.Sprintf(pair[0], "abc") + between + fmt.Sprintf(pair[1], "xyz") + "\r\n"
				h.add("M1", fmt.Sprintf("boundary %s%q%s, used %s", pair[0], between, pair[1], used), mixed(field, used, hostileText, h.part()))
			}
		}
	}
	types := []string{"text/plain", "application/octet-stream", "message/rfc822", `multipart/mixed; boundary="xyz"`, "multipart/mixed", "image/png"}
	for _, other := range types {
		field := "Content-Type: " + other + "\r\n"
		h.add("M1", "type "+other+" first", mixed(field+ordinaryType, "abc", hostileText, h.part()))
		h.add("M1", "type "+other+" last", mixed(ordinaryType+field, "abc", hostileText, h.part()))
		h.add("M1", "type "+other+" around", mixed(field+ordinaryType+field, "abc", hostileText, h.part()))
	}
	for _, other := range []string{"7bit", "8bit", "binary", "quoted-printable", "x-uuencode", "base64"} {
		field := "Content-Transfer-Encoding: " + other + "\r\n"
		h.add("M1", "encoding "+other+" first", attached("Content-Type: application/octet-stream\r\n"+field+hostileB64, h.base64()))
		h.add("M1", "encoding "+other+" last", attached("Content-Type: application/octet-stream\r\n"+hostileB64+field, h.base64()))
	}
}

// encodings are spellings of Content-Transfer-Encoding (M7).
func (h *hostile) encodings() {
	for _, value := range []string{
		"base64 ", " base64", "\tbase64", "BASE64", "Base64", "base64;", "base64; x=y", "\"base64\"", "'base64'", "base64 (comment)", "(comment) base64",
		"base64\x00", "\x00base64", "x-base64", "base 64", "base64,", "base64.", "base-64", "base64 7bit", "7bit base64", "\r\n base64", "base64\r\n ", "bas\r\n e64", "=?us-ascii?q?base64?=",
	} {
		h.add("M7", fmt.Sprintf("encoding %q", value), attached("Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: "+value+"\r\n", h.base64()))
	}
	for _, field := range []string{
		"Content-Transfer-Encoding : base64\r\n", "Content-Transfer-Encoding\t: base64\r\n", "content-transfer-encoding:base64\r\n", "CONTENT-TRANSFER-ENCODING: base64\r\n",
		"Content-Transfer-Encoding\x00: base64\r\n", " Content-Transfer-Encoding: base64\r\n", "Content-Transfer-Encoding:\r\n base64\r\n", "Content-Transfer-Encoding:\r\n\tbase64\r\n",
		"Content-Transfer-Encoding base64\r\n", "Content-Encoding: base64\r\n", "X: y\rContent-Transfer-Encoding: base64\r\n", "X: y\nContent-Transfer-Encoding: base64\r\n",
	} {
		h.add("M7", fmt.Sprintf("field %q", field), attached("Content-Type: application/octet-stream\r\n"+hostileName+field, h.base64()))
	}
}

// decoders are encoded contents that decoders read in different ways (M7).
func (h *hostile) decoders() {
	whole := strings.TrimSpace(h.base64())
	split := func(n int, sep string) string {
		var b strings.Builder
		for i := 0; i < len(whole); i += n {
			b.WriteString(whole[i:min(len(whole), i+n)] + sep)
		}
		return b.String()
	}
	pieces := func(sizes int) string { // padding in the middle
		var b strings.Builder
		for i := 0; i < len(h.file); i += sizes {
			b.WriteString(base64.StdEncoding.EncodeToString([]byte(h.file[i:min(len(h.file), i+sizes)])))
		}
		return b.String()
	}
	broken := map[string]string{
		"junk in each line": split(10, "!\r\n"), "junk NUL": split(8, "\x00"), "junk 8 bit": split(12, "\xff"), "junk dots": split(4, "."), "blanks": split(1, " "), "tabs": split(3, "\t"),
		"lines of 1": split(1, "\r\n"), "lines of 3": split(3, "\r\n"), "lines of 77": split(77, "\r\n"), "one line": whole, "bare CR": split(20, "\r"), "bare LF": split(20, "\n"),
		"padding at 1": pieces(1), "padding at 2": pieces(2), "padding at 4": pieces(4), "padding at 10": pieces(10), "padding at 50": pieces(50),
		"padding in front": "====" + whole, "padding first line": "=\r\n" + whole, "no padding": strings.TrimRight(whole, "="), "more padding": whole + "====", "data behind padding": whole + "==" + "QUJDREVG",
		"empty padded first": "QQ==" + "\r\n" + whole, "comment line": "(comment)\r\n" + whole, "header line": "X-Header: y\r\n" + whole, "minus": "-\r\n" + whole, "delimiter alike": "--ab\r\n" + whole,
		"BOM": "\xef\xbb\xbf" + whole, "backslashes": split(16, "\\\r\n"), "entity": split(24, "&#10;"),
	}
	for _, name := range slices.Sorted(maps.Keys(broken)) {
		h.add("M7d", "base64 "+name, attached("Content-Type: application/octet-stream\r\n"+hostileB64, broken[name]+"\r\n"))
	}
	quoted := strings.TrimSpace(h.quoted())
	broken = map[string]string{
		"ordinary": quoted, "small letters": strings.ToLower(quoted), "blanks at soft breaks": strings.ReplaceAll(quoted, "=\r\n", "= \t\r\n"), "bare CR": strings.ReplaceAll(quoted, "=\r\n", "=\r"),
		"bare LF": strings.ReplaceAll(quoted, "=\r\n", "=\n"), "cut escape": quoted + "=4", "escape in two": strings.Replace(quoted, "=\r\n=", "==\r\n", 1), "plain": h.file,
		"soft breaks": strings.ReplaceAll(quoted, "=5", "=\r\n=5"), "not hex": quoted + "=ZZ",
	}
	for _, name := range slices.Sorted(maps.Keys(broken)) {
		h.add("M7d", "quoted-printable "+name, attached("Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: quoted-printable\r\n", broken[name]+"\r\n"))
	}
}

// names are names that only some programs find (M2 to M6), with the file in each
// of the ordinary encodings.
func (h *hostile) names() {
	for _, n := range hostileNames {
		for _, e := range []struct{ name, content string }{{"base64", h.base64()}, {"quoted-printable", h.quoted()}} {
			fields := strings.ReplaceAll(n.fields, "\n", "\r\n") + "\r\nContent-Transfer-Encoding: " + e.name + "\r\n"
			h.add(n.row, fmt.Sprintf("%q in %s", n.fields, e.name), attached(fields, e.content))
			h.all[len(h.all)-1].ByName = true
		}
	}
}
