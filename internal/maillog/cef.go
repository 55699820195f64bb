package maillog

import (
	"log/slog"
	"net/netip"
	"strconv"
	"strings"
)

// cef writes events for a SIEM: CEF:0|vendor|product|version|id|name|severity|
// and what it knows of the event by the names of the format; the rest by ours.
func cef(version string) render {
	return func(b []byte, e *event) []byte {
		b = append(b, "CEF:0|Gatepost|gatepost|"...)
		for _, s := range []string{version, strings.ReplaceAll(e.message, " ", "-"), e.message} {
			b = append(appendEscaped(b, s, `|\`), '|')
		}
		b = strconv.AppendInt(b, int64(cefSeverity(e)), 10)
		b = append(b, '|')
		if !e.time.IsZero() {
			b = append(b, "rt="...)
			b = append(strconv.AppendInt(b, e.time.UnixMilli(), 10), ' ')
		}
		for _, p := range e.pairs {
			for _, c := range cefPairs(p) {
				b = append(b, c.key...)
				b = append(b, '=')
				b = append(appendEscaped(b, c.value, `=\`), ' ')
			}
		}
		return b[:len(b)-1]
	}
}

// cefSeverity is 0 to 10.
func cefSeverity(e *event) int {
	switch e.get("action") {
	case "reject", "discard":
		return 6
	case "quarantine":
		return 5
	case "tempfail":
		return 4
	}
	switch {
	case e.level >= slog.LevelError:
		return 8
	case e.level >= slog.LevelWarn:
		return 5
	}
	return 2
}

// cefNames are the format's names for our keys.
var cefNames = map[string]string{
	"id": "externalId", "from": "suser", "to": "duser", "action": "act", "status": "outcome",
	"size": "fsize", "reason": "reason", "helo": "shost", "user": "suid", "error": "msg", "reply": "msg",
}

// cefPairs is what one of our attributes is there.
func cefPairs(p pair) []pair {
	if p.key == "client" { // "name[address]:port"
		name, rest, _ := strings.Cut(p.value, "[")
		address, _, _ := strings.Cut(rest, "]")
		if a, err := netip.ParseAddr(strings.TrimPrefix(address, "IPv6:")); err == nil {
			return []pair{{"src", a.String()}, {"sourceDnsDomain", name}}
		}
	}
	if name := cefNames[p.key]; name != "" {
		return []pair{{name, p.value}}
	}
	return []pair{{"gp" + cefKey(p.key), p.value}}
}

// cefKey keeps letters and digits: others end a key.
func cefKey(key string) string {
	up := true
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z' && up:
			up = false
			return r - 'a' + 'A'
		case r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9':
			up = false
			return r
		}
		up = true
		return -1
	}, key)
}
