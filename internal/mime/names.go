package mime

import (
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

const (
	maxNames = 40
	maxName  = 1024
	fileName = 255 // what file systems take: the rest is cut off

	forbidden = `"<>|?*` // in names on Windows
)

// namesOf returns all names that a part may be shown under, that of most
// programs first, and behind them what becomes of them when they are cleaned.
func (w *walker) namesOf(h header) []string {
	var plain []string
	for _, source := range []struct{ field, key string }{{"content-disposition", "filename"}, {"content-disposition", "name"}, {"content-type", "name"}, {"content-type", "filename"}} {
		for _, f := range h.all(source.field) {
			values, _ := parseStructured(f.raw, source.key).values(source.key)
			for _, v := range values {
				plain = addName(plain, v)
			}
		}
	}
	if len(plain) == 0 {
		for _, f := range h.all("content-location") {
			plain = addName(plain, locationName(f.value))
		}
	}
	names := plain
	for _, n := range plain {
		for _, c := range CleanNames(n) {
			names = withName(names, c)
		}
	}
	if len(plain) > 1 && differ(plain) {
		w.ambiguous(NameDiffers)
	}
	return names
}

// locationName is the file that a URL names, "" where it names none.
func locationName(url string) string {
	url = strings.TrimSpace(url)
	if end := strings.IndexAny(url, "?#"); end >= 0 {
		url = url[:end]
	}
	if _, rest, ok := strings.Cut(url, "://"); ok {
		_, url, _ = strings.Cut(rest, "/") // without the host
	}
	return url[strings.LastIndexByte(url, '/')+1:]
}

// addName adds a name as written and with its encoded words decoded, once and
// again: some programs decode what they decoded.
func addName(names []string, v string) []string {
	v = strings.NewReplacer("\r", "", "\n", "").Replace(v)
	if len(v) > 16*maxName {
		v = v[:16*maxName]
	}
	decoded := decodeWords(v)
	for range 2 {
		if again := decodeWords(decoded); again != decoded {
			names = withName(names, decoded)
			decoded = again
		}
	}
	names = withName(names, decoded)
	if raw := toUTF8("", v); raw != decoded {
		names = withName(names, raw)
	}
	return names
}

func withName(names []string, v string) []string {
	if v == "" || len(names) >= maxNames || slices.Contains(names, v) {
		return names
	}
	return append(names, v)
}

// differ reports whether programs would open the part with different programs:
// several names with different extensions, encoded forms left aside.
func differ(names []string) bool {
	first := ""
	for _, n := range names {
		if strings.Contains(n, "=?") || strings.Contains(n, "%") || strings.Contains(n, "''") {
			continue
		}
		n = clean(n)
		ext := strings.ToLower(path.Ext(n))
		if ext == "" || len(ext) > 8 || strings.Contains(ext, " ") {
			continue
		}
		if first != "" && ext != first {
			return true
		}
		first = ext
	}
	return false
}

// CleanNames returns what programs and file systems make of a file name, beside
// the name itself: without path, without what can't be seen, without what is cut
// off at the end.
func CleanNames(name string) []string {
	var out []string
	add := func(s string) {
		if len(s) > maxName {
			out = withName(out, strings.ToValidUTF8(s[len(s)-fileName:], ""))
			s = strings.ToValidUTF8(s[:maxName], "")
		}
		if s != name {
			out = withName(out, s)
		}
	}
	c := clean(name)
	add(c)
	if before, _, ok := strings.Cut(name, "\x00"); ok { // the end of a string in C
		add(clean(before))
	}
	if before, _, ok := strings.Cut(c, ":"); ok && len(before) > 1 { // a stream of NTFS
		add(trimEnd(before))
	}
	if strings.Contains(c, "%") {
		add(clean(toUTF8("", unpercent(c))))
	}
	if len(c) > fileName {
		add(trimEnd(strings.ToValidUTF8(c[:fileName], "")))
		add(trimEnd(strings.ToValidUTF8(c[len(c)-fileName:], "")))
	}
	if s := strings.Join(strings.Fields(c), " "); s != c {
		add(s)
	}
	if strings.ContainsAny(c, forbidden) {
		add(trimEnd(strings.NewReplacer(`"`, "", "<", "", ">", "", "|", "", "?", "", "*", "").Replace(c)))
	}
	return out
}

// clean takes away the path, what can't be seen, and what Windows cuts off;
// letters in other shapes become the usual ones.
func clean(name string) string {
	if len(name) > 16*maxName {
		name = name[:16*maxName]
	}
	if !utf8.ValidString(name) {
		name = toUTF8("", name)
	}
	if isPlainASCII(name) {
		return trimEnd(name)
	}
	name = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r), r == '\u034f', r == '\u115f', r == '\u1160', r == '\u3164', r == utf8.RuneError:
			return -1
		case unicode.Is(unicode.Variation_Selector, r):
			return -1
		case unicode.IsSpace(r):
			return ' '
		case r == '\u2024', r == '\u3002', r == '\uff61': // dots
			return '.'
		case r == '\u2044', r == '\u2215', r == '\\':
			return '/'
		}
		return r
	}, norm.NFKC.String(name))
	if i := strings.LastIndexByte(strings.TrimRight(name, "/ ."), '/'); i >= 0 {
		name = name[i+1:]
	}
	return trimEnd(name)
}

func isPlainASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '/' || c == '\\' {
			return false
		}
	}
	return true
}

// trimEnd cuts off what Windows does, and the kind of a stream.
func trimEnd(name string) string {
	if i := strings.Index(asciiLower(name), "::$data"); i >= 0 {
		name = name[:i]
	}
	return strings.Trim(strings.TrimRight(name, " .\t"), " \t\"'")
}
