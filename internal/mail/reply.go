package mail

import (
	"fmt"
	"strconv"
	"strings"
)

// Reply is what an SMTP client is told. The class of the enhanced status code
// (RFC 3463) is the first digit of Code, so the two can't disagree.
type Reply struct {
	Code   int    // 250, 451, 550, …; 0 is "none"
	Detail string // "7.1": subject and detail of the enhanced code; "" for none
	Text   string // may hold several lines, separated by "\n"
}

// IsZero reports whether there is no reply.
func (r Reply) IsZero() bool { return r.Code == 0 }

// Enhanced returns the enhanced status code, "5.7.1", or "".
func (r Reply) Enhanced() string {
	class := r.Code / 100
	if r.Detail == "" || class != 2 && class != 4 && class != 5 {
		return ""
	}
	return strconv.Itoa(class) + "." + r.Detail
}

// String is the reply on one line, for logs and reports.
func (r Reply) String() string {
	return strings.Join(strings.Fields(fmt.Sprintf("%d %s %s", r.Code, r.Enhanced(), CleanText(r.Text))), " ")
}

const maxReplyText = 400 // octets a line; RFC 5321 4.5.3.1.5 allows 512 with code and CRLF

// Wire returns the reply as it goes to the client, CRLFs included. Text is
// reduced to printable ASCII: it may quote a peer.
func (r Reply) Wire() []byte {
	lines := strings.Split(strings.ReplaceAll(r.Text, "\r\n", "\n"), "\n")
	var b []byte
	for i, line := range lines {
		sep := byte('-')
		if i == len(lines)-1 {
			sep = ' '
		}
		b = strconv.AppendInt(b, int64(r.Code), 10)
		b = append(b, sep)
		if e := r.Enhanced(); e != "" {
			b = append(b, e...)
			b = append(b, ' ')
		}
		b = append(b, printable(line)...)
		b = append(b, '\r', '\n')
	}
	return b
}

func printable(s string) string {
	if len(s) > maxReplyText {
		s = s[:maxReplyText]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// ParseReply reads "550 5.7.1 text" and "550 text". The enhanced code is kept
// only where its class agrees.
func ParseReply(s string) (Reply, bool) {
	if len(s) < 3 || !isDigits(s[:3]) || s[0] < '2' || s[0] > '5' || len(s) > 3 && s[3] != ' ' && s[3] != '-' {
		return Reply{}, false
	}
	code, _ := strconv.Atoi(s[:3])
	r := Reply{Code: code}
	if len(s) > 4 {
		r.Text = s[4:]
	}
	word, rest, _ := strings.Cut(r.Text, " ")
	if class, detail, ok := strings.Cut(word, "."); ok && class == s[:1] && isDetail(detail) {
		r.Detail, r.Text = detail, rest
	}
	return r, true
}

// isDetail checks "subject.detail", each of one to three digits (RFC 3463 2).
func isDetail(s string) bool {
	a, b, ok := strings.Cut(s, ".")
	return ok && isDigits(a) && isDigits(b) && len(a) <= 3 && len(b) <= 3
}
