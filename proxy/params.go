package proxy

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"gatepost/internal/mail"
)

// param is one ESMTP argument of MAIL or RCPT; key is in upper case.
type param struct {
	key, value string
	hasValue   bool
}

// parseParams splits what stands behind the path (RFC 5321 4.1.2). The second
// result is the refusal, zero for none.
func parseParams(s string) ([]param, mail.Reply) {
	var ps []param
	for word := range strings.SplitSeq(s, " ") {
		if word == "" {
			continue
		}
		key, value, has := strings.Cut(word, "=")
		p := param{key: strings.ToUpper(key), value: value, hasValue: has}
		if !isKeyword(key) || has && !isParamValue(value) {
			return nil, badParam("syntax error in a parameter")
		}
		for _, q := range ps {
			if q.key == p.key {
				return nil, badParam("a parameter is given twice")
			}
		}
		ps = append(ps, p)
	}
	return ps, mail.Reply{}
}

func badParam(text string) mail.Reply { return mail.Reply{Code: 501, Detail: "5.4", Text: text} }

func unknownParam() mail.Reply {
	return mail.Reply{Code: 555, Detail: "5.4", Text: "unknown parameter"}
}

func isKeyword(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isAlnum(s[i]) && (s[i] != '-' || i == 0) {
			return false
		}
	}
	return s != ""
}

func isParamValue(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] == '=' || s[i] == 0x7f {
			return false
		}
	}
	return s != "" && utf8.ValidString(s)
}

func isAlnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// mailParams checks the parameters of MAIL and returns those that travel with
// the sender, and whether SMTPUTF8 is among them.
func mailParams(ps []param, maxSize int64) (args []string, allowUTF8 bool, refusal mail.Reply) {
	for _, p := range ps {
		travels := true
		switch p.key {
		case "SIZE":
			refusal = checkSize(p, maxSize)
		case "BODY":
			// Not compared with the text: whether the next hop takes 8-bit
			// text is seen when it is sent.
			if !strings.EqualFold(p.value, "7BIT") && !strings.EqualFold(p.value, "8BITMIME") {
				refusal = badParam("BODY must be 7BIT or 8BITMIME")
			}
		case "SMTPUTF8":
			allowUTF8 = true
			if p.hasValue {
				refusal = badParam("SMTPUTF8 takes no value")
			}
		case "REQUIRETLS":
			if p.hasValue {
				refusal = badParam("REQUIRETLS takes no value")
			}
		case prdr:
			if p.hasValue {
				refusal = badParam("PRDR takes no value")
			}
		case "RET":
			if !strings.EqualFold(p.value, "FULL") && !strings.EqualFold(p.value, "HDRS") {
				refusal = badParam("RET must be FULL or HDRS")
			}
		case "ENVID":
			if v, ok := decodeXtext(p.value); !ok || len(p.value) > maxEnvID || !isPrintable(v) {
				refusal = badParam("syntax error in ENVID")
			}
		case "AUTH":
			// RFC 4954 5: from a client that we don't trust it means nothing,
			// and it must not reach anybody who would believe it.
			if !isAuthParam(p.value) {
				refusal = badParam("syntax error in AUTH")
			}
			travels = false
		default:
			refusal = unknownParam()
		}
		if !refusal.IsZero() {
			return nil, false, refusal
		}
		if travels {
			args = append(args, p.String())
		}
	}
	return args, allowUTF8, mail.Reply{}
}

// isAuthParam checks "<>" or an address as xtext (RFC 4954 5).
func isAuthParam(value string) bool {
	if value == "<>" {
		return true
	}
	text, ok := decodeXtext(value)
	if !ok || len(value) > maxORcpt {
		return false
	}
	_, err := mail.ParseAddress(text, true)
	return err == nil
}

// checkSize refuses early what would be refused later (RFC 1870 6.1).
func checkSize(p param, maxSize int64) mail.Reply {
	if p.value == "" || len(p.value) > 20 || !isDigits(p.value) {
		return badParam("syntax error in SIZE")
	}
	n, err := strconv.ParseInt(p.value, 10, 64)
	if err != nil || n > maxSize {
		return tooLarge(maxSize)
	}
	return mail.Reply{}
}

// Lengths of RFC 3461 4.2 and 4.4.
const (
	maxEnvID = 100
	maxORcpt = 500
)

// rcptParams checks the parameters of RCPT.
func rcptParams(ps []param, allowUTF8 bool) (args []string, refusal mail.Reply) {
	for _, p := range ps {
		switch {
		case p.key == "NOTIFY":
			if !isNotify(p.value) {
				return nil, badParam("syntax error in NOTIFY")
			}
		case p.key == "ORCPT":
			if !isORcpt(p.value, allowUTF8) {
				return nil, badParam("syntax error in ORCPT")
			}
		default:
			return nil, unknownParam()
		}
		args = append(args, p.String())
	}
	return args, mail.Reply{}
}

func (p param) String() string {
	if !p.hasValue {
		return p.key
	}
	return p.key + "=" + p.value
}

// isNotify checks NEVER alone, or a list without repetition (RFC 3461 4.1).
func isNotify(s string) bool {
	if strings.EqualFold(s, "NEVER") {
		return true
	}
	var seen [3]bool
	for word := range strings.SplitSeq(s, ",") {
		i := -1
		for k, name := range []string{"SUCCESS", "FAILURE", "DELAY"} {
			if strings.EqualFold(word, name) {
				i = k
			}
		}
		if i < 0 || seen[i] {
			return false
		}
		seen[i] = true
	}
	return true
}

// isORcpt checks addr-type ";" xtext (RFC 3461 4.2). What it stands for must
// hold no control character: it goes into notifications.
func isORcpt(s string, allowUTF8 bool) bool {
	kind, addr, ok := strings.Cut(s, ";")
	if !ok || !isKeyword(kind) || addr == "" || len(s) > maxORcpt {
		return false
	}
	if allowUTF8 && strings.EqualFold(kind, "utf-8") {
		// RFC 6533 3: UTF-8 as it is, "\x{…}" for what xtext would escape.
		return utf8.ValidString(addr) && mail.CleanText(addr) == addr
	}
	v, ok := decodeXtext(addr)
	return ok && isPrintable(v)
}

// decodeXtext reads xtext (RFC 3461 4): "+XX" stands for a byte.
func decodeXtext(s string) (string, bool) {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '+':
			if i+2 >= len(s) || !isUpperHex(s[i+1]) || !isUpperHex(s[i+2]) {
				return "", false
			}
			n, _ := strconv.ParseUint(s[i+1:i+3], 16, 8) // two hex digits always parse
			b = append(b, byte(n))
			i += 2
		case c <= ' ' || c >= 0x7f || c == '=':
			return "", false
		default:
			b = append(b, c)
		}
	}
	return string(b), s != ""
}

func isUpperHex(c byte) bool { return c >= '0' && c <= '9' || c >= 'A' && c <= 'F' }

func isPrintable(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func isDigits(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}
