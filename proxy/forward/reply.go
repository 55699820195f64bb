package forward

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"gatepost/internal/mail"
)

// Limits on a reply. RFC 5321 4.5.3.1.5 has 512 octets for a line; no server
// in use says as much as this.
const (
	maxReplyLine  = 4 << 10
	maxReplySize  = 64 << 10
	maxReplyLines = 100
	maxReplyText  = 2000 // of what is kept
)

// readReply reads one reply of one or more lines (RFC 5321 4.2): three digits,
// the same on every line. The buffer of in must be maxReplyLine.
func readReply(in *bufio.Reader) (mail.Reply, error) {
	var reply mail.Reply
	var text strings.Builder
	size := 0
	for n := 0; n < maxReplyLines; n++ {
		line, err := readReplyLine(in)
		if err != nil {
			return mail.Reply{}, err
		}
		if size += len(line); size > maxReplySize {
			break
		}
		r, ok := mail.ParseReply(line)
		if !ok {
			return mail.Reply{}, protocolError(fmt.Sprintf("not a reply: %.60q", line))
		}
		if n == 0 {
			reply = r
		} else if r.Code != reply.Code {
			return mail.Reply{}, protocolError(fmt.Sprintf("a reply of both %d and %d", reply.Code, r.Code))
		} else {
			text.WriteByte('\n')
		}
		text.WriteString(r.Text)
		if len(line) == 3 || line[3] == ' ' {
			reply.Text = text.String()
			return reply, nil
		}
	}
	return mail.Reply{}, protocolError("an endless reply")
}

// readReplyLine reads a line without its end. A bare LF will do: nothing can be
// smuggled to us in a reply.
func readReplyLine(in *bufio.Reader) (string, error) {
	line, err := in.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return "", protocolError("an endless line")
	case err == io.EOF && len(line) > 0:
		return "", io.ErrUnexpectedEOF
	case err != nil:
		return "", err
	}
	return strings.TrimSuffix(string(line[:len(line)-1]), "\r"), nil
}

// bounded is a reply as it is kept.
func bounded(r mail.Reply) mail.Reply {
	if len(r.Text) > maxReplyText {
		r.Text = r.Text[:maxReplyText]
	}
	r.Text = strings.ToValidUTF8(r.Text, "?")
	return r
}

// extensions are what a next hop offered in answer to EHLO.
type extensions struct {
	pipelining, size, eightBit, utf8, dsn, startTLS bool
	requireTLS                                      bool
	maxSize                                         int64    // 0: none given
	auth                                            []string // mechanisms
	xclient, xforward                               []string // attributes
}

func parseExtensions(text string) extensions {
	var e extensions
	_, text, _ = strings.Cut(text, "\n") // the first line is a greeting
	for line := range strings.SplitSeq(text, "\n") {
		keyword, args, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch strings.ToUpper(keyword) {
		case "PIPELINING":
			e.pipelining = true
		case "SIZE":
			e.size, e.maxSize = true, parseSize(args)
		case "8BITMIME":
			e.eightBit = true
		case "SMTPUTF8":
			e.utf8 = true
		case "DSN":
			e.dsn = true
		case "STARTTLS":
			e.startTLS = true
		case "REQUIRETLS":
			e.requireTLS = true
		case "AUTH":
			e.auth = strings.Fields(strings.ToUpper(args))
		case "XCLIENT":
			e.xclient = strings.Fields(args)
		case "XFORWARD":
			e.xforward = strings.Fields(args)
		}
	}
	return e
}
