package access

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"gatepost/internal/mail"
)

// Says is what the value of a line says.
type Says int8

// What a value may say.
const (
	OK         Says = iota
	RELAY           // accept, and relay
	REJECT          //
	DISCARD         // accept and drop
	SKIP            // ends the search for this item: nothing found
	QUARANTINE      // accept and hold
	ANSWER          // ERROR: or plain text
	FRIEND          // of Spam: wants all mail
	HATER           // of Spam: wants it checked
	NUMBER          // of GreetPause:, ClientRate: and ClientConn:
	REQUIRE         // of TLS_Clt:
)

// Value is the right side of a line.
type Value struct {
	Says       Says
	Text       string       // as written
	Reply      mail.Reply   // of ANSWER
	Number     int          // of NUMBER
	TLS        *Requirement // of REQUIRE
	Quarantine string       // the reason behind QUARANTINE:
}

// words are the values that stand for themselves.
var words = map[string]Says{
	"OK": OK, "RELAY": RELAY, "REJECT": REJECT, "DISCARD": DISCARD, "SKIP": SKIP, "FRIEND": FRIEND, "HATER": HATER,
}

// parseValue reads what stands behind the key. Any text that is no keyword is
// a reply, as in sendmail. Without skip SKIP is such text, too.
func parseValue(t Tag, s string, skip bool) (Value, error) {
	s = strings.ReplaceAll(s, "%%", "%") // makemap's literal percent
	upper := strings.ToUpper(s)
	if upper == "SKIP" && skip {
		return Value{Says: SKIP, Text: upper}, nil
	}
	switch t {
	case Spam:
		if upper != "FRIEND" && upper != "HATER" {
			return Value{}, fmt.Errorf("the tag Spam: takes FRIEND or HATER, not %q", s)
		}
		return Value{Says: words[upper], Text: upper}, nil
	case GreetPause, ClientRate, ClientConn:
		return parseNumber(t, s)
	case TLSClt:
		r, err := parseRequirement(s)
		return Value{Says: REQUIRE, Text: s, TLS: r}, err
	}
	switch upper {
	case "FRIEND", "HATER":
		return Value{}, fmt.Errorf("%s is a value of the tag Spam: alone; write Spam: before the key", upper)
	case "SUBJECT":
		return Value{}, errors.New("SUBJECT is for client certificates, which are not taken from this file; remove the line")
	}
	if says, ok := words[upper]; ok && says != SKIP {
		return Value{Says: says, Text: upper}, nil
	}
	if text, ok := cutKeyword(s, "QUARANTINE:"); ok {
		if text == "" {
			return Value{}, errors.New("QUARANTINE: has no text; write the reason behind it")
		}
		return Value{Says: QUARANTINE, Text: s, Quarantine: text}, nil
	}
	text, isError := cutKeyword(s, "ERROR:")
	detail := ""
	if isError {
		detail, text = cutEnhanced(text)
	}
	reply, err := parseReply(text, detail)
	return Value{Says: ANSWER, Text: s, Reply: reply}, err
}

const (
	maxPause = 300_000   // milliseconds; sendmail's own limit
	maxCount = 1_000_000 // more is a typing error
)

func parseNumber(t Tag, s string) (Value, error) {
	limit, unit := maxCount, "connections"
	if t == GreetPause {
		limit, unit = maxPause, "milliseconds"
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > limit || strconv.Itoa(n) != s {
		return Value{}, fmt.Errorf("%s takes a number of %s from 0 to %d, not %q", t, unit, limit, s)
	}
	return Value{Says: NUMBER, Text: s, Number: n}, nil
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
