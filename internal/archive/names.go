package archive

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
)

const (
	maxName  = 1024 // bytes of one name; of longer ones both ends are kept
	maxNames = 16   // of one file
	maxTold  = 64   // of what is told of one archive
)

// finishEntry fills in what is the same for all kinds, and tells names that
// unpackers treat in different ways.
func (x *box) finishEntry(e *Entry) {
	e.Kind, e.Depth = x.kind, x.depth
	var names []string
	for _, n := range e.Names {
		if n = cutName(n); n != "" && !slices.Contains(names, n) && len(names) < maxNames {
			names = append(names, n)
		}
	}
	if len(names) == 0 {
		names = []string{"unnamed"}
	}
	for _, n := range names {
		if why := oddName(n); why != "" {
			x.tell(&x.res.Ambiguous, x.name+"/"+n, "%s", why)
		}
	}
	e.Names, e.Path = names, x.name+"/"+names[0]
}

// oddName says why unpackers do not agree what a name means.
func oddName(n string) string {
	slashed := strings.ReplaceAll(n, `\`, "/")
	switch {
	case strings.HasPrefix(slashed, "/"), len(n) > 1 && n[1] == ':':
		return "an absolute name"
	case slices.Contains(strings.Split(slashed, "/"), ".."):
		return "a name that leads out of the archive"
	case strings.ContainsFunc(n, unicode.IsControl):
		return "control characters in a name"
	}
	return ""
}

// cutName keeps both ends of a name that is too long for any file system.
func cutName(n string) string {
	n = strings.ToValidUTF8(n, "\uFFFD")
	if len(n) <= maxName {
		return n
	}
	return strings.ToValidUTF8(n[:maxName/2]+"…"+n[len(n)-maxName/2:], "")
}

// decodeName gives the readings of a name whose character set nobody wrote down.
func decodeName(raw []byte, isUTF8 bool) []string {
	ascii := !slices.ContainsFunc(raw, func(c byte) bool { return c >= 0x80 })
	if ascii || isUTF8 && utf8.Valid(raw) {
		return []string{string(raw)}
	}
	old, err := charmap.CodePage437.NewDecoder().Bytes(raw)
	if err != nil {
		old = raw
	}
	if utf8.Valid(raw) {
		return []string{string(raw), string(old)}
	}
	return []string{string(old)}
}

// without gives the name that a file has when its compression is taken off:
// "a.tar" for "a.tgz".
func without(name string) string {
	base := path.Base(strings.ReplaceAll(name, `\`, "/"))
	ext := path.Ext(base)
	switch strings.ToLower(ext) {
	case ".tgz", ".tbz", ".tbz2", ".txz", ".tzst", ".tlz":
		return strings.TrimSuffix(base, ext) + ".tar"
	case ".gz", ".bz2", ".xz", ".zst", ".lzma", ".z", ".bz", ".zstd":
		return strings.TrimSuffix(base, ext)
	}
	return base
}

func (x *box) unseen(format string, args ...any) {
	x.tell(&x.res.Unseen, x.name, format, args...)
}

func (x *box) ambiguous(format string, args ...any) {
	x.tell(&x.res.Ambiguous, x.name, format, args...)
}

// tell adds a reason, once, and not without end: the first ones decide.
func (x *box) tell(to *[]string, path, format string, args ...any) {
	text := visible(path + ": " + fmt.Sprintf(format, args...))
	if len(*to) < maxTold && !slices.Contains(*to, text) {
		*to = append(*to, text)
	}
}

// visible takes control characters out of a text and cuts it.
func visible(s string) string {
	return cutName(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '\uFFFD'
		}
		return r
	}, s))
}

// merge takes over what a nested archive had to say.
func (x *box) merge(sub Result) {
	x.res.Encrypted = x.res.Encrypted || sub.Encrypted
	for _, s := range sub.Ambiguous {
		if len(x.res.Ambiguous) < maxTold && !slices.Contains(x.res.Ambiguous, s) {
			x.res.Ambiguous = append(x.res.Ambiguous, s)
		}
	}
	for _, s := range sub.Unseen {
		if len(x.res.Unseen) < maxTold && !slices.Contains(x.res.Unseen, s) {
			x.res.Unseen = append(x.res.Unseen, s)
		}
	}
}
