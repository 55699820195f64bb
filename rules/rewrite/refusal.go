package rewrite

import (
	"fmt"
	"strings"

	"gatepost/internal/mail"
)

// refusal reads what stands behind "error:": "keyword text", "keyword:text",
// "D.S.N:text" or "text". A text without a code has 553.
func refusal(s string) (mail.Reply, error) {
	class, detail := 0, "3.0"
	head, rest := s, ""
	if i := strings.IndexAny(s, ": "); i >= 0 {
		head, rest = s[:i], s[i+1:]
	}
	switch known, d, ok := status(head); {
	case ok:
		class, detail, s = known, d, rest
	case strings.HasPrefix(s[min(len(s), len(head)):], ":"):
		return mail.Reply{}, fmt.Errorf("error:%s: want an enhanced code like 5.1.1, or nouser, nohost, unavailable or tempfail", head)
	}
	s = strings.TrimSpace(strings.ReplaceAll(s, `"`, ""))
	if r, ok := mail.ParseReply(s); ok && r.Code >= 400 {
		if r.Detail == "" {
			r.Detail = detail
		}
		return r, nil
	}
	r := mail.Reply{Code: 553, Detail: detail, Text: s}
	if class == 4 {
		r.Code = 451
	}
	if r.Text == "" {
		r.Text = "User unknown"
	}
	return r, nil
}

func status(s string) (class int, detail string, ok bool) {
	switch strings.ToLower(s) {
	case "nouser":
		return 5, "1.1", true
	case "nohost":
		return 5, "1.2", true
	case "unavailable":
		return 5, "0.0", true
	case "tempfail":
		return 4, "3.0", true
	}
	for class, code := range map[int]string{5: "550 ", 4: "450 "} {
		if r, ok := mail.ParseReply(code + s); ok && r.Detail != "" && r.Text == "" {
			return class, r.Detail, true
		}
	}
	return 0, "", false
}
