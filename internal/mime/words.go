package mime

import (
	"encoding/base64"
	"slices"
	"strings"
	"unicode/utf8"
)

// values returns what programs take for the value of a parameter, that of most
// of them first. sure is how many of them the grammar gives.
func (s structured) values(key string) (all []string, sure int) {
	all = joinParams(s.params, key)
	sure = len(all)
	for _, v := range joinParams(s.loose, key) {
		all = with(all, v)
	}
	return all, sure
}

// joinParams puts the sections of a parameter together in each way that is in
// use, and decodes them. What RFC 2231 made comes before what is plain.
func joinParams(params []param, key string) []string {
	var plain, extended []string
	var sections []param
	for _, p := range params {
		switch {
		case p.name != key:
		case p.section >= 0:
			sections = append(sections, p)
		case p.extended:
			for _, v := range p.values {
				extended = with(extended, decodeExtended(v))
				plain = with(plain, v)
			}
		default:
			for _, v := range p.values {
				plain = with(plain, v)
			}
		}
	}
	var joined []string
	if len(sections) > 0 {
		sorted := slices.Clone(sections)
		slices.SortStableFunc(sorted, func(a, b param) int { return a.section - b.section })
		gapless := sorted[:1]
		for i := 1; i < len(sorted) && sorted[i].section <= sorted[i-1].section+1; i++ {
			gapless = sorted[:i+1]
		}
		for _, order := range [][]param{gapless, sorted, sections} {
			joined = with(joined, joinSections(order, false))
			joined = with(joined, joinSections(order, true))
		}
	}
	all := extended
	for _, v := range slices.Concat(joined, plain) {
		all = with(all, v)
	}
	return all
}

// joinSections decodes what is marked as encoded, or all of it.
func joinSections(sections []param, all bool) string {
	charset, encoded := "", false
	var raw strings.Builder
	for i, p := range sections {
		v := p.values[0]
		if p.extended && i == 0 {
			charset, v = cutCharset(v)
		}
		if p.extended || all {
			v, encoded = unpercent(v), true
		}
		if raw.Len() < maxHeader {
			raw.WriteString(v)
		}
	}
	if encoded {
		return toUTF8(charset, raw.String())
	}
	return raw.String()
}

// decodeExtended decodes charset'language'text (RFC 2231 4).
func decodeExtended(v string) string {
	charset, text := cutCharset(v)
	return toUTF8(charset, unpercent(text))
}

func cutCharset(v string) (charset, text string) {
	if charset, rest, ok := strings.Cut(v, "'"); ok {
		if _, text, ok := strings.Cut(rest, "'"); ok {
			return charset, text
		}
	}
	return "", v
}

// unpercent decodes what is well-formed and leaves the rest.
func unpercent(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			hi, lo := hexDigit(s[i+1]), hexDigit(s[i+2])
			if hi >= 0 && lo >= 0 {
				out.WriteByte(byte(hi<<4 | lo))
				i += 2
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

func hexDigit(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// toUTF8 decodes text of a header. Of a charset that is not known, bytes that
// are not UTF-8 are taken for those of Windows.
func toUTF8(charset, s string) string {
	if charset != "" {
		if t, ok := Text(charset, []byte(s)); ok {
			return string(t)
		}
	}
	if utf8.ValidString(s) {
		return s
	}
	t, _ := Text("windows-1252", []byte(s))
	return string(t)
}

// decodeWords decodes encoded words (RFC 2047) wherever they stand, in quotes
// and in the middle of a word too, as most programs do.
func decodeWords(s string) string {
	if !strings.Contains(s, "=?") {
		return toUTF8("", s)
	}
	var out strings.Builder
	rest, afterWord := s, false
	for {
		before, text, after, ok := cutWord(rest)
		if !ok {
			out.WriteString(rest)
			return toUTF8("", out.String())
		}
		if !afterWord || strings.Trim(before, " \t\r\n") != "" {
			out.WriteString(before)
		}
		out.WriteString(text)
		rest, afterWord = after, true
	}
}

// cutWord finds the first encoded word of s.
func cutWord(s string) (before, text, after string, ok bool) {
	for at := 0; ; {
		i := strings.Index(s[at:], "=?")
		if i < 0 {
			return "", "", "", false
		}
		i += at
		at = i + 2
		parts := strings.SplitN(s[i+2:min(len(s), i+2+4096)], "?", 3)
		if len(parts) < 3 || len(parts[1]) != 1 || len(parts[0]) > 60 {
			continue
		}
		coded, _, found := strings.Cut(parts[2], "?=")
		if !found {
			continue
		}
		charset, _, _ := strings.Cut(parts[0], "*") // RFC 2231 5
		switch parts[1] {
		case "b", "B":
			text = string(decodeLoose64(coded))
		case "q", "Q":
			text = unQ(coded)
		default:
			continue
		}
		end := i + 2 + len(parts[0]) + 1 + len(parts[1]) + 1 + len(coded) + 2
		return s[:i], toUTF8(charset, text), s[end:], true
	}
}

// unQ decodes the "Q" encoding.
func unQ(s string) string {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '_':
			out = append(out, ' ')
		case s[i] == '=' && i+2 < len(s) && hexDigit(s[i+1]) >= 0 && hexDigit(s[i+2]) >= 0:
			out = append(out, byte(hexDigit(s[i+1])<<4|hexDigit(s[i+2])))
			i += 2
		default:
			out = append(out, s[i])
		}
	}
	return string(out)
}

// decodeLoose64 decodes what is in the alphabet.
func decodeLoose64(s string) []byte {
	keep := strings.Map(func(r rune) rune {
		if r < 0x80 && isBase64Byte(byte(r)) {
			return r
		}
		return -1
	}, s)
	if len(keep)%4 == 1 {
		keep = keep[:len(keep)-1]
	}
	out, _ := base64.RawStdEncoding.DecodeString(keep)
	return out
}

func isBase64Byte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '+' || c == '/'
}
