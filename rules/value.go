package rules

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"gatepost/internal/mail"
)

// words are the values that stand for themselves, as they are written.
var words = map[string]keyword{
	"OK": saysOK, "RELAY": saysRelay, "REJECT": saysReject, "DISCARD": saysDiscard, "SKIP": saysSkip,
}

// parseValue reads what stands behind the key. Any text that is no keyword is
// a reply, as in sendmail.
func parseValue(s string) (entry, error) {
	s = strings.ReplaceAll(s, "%%", "%") // makemap's literal percent
	upper := strings.ToUpper(s)
	if says, ok := words[upper]; ok {
		return entry{says: says, value: upper}, nil
	}
	switch upper {
	case "FRIEND", "HATER", "SUBJECT":
		return entry{}, fmt.Errorf("the value %s is not built yet; remove the line", upper)
	}
	if text, ok := cutKeyword(s, "QUARANTINE:"); ok {
		if text == "" {
			return entry{}, errors.New("QUARANTINE: has no text; write the reason behind it")
		}
		return entry{says: saysQuarantine, value: s}, nil
	}
	text, isError := cutKeyword(s, "ERROR:")
	detail := ""
	if isError {
		detail, text = cutEnhanced(text)
	}
	reply, err := parseReply(text, detail)
	return entry{says: saysReply, value: s, reply: &reply}, err
}

// cutKeyword cuts a keyword in any case; without it, s is returned as it is.
func cutKeyword(s, keyword string) (string, bool) {
	if len(s) < len(keyword) || !strings.EqualFold(s[:len(keyword)], keyword) {
		return s, false
	}
	return strings.TrimSpace(s[len(keyword):]), true
}

// parseReply reads "[code [D.S.N]] text" as sendmail's buildaddr does: quotes
// are dropped, and without a code it is 553 5.3.0. detail is what stood before
// the text; one behind the code goes before it. The class of an enhanced code
// is always that of the code.
func parseReply(s, detail string) (mail.Reply, error) {
	noText := errors.New("the reply has no text; write one like 550 5.7.1 Go away")
	s = strings.TrimSpace(strings.ReplaceAll(s, `"`, ""))
	if s == "" {
		return mail.Reply{}, noText
	}
	if !hasCode(s) {
		return mail.Reply{Code: 553, Detail: cmp.Or(detail, "3.0"), Text: s}, nil
	}
	if s[0] != '4' && s[0] != '5' {
		return mail.Reply{}, fmt.Errorf("the code %s does not refuse; write one of 400 to 599, or OK", s[:3])
	}
	r, _ := mail.ParseReply(s)
	if strings.TrimSpace(r.Text) == "" {
		return mail.Reply{}, noText
	}
	r.Detail = cmp.Or(r.Detail, detail, "0.0")
	return r, nil
}

// cutEnhanced cuts "D.S.N:" of class 4 or 5 from the front of s and returns
// its S.N.
func cutEnhanced(s string) (detail, rest string) {
	front, rest, ok := strings.Cut(s, ":")
	if !ok || front == "" || front[0] != '4' && front[0] != '5' {
		return "", s
	}
	r, _ := mail.ParseReply(front[:1] + "00 " + front)
	if r.Detail == "" {
		return "", s
	}
	return r.Detail, rest
}

// hasCode reports whether s begins with three digits and a blank.
func hasCode(s string) bool {
	return len(s) > 3 && strings.Trim(s[:3], "0123456789") == "" && s[3] == ' '
}

// doubts names what is written rightly and means something else.
func doubts(e entry) error {
	if e.says != saysReply {
		return nil
	}
	text, isError := cutKeyword(e.value, "ERROR:")
	first, _, more := strings.Cut(text, " ")
	_, known := words[strings.ToUpper(strings.Trim(first, ":,;"))]
	switch {
	case !isError && (known || !more && first == strings.ToUpper(first)):
		return fmt.Errorf("%q is no keyword, so clients are refused with %q; a comment needs a line of its own", e.value, e.reply)
	case isError && text != "" && (text[0] == '4' || text[0] == '5') && e.reply.Enhanced()[0] != text[0]:
		return fmt.Errorf("%q: the code decides, so clients are told %q; make the two agree", e.value, e.reply)
	case e.reply.Code == 553 && len(text) >= 3 && strings.Trim(text[:3], "0123456789") == "" && !hasCode(text):
		return fmt.Errorf("%q has no code and a blank in front, so clients are refused with %q", e.value, e.reply)
	}
	return nil
}

// untagged counts the lines without a tag. They speak of clients, senders and
// recipients alike, which few authors mean.
type untagged struct {
	count int
	first int32
}

func (u *untagged) doubts(key string, e entry) error {
	if u.count++; u.count == 1 {
		u.first = e.line
	}
	if e.says != saysRelay && e.says != saysOK {
		return nil
	}
	return fmt.Errorf("%s %s has no tag: it holds for senders, too, who can be forged; write Connect: or To: before it", key, e.value)
}

func (u *untagged) summary(path string) error {
	if u.count == 0 {
		return nil
	}
	return fmt.Errorf("%s:%d: %d entries without a tag, this is the first; each holds for clients, senders and recipients", path, u.first, u.count)
}
