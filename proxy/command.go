package proxy

import (
	"bytes"
	"errors"
	"strings"
)

// verb is an SMTP command.
type verb int

const (
	verbUnknown verb = iota
	verbForeign      // of another protocol
	verbHelo
	verbEhlo
	verbMail
	verbRcpt
	verbData
	verbBdat
	verbRset
	verbNoop
	verbQuit
	verbVrfy
	verbExpn
	verbHelp
	verbStarttls
	verbAuth
	verbXclient
)

// command is one command line. arg has no blanks around it.
type command struct {
	verb verb
	arg  string
	line string // all of it, where the verb is unknown
}

var (
	errNoCRLF  = errors.New("the line does not end in CRLF")
	errControl = errors.New("control character in the command")
)

// parseCommand reads a line as it came, LF included. The verb is set even where
// the line is refused: what follows may depend on it. lax accepts a bare LF at
// its end.
func parseCommand(line []byte, lax bool) (command, error) {
	text, ok := bytes.CutSuffix(line, []byte("\r\n"))
	if !ok {
		text = bytes.TrimSuffix(line, []byte("\n"))
	}
	word := text
	if i := bytes.IndexByte(text, ' '); i >= 0 {
		word = text[:i]
	}
	c := command{verb: verbOf(word)}
	if isForeignLine(text) {
		c.verb = verbForeign
	}
	if !ok && !lax {
		return c, errNoCRLF
	}
	for _, b := range text {
		if b < ' ' || b == 0x7f {
			return c, errControl
		}
	}
	c.arg = string(bytes.Trim(text[len(word):], " "))
	if c.verb == verbUnknown {
		c.line = string(text)
	}
	return c, nil
}

func verbOf(word []byte) verb {
	var up [8]byte
	if len(word) > len(up) {
		return verbUnknown
	}
	for i, b := range word {
		if b >= 'a' && b <= 'z' {
			b -= 'a' - 'A'
		}
		up[i] = b
	}
	switch string(up[:len(word)]) {
	case "HELO":
		return verbHelo
	case "EHLO":
		return verbEhlo
	case "MAIL":
		return verbMail
	case "RCPT":
		return verbRcpt
	case "DATA":
		return verbData
	case "BDAT":
		return verbBdat
	case "RSET":
		return verbRset
	case "NOOP":
		return verbNoop
	case "QUIT":
		return verbQuit
	case "VRFY":
		return verbVrfy
	case "EXPN":
		return verbExpn
	case "HELP":
		return verbHelp
	case "STARTTLS":
		return verbStarttls
	case "AUTH":
		return verbAuth
	case "XCLIENT":
		return verbXclient
	case "PROXY", "GET", "POST", "PUT", "HEAD", "CONNECT", "OPTIONS", "DELETE", "INVITE", "REGISTER":
		return verbForeign
	}
	return verbUnknown
}

// isForeignLine finds request lines of HTTP, RTSP and SIP with verbs we don't
// know, and binary protocols.
func isForeignLine(text []byte) bool {
	if len(text) > 0 && isForeign(text[0]) {
		return true
	}
	for _, proto := range []string{" HTTP/", " RTSP/", " SIP/"} {
		if i := bytes.LastIndex(text, []byte(proto)); i >= 0 && len(text)-i <= len(proto)+len("1.1") {
			return true
		}
	}
	return false
}

// splitPath cuts "FROM:<path> params" behind the path. Blanks before the "<"
// are common and harmless; anything else outside the brackets is refused.
func splitPath(arg, keyword string) (path, params string, ok bool) {
	if len(arg) < len(keyword) || !strings.EqualFold(arg[:len(keyword)], keyword) {
		return "", "", false
	}
	s := strings.TrimLeft(arg[len(keyword):], " ")
	if s == "" || s[0] != '<' {
		return "", "", false
	}
	end := pathEnd(s)
	if end < 0 {
		return "", "", false
	}
	path, params = s[1:end], s[end+1:]
	return path, params, params == "" || params[0] == ' '
}

// pathEnd finds the ">" that is not inside a quoted string, -1 for none.
func pathEnd(s string) int {
	quoted := false
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			if quoted {
				i++
			}
		case '"':
			quoted = !quoted
		case '>':
			if !quoted {
				return i
			}
		}
	}
	return -1
}
