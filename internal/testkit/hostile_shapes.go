package testkit

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
)

// boundaries are multiparts that programs split at different places (M8).
func (h *hostile) boundaries() {
	for _, b := range []struct{ field, used string }{
		{`multipart/mixed; boundary="abc "`, "abc "}, {`multipart/mixed; boundary="abc "`, "abc"}, {`multipart/mixed; boundary=" abc"`, "abc"}, {`multipart/mixed; boundary=abc(c)`, "abc"},
		{`multipart/mixed; boundary=abc(c)`, "abc(c)"}, {`multipart/mixed; boundary=(c)abc`, "abc"}, {`multipart/mixed; boundary="abc" def`, "abc"}, {`multipart/mixed; boundary="abc"def`, "abcdef"},
		{`multipart/mixed; boundary=abc def`, "abc"}, {`multipart/mixed; boundary=abc def`, "abc def"}, {`multipart/mixed; boundary="abc`, "abc"}, {`multipart/mixed; boundary="abc; x=y`, "abc; x=y"},
		{`multipart/mixed; boundary="abc; x=y`, "abc"}, {`multipart/mixed; boundary=abc"`, "abc"}, {`multipart/mixed; boundary='abc'`, "abc"}, {`multipart/mixed; boundary='abc'`, "'abc'"},
		{`multipart/mixed; boundary="a\bc"`, "abc"}, {`multipart/mixed; boundary="a\bc"`, `a\bc`}, {`multipart/mixed; boundary="a\"bc"`, `a"bc`}, {`multipart/mixed; boundary="a;bc"`, "a;bc"}, {`multipart/mixed; boundary=a;bc`, "a"},
		{`multipart/mixed; boundary="=?us-ascii?q?abc?="`, "abc"}, {`multipart/mixed; boundary="=?us-ascii?q?abc?="`, "=?us-ascii?q?abc?="}, {`multipart/mixed; boundary*=us-ascii''abc`, "abc"},
		{`multipart/mixed; boundary*=us-ascii''abc`, "us-ascii''abc"}, {`multipart/mixed; boundary*0=ab; boundary*1=c`, "abc"}, {`multipart/mixed; boundary*1=c; boundary*0=ab`, "abc"}, {`multipart/mixed; boundary*0=ab; boundary*2=c`, "abc"},
		{`multipart/mixed; boundary*0*=''a%62c`, "abc"}, {`multipart/mixed; boundary="a%62c"`, "a%62c"}, {"multipart/mixed; boundary=\"ab\r\n c\"", "ab c"}, {"multipart/mixed; boundary=\"ab\r\n c\"", "abc"}, {"multipart/mixed; boundary=\"abc\x00\"", "abc"},
		{"multipart/mixed; boundary=\"abc\x00def\"", "abc"}, {`multipart/mixed; boundary=""`, ""}, {`multipart/mixed; boundary=`, ""}, {`multipart/mixed`, "abc"}, {`multipart/mixed;`, "abc"}, {`multipart/mixed; charset=utf-8`, "abc"},
		{`multipart/mixed boundary=abc`, "abc"}, {`multipart/mixed, boundary=abc`, "abc"}, {`multipart/mixed; x=y boundary=abc`, "abc"}, {`multipart/mixed; x="boundary=abc"`, "abc"}, {`multipart/mixed; boundary:abc`, "abc"},
		{`multipart / mixed; boundary=abc`, "abc"}, {`"multipart/mixed"; boundary=abc`, "abc"}, {`multipart; boundary=abc`, "abc"}, {`multipart/; boundary=abc`, "abc"}, {`(c) multipart/mixed; boundary=abc`, "abc"}, {`multi(c)part/mixed; boundary=abc`, "abc"},
		{`multipart/x-unknown; boundary=abc`, "abc"}, {`MULTIPART/MIXED; BOUNDARY=abc`, "abc"}, {`text/plain; boundary=abc`, "abc"}, {`x multipart/mixed; boundary=abc`, "abc"}, {`; boundary=abc`, "abc"}, {`boundary=abc`, "abc"},
		{`multipart/mixed; boundary="` + strings.Repeat("b", 71) + `"`, strings.Repeat("b", 71)}, {`multipart/mixed; boundary="` + strings.Repeat("b", 300) + `"`, strings.Repeat("b", 70)},
		{`multipart/mixed; boundary="` + strings.Repeat("b", 3000) + `"`, strings.Repeat("b", 3000)}, {`multipart/mixed; boundary="` + strings.Repeat("b", 5000) + `"`, strings.Repeat("b", 5000)}, {`multipart/mixed; boundary="abc--"`, "abc--"}, {`multipart/mixed; boundary="--abc"`, "--abc"}, {`multipart/mixed; boundary="--abc"`, "abc"},
	} {
		h.add("M8", fmt.Sprintf("%.60q, used %.20q", b.field, b.used), mixed("Content-Type: "+b.field+"\r\n", b.used, hostileText, h.part()))
	}
}

// delimiters are lines and ends of headers that count for some programs only
// (M8, M9).
func (h *hostile) delimiters() {
	open := func(line string) string { // the delimiter of the second part
		return hostileTop + ordinaryType + "\r\n--abc\r\n" + hostileText + line + "\r\n" + h.part() + "--abc--\r\n"
	}
	for _, line := range []string{"--abcd", "--abc ", "--abc\t", "--abc \t ", "--abc x", "--abc\x00", "-abc", "abc", " --abc", "\t--abc", "---abc", "--ABC", "--abc\r", "x\r--abc", "--abc--\r\n--abc", "--abc--", "--abc-- ", "--abc-", "--abc;", "\x00--abc", "--abc--x", "--abc--\r\n\r\n--abc"} {
		h.add("M8", fmt.Sprintf("delimiter %q", line), open(line))
	}
	preamble, epilogue := h.part(), h.part()
	h.add("M8", "preamble", hostileTop+ordinaryType+"\r\n"+preamble+"--abc\r\n"+hostileText+"--abc--\r\n")
	h.add("M8", "preamble without header", hostileTop+ordinaryType+"\r\n"+h.base64()+h.base64()+"--abc\r\n"+hostileText+"--abc--\r\n")
	h.add("M8", "epilogue", mixed(ordinaryType, "abc", hostileText)+epilogue)
	h.add("M8", "epilogue with other delimiters", mixed(ordinaryType, "abc", hostileText)+body("xyz", h.part()))
	h.add("M8", "early close", hostileTop+ordinaryType+"\r\n--abc\r\n"+hostileText+"--abc--\r\n--abc\r\n"+h.part()+"--abc--\r\n")
	h.add("M8", "close at first", hostileTop+ordinaryType+"\r\n--abc--\r\n--abc\r\n"+hostileText+"--abc\r\n"+h.part()+"--abc--\r\n")
	h.add("M8", "no close", hostileTop+ordinaryType+"\r\n--abc\r\n"+hostileText+"--abc\r\n"+h.part())
	h.add("M8", "no line end at the end", hostileTop+ordinaryType+"\r\n--abc\r\n"+hostileText+"--abc\r\n"+strings.TrimRight(h.part(), "\r\n"))
	inner := func(outer, boundary string) string {
		return mixed("Content-Type: multipart/mixed; boundary=\""+outer+"\"\r\n", outer, hostileText, "Content-Type: multipart/mixed; boundary=\""+boundary+"\"\r\n\r\n"+body(boundary, hostileText, h.part()))
	}
	h.add("M8", "inner boundary is the outer", inner("abc", "abc"))
	h.add("M8", "inner boundary begins with the outer", inner("abc", "abcd"))
	h.add("M8", "outer boundary begins with the inner", inner("abcd", "abc"))
	h.add("M8", "inner part behind the outer close", mixed(ordinaryType, "abc", "Content-Type: multipart/mixed; boundary=xyz\r\n\r\n--xyz\r\n"+hostileText)+"--xyz\r\n"+h.part()+"--xyz--\r\n")
	h.add("M8", "inner delimiter in another part", mixed(ordinaryType, "abc", "Content-Type: multipart/mixed; boundary=xyz\r\n\r\n--xyz\r\n"+hostileText, hostileText+"--xyz\r\n"+h.part()))
	h.add("M8", "undeclared", hostileTop+"\r\n"+body("abc", hostileText, h.part()))
	h.add("M8", "undeclared, without MIME-Version", strings.Replace(hostileTop, "MIME-Version: 1.0\r\n", "", 1)+"\r\n"+body("abc", hostileText, h.part()))
	h.add("M8", "encoded multipart", hostileTop+ordinaryType+hostileB64+"\r\n"+base64.StdEncoding.EncodeToString([]byte(body("abc", hostileText, h.part())))+"\r\n")
	h.add("M8", "multipart said to be base64", hostileTop+ordinaryType+hostileB64+"\r\n"+body("abc", hostileText, h.part()))
	h.add("M8", "encoded inner multipart", mixed(ordinaryType, "abc", hostileText, "Content-Type: multipart/mixed; boundary=xyz\r\n"+hostileB64+"\r\n"+base64.StdEncoding.EncodeToString([]byte(body("xyz", h.part())))+"\r\n"))
	for _, end := range []string{"\r\n\r\n", "\n\n", "\r\n\n", "\n\r\n", "\r\r\n\r\r\n", "\r\n\r\r\n", "\r\n \r\n", "\r\n\t\r\n", "\r\n\x00\r\n", "\r\n\r", "\r\r", "\r\n \r\n\r\n", "\r\nx\r\n\r\n", "\r\n\x0b\r\n", "\r\n\x0c\r\n\r\n", "\r\n\xa0\r\n"} {
		for _, fields := range []string{"Content-Type: application/octet-stream" + "\r\n" + hostileName + "Content-Transfer-Encoding: base64", "Content-Transfer-Encoding: base64\r\n" + strings.TrimRight(hostileName, "\r\n") + end + "X-Y: z"} {
			h.add("M9", fmt.Sprintf("end of header %q behind %.25q", end, fields), attached(fields+end+h.base64(), ""))
		}
	}
	for _, line := range []string{"no field\r\n", "\x00\r\n", ": x\r\n", "=\r\n", ">From x\r\n", "\xef\xbb\xbf"} {
		h.add("M9", fmt.Sprintf("line %q first", line), attached(line+"Content-Type: application/octet-stream\r\n"+hostileB64+hostileName, h.base64()))
		h.add("M9", fmt.Sprintf("line %q between", line), attached("Content-Type: application/octet-stream\r\n"+line+hostileB64+hostileName, h.base64()))
	}
	h.add("M9", "header with LF alone", attached(strings.ReplaceAll("Content-Type: application/octet-stream\r\n"+hostileB64+hostileName, "\r\n", "\n"), h.base64()))
	h.add("M9", "part with LF alone", attached("", "")+strings.ReplaceAll("--abc\r\n"+h.part()+"--abc--\r\n", "\r\n", "\n"))
	h.add("M9", "part with CR alone", attached("", "")+strings.ReplaceAll("--abc\r\n"+h.part()+"--abc--\r\n", "\r\n", "\r"))
}

// shapes are other places for a file (M6, M10, M12).
func (h *hostile) shapes() {
	for _, depth := range []int{10, 40, 101} {
		nested, message := h.part(), hostileTop+strings.TrimPrefix(h.part(), "")
		for i := range depth {
			b := fmt.Sprintf("b%d.", i)
			nested = "Content-Type: multipart/mixed; boundary=\"" + b + "\"\r\n\r\n" + body(b, nested)
			message = "Subject: x\r\nContent-Type: message/rfc822\r\n\r\n" + message
		}
		h.add("M10", fmt.Sprintf("%d multiparts deep", depth), hostileTop+nested)
		h.add("M10", fmt.Sprintf("%d messages deep", depth), message)
	}
	h.add("M10", "behind 2000 empty parts", hostileTop+ordinaryType+"\r\n"+strings.Repeat("--abc\r\n\r\n", 2000)+"--abc\r\n"+h.part()+"--abc--\r\n")
	uu := uuencode("invoice.exe", []byte(h.file))
	h.add("M12", "uuencode in text", mixed(ordinaryType, "abc", hostileText+uu))
	h.add("M12", "uuencode at the top", "From: a@example.net\r\nSubject: x\r\n\r\nhello\r\n\r\n"+uu)
	h.add("M12", "uuencode with more blanks", "From: a@example.net\r\n\r\n"+strings.Replace(uu, "begin 644 ", "begin  644  ", 1))
	h.add("M12", "uuencode with another mode", "From: a@example.net\r\n\r\n"+strings.Replace(uu, "begin 644 ", "begin 100755 ", 1))
	h.add("M12", "uuencode without end", "From: a@example.net\r\n\r\n"+strings.Replace(uu, "end\r\n", "", 1))
	h.add("M12", "begin-base64", "From: a@example.net\r\n\r\nbegin-base64 644 invoice.exe\r\n"+h.base64()+"====\r\n")
	h.add("M12", "uuencode as encoding", attached("Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: x-uuencode\r\n", uu))
	h.add("M12", "uuencode in base64", attached("Content-Type: text/plain\r\n"+hostileB64, base64.StdEncoding.EncodeToString([]byte(uu))+"\r\n"))
	h.add("M12", "yEnc", "From: a@example.net\r\n\r\n"+yenc("invoice.exe", []byte(h.file)))
	h.add("M12", "BinHex", "From: a@example.net\r\n\r\n(This file must be converted with BinHex 4.0)\r\n\r\n"+binhex("invoice.exe", []byte(h.file)))
	h.add("M12", "without MIME-Version", strings.Replace(attached("Content-Type: application/octet-stream\r\n"+hostileB64+hostileName, h.base64()), "MIME-Version: 1.0\r\n", "", 1))
	h.add("M12", "text/plain in base64", attached("Content-Type: text/plain\r\n"+hostileB64, h.base64()))
	h.add("M12", "image/png", attached("Content-Type: image/png\r\n"+hostileB64, h.base64()))
	h.add("M12", "alone", hostileTop+h.part())
	h.add("M12", "message/rfc822", attached("Content-Type: message/rfc822\r\n", hostileTop+h.part()))
	h.add("M12", "message/rfc822 in base64", attached("Content-Type: message/rfc822\r\n"+hostileB64, base64.StdEncoding.EncodeToString([]byte(hostileTop+h.part()))+"\r\n"))
	h.add("M12", "message/global", attached("Content-Type: message/global\r\n", hostileTop+h.part()))
	h.add("M12", "message/partial", hostileTop+"Content-Type: message/partial; id=x; number=1; total=2\r\n\r\n"+hostileTop+h.part())
	h.add("M12", "message/partial 2", hostileTop+"Content-Type: message/partial; id=x; number=2; total=2\r\n\r\n"+h.base64())
	h.add("M12", "message/external-body", attached("Content-Type: message/external-body; access-type=URL; URL=\"http://example.net/invoice.exe\"\r\n", "Content-Type: application/octet-stream; name=invoice.exe\r\n\r\n"))
	h.add("M12", "digest without type", mixed("Content-Type: multipart/digest; boundary=\"abc\"\r\n", "abc", "\r\n"+hostileTop+h.part()))
	h.add("M12", "an .eml", attached("Content-Type: application/octet-stream; name=x.eml\r\n"+hostileB64, base64.StdEncoding.EncodeToString([]byte(hostileTop+h.part()))+"\r\n"))
	h.add("M12", "winmail.dat", attached("Content-Type: application/ms-tnef; name=winmail.dat\r\n"+hostileB64, base64.StdEncoding.EncodeToString(tnef("invoice.exe", []byte(h.file)))+"\r\n"))
	h.add("M12", "winmail.dat with another type", attached("Content-Type: image/png\r\n"+hostileB64, base64.StdEncoding.EncodeToString(tnef("invoice.exe", []byte(h.file)))+"\r\n"))
}

func uuencode(name string, data []byte) string {
	var b strings.Builder
	digit := func(v byte) byte {
		if v &= 0x3f; v == 0 {
			return '`'
		}
		return v + ' '
	}
	b.WriteString("begin 644 " + name + "\r\n")
	for len(data) > 0 {
		line := data[:min(45, len(data))]
		data = data[len(line):]
		b.WriteByte(digit(byte(len(line))))
		for len(line) > 0 {
			var g [3]byte
			n := copy(g[:], line)
			line = line[n:]
			b.Write([]byte{digit(g[0] >> 2), digit(g[0]<<4 | g[1]>>4), digit(g[1]<<2 | g[2]>>6), digit(g[2])})
		}
		b.WriteString("\r\n")
	}
	return b.String() + "`\r\nend\r\n"
}

func yenc(name string, data []byte) string {
	var b strings.Builder
	fmt.Fprintf(&b, "=ybegin line=128 size=%d name=%s\r\n", len(data), name)
	for _, c := range data {
		switch c += 42; c {
		case 0, '\n', '\r', '=':
			b.WriteByte('=')
			c += 64
		}
		b.WriteByte(c)
	}
	return b.String() + "\r\n=yend size=0\r\n"
}

func binhex(name string, data []byte) string {
	var raw bytes.Buffer
	raw.WriteByte(byte(len(name)))
	raw.WriteString(name + "\x00TEXTttxt\x00\x00")
	binary.Write(&raw, binary.BigEndian, uint32(len(data)))
	raw.Write(make([]byte, 4+2))
	raw.Write(bytes.ReplaceAll(data, []byte{0x90}, []byte{0x90, 0}))
	raw.Write(make([]byte, 4))
	const digits = "!\"#$%&'()*+,-012345689@ABCDEFGHIJKLMNPQRSTUVXYZ[`abcdefhijklmpqr"
	out := base64.NewEncoding(digits).WithPadding(base64.NoPadding).EncodeToString(raw.Bytes())
	var b strings.Builder
	for out = ":" + out + ":"; len(out) > 64; out = out[64:] {
		b.WriteString(out[:64] + "\r\n")
	}
	return b.String() + out + "\r\n"
}

// tnef is a winmail.dat with one attachment.
func tnef(name string, data []byte) []byte {
	var b bytes.Buffer
	put := func(v any) { binary.Write(&b, binary.LittleEndian, v) }
	attribute := func(level byte, id uint32, data []byte) {
		put(level)
		put(id)
		put(uint32(len(data)))
		b.Write(data)
		var sum uint16
		for _, c := range data {
			sum += uint16(c)
		}
		put(sum)
	}
	put(uint32(0x223e9f78))
	put(uint16(1))
	attribute(1, 0x00089006, []byte{0, 0, 1, 0})
	attribute(2, 0x00069002, make([]byte, 14)) // attAttachRenddata
	attribute(2, 0x00018010, []byte(name+"\x00"))
	attribute(2, 0x0006800f, data)
	return b.Bytes()
}
