package attachments

import (
	"strings"
	"unicode"

	"gatepost/internal/mail"
)

// seen is a part as the lists look at it.
type seen struct {
	mail.Part
	names              []string // in lower case, as Windows would open them
	declared, detected string
}

func look(p mail.Part) *seen {
	s := &seen{Part: p, declared: bare(p.Declared), detected: bare(p.Detected)}
	for _, n := range p.Names {
		if n = plainName(n); n != "" {
			s.names = append(s.names, n)
		}
	}
	return s
}

const maxName = 1000 // octets of a name that are looked at, from its end

// plainName is what is left of a name when its file is written: no folders, no
// streams, no dots and blanks at the end, no invisible characters.
func plainName(n string) string {
	if len(n) > maxName {
		n = strings.ToValidUTF8(n[len(n)-maxName:], "")
	}
	n, _, _ = strings.Cut(n, "\x00")
	n = strings.ToLower(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return -1
		}
		return r
	}, n))
	n = n[strings.LastIndexAny(n, `/\`)+1:]
	n, _, _ = strings.Cut(n, "::$")
	return strings.TrimRight(n, ". \t")
}

// cutExtension cuts a name at its last dot, as "a.tar.gz" into "a.tar" and "gz".
// A name that only begins with a dot is one without an extension to Unix and all
// extension to Windows: the latter counts.
func cutExtension(n string) (before, ext string) {
	i := strings.LastIndexByte(n, '.')
	if i < 0 {
		return n, ""
	}
	return n[:i], strings.Trim(n[i+1:], " \t")
}

// endsInCLSID tells names like "a.txt.{00020420-0000-0000-c000-000000000046}",
// opened as what the ID says and shown without it.
func endsInCLSID(n string) bool {
	n = strings.TrimSuffix(n, "}")
	i := strings.LastIndexByte(n, '{')
	if i < 0 {
		return false
	}
	id := n[i+1:]
	if len(id) != 36 {
		return false
	}
	for i := range len(id) {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if id[i] != '-' {
				return false
			}
		} else if strings.IndexByte("0123456789abcdef", id[i]) < 0 {
			return false
		}
	}
	return true
}

// clean makes a name fit to be shown: without what turns the direction of text
// or hides in it, and not too long.
func clean(n string) string {
	n = strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Cf, r) {
			return -1
		}
		return r
	}, mail.CleanText(n))
	n = strings.ReplaceAll(strings.Join(strings.Fields(n), " "), `"`, "'")
	if r := []rune(n); len(r) > maxTitle {
		n = string(r[:maxTitle/2]) + "…" + string(r[len(r)-maxTitle/2:])
	}
	return n
}
