package mailq

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// control is a queue file of sendmail (qf): one line for each fact, which begins
// with its letter.
type control struct {
	sender     string
	flags      string // of line F: "r" a bounce or a receipt
	protocol   string // $r: "" where no client gave it to sendmail
	client     string // $_
	quarantine string
	dataDir    string // line d: its body is in another queue
	created    time.Time
	recipients []string // at most two, which is one more than a bounce has
	header     string   // without sendmail's conditions
}

const (
	maxQF      = 4 << 20
	minVersion = 2
)

var (
	errNoEnd     = errors.New("its queue file has no end")
	errTooLongQF = errors.New("its queue file is longer than any bounce needs")
)

// readQF reads a queue file (sendmail's Operations Guide, appendix B). What it
// does not understand makes the whole file bad: half a truth deletes no mail.
func readQF(r io.Reader) (control, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return control{}, fmt.Errorf("mailq: queue file: %w", err)
	}
	if len(b) > maxQF {
		return control{}, errTooLongQF
	}
	var c control
	var header strings.Builder
	seen := map[byte]bool{}
	rest := string(b)
	for {
		var line string
		var more bool
		line, rest, more = cutLine(rest)
		if !more {
			return control{}, errNoEnd
		}
		if line == "." {
			break
		}
		if line == "" {
			return control{}, errors.New("its queue file has an empty line")
		}
		if line[0] == 'H' {
			header.WriteString(withoutCondition(line[1:]) + "\n")
			continue
		}
		if err := c.line(line); err != nil {
			return control{}, err
		}
		seen[line[0]] = true
	}
	c.header = header.String()
	if !seen['V'] || !seen['S'] || !seen['T'] || strings.TrimSpace(rest) != "" {
		return control{}, errors.New("its queue file is not complete")
	}
	return c, nil
}

// cutLine takes one line with its continuations.
func cutLine(s string) (line, rest string, ok bool) {
	end := 0
	for {
		i := strings.IndexByte(s[end:], '\n')
		if i < 0 {
			return "", "", false
		}
		end += i + 1
		if end == len(s) || s[end] != ' ' && s[end] != '\t' {
			return s[:end-1], s[end:], true
		}
	}
}

// line reads a line that is not of the header.
func (c *control) line(line string) error {
	value := line[1:]
	switch line[0] {
	case 'V':
		version, err := strconv.Atoi(strings.TrimSpace(value))
		if err != nil || version < minVersion {
			return fmt.Errorf("its queue file has version %.20q", value)
		}
	case 'T':
		seconds, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
		if err != nil {
			return fmt.Errorf("its queue file has time %.20q", value)
		}
		c.created = time.Unix(seconds, 0)
	case 'S':
		c.sender = value
	case 'F':
		c.flags += value
	case 'q':
		c.quarantine = value
	case 'd':
		c.dataDir = value
	case 'R':
		_, address, found := strings.Cut(value, ":") // behind flags
		if !found {
			address = value
		}
		if len(c.recipients) < 2 {
			c.recipients = append(c.recipients, strings.Trim(address, "<>"))
		}
	case '$':
		switch {
		case strings.HasPrefix(value, "r"):
			c.protocol = value[1:]
		case strings.HasPrefix(value, "_"):
			c.client = value[1:]
		}
	case 'A', 'B', 'C', 'E', 'I', 'K', 'M', 'N', 'P', 'Q', 'X', 'Z', 'D', 'r', '!':
	default:
		return fmt.Errorf("its queue file has a line %.20q", line)
	}
	return nil
}

// withoutCondition drops "?flags?" before a field.
func withoutCondition(h string) string {
	if !strings.HasPrefix(h, "?") {
		return h
	}
	if i := strings.IndexByte(h[1:], '?'); i >= 0 {
		return h[i+2:]
	}
	return h
}

// null is whether the sender is the null sender. sendmail names itself in what it
// makes.
func (c control) null() bool {
	return c.sender == "<>" || c.sender == "" || c.sender == nobody || c.sender == "<"+nobody+">"
}

// foreign is how the envelope shows that sendmail did not make the message
// itself: then it has a client, or is no response.
func (c control) foreign() string {
	switch {
	case c.protocol != "" || strings.ContainsAny(c.client, "[@"):
		return "it came from elsewhere: its envelope has a client"
	case !strings.Contains(c.flags, "r"):
		return "sendmail did not make it: its envelope does not say so"
	}
	return ""
}

// obstacle is why a message is not looked into.
func (c control) obstacle() string {
	switch {
	case c.quarantine != "":
		return "somebody holds it"
	case c.dataDir != "":
		return "its body is in another queue"
	}
	return ""
}
