package icap

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"gatepost/internal/mail"
)

// Limits on what a server says.
const (
	maxHead    = 32 << 10 // a header, ICAP's or one of HTTP inside
	maxFields  = 200
	maxBody    = 1 << 20 // of an answer in place of the content
	maxNameLen = 200
)

// reply is the head of an answer.
type reply struct {
	code   int
	status string
	fields map[string]string // by lower-case name
	closes bool
	inside encapsulated
}

// encapsulated is what follows the head (RFC 3507 4.4.1).
type encapsulated struct {
	status string // of the HTTP response; "" for none
	body   bool
}

func (r *reply) get(field string) string { return r.fields[strings.ToLower(field)] }

// tag is the ISTag, which changes with the scanner and its signatures.
func (r *reply) tag() string {
	return mail.CleanText(cut(strings.Trim(r.get("ISTag"), `"`)))
}

func cut(s string) string { return s[:min(len(s), maxNameLen)] }

var (
	statusLine = regexp.MustCompile(`^ICAP/1\.[0-9] ([1-5][0-9]{2})( .*)?$`)
	fieldLine  = regexp.MustCompile("^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*$")
	partOffset = regexp.MustCompile(`^(req-hdr|res-hdr|req-body|res-body|opt-body|null-body)=([0-9]{1,6})$`)
)

// readHead reads an answer up to its body.
func (c *conn) readHead() (*reply, error) {
	lines, err := headLines(c.r)
	if err != nil {
		if c.old && len(lines) == 0 && errors.Is(err, io.EOF) {
			return nil, errStale
		}
		return nil, fmt.Errorf("read reply: %w", err)
	}
	m := statusLine.FindStringSubmatch(lines[0])
	if m == nil {
		return nil, fmt.Errorf("reply %.200q", lines[0])
	}
	r := &reply{status: mail.CleanText(cut(lines[0])), fields: make(map[string]string)}
	r.code, _ = strconv.Atoi(m[1])
	if err := r.readFields(lines[1:]); err != nil {
		return nil, err
	}
	r.closes = strings.EqualFold(r.get("Connection"), "close")
	if r.code == 100 {
		return r, nil
	}
	return r, c.readInside(r)
}

// readFields takes each field once; a folded one is joined by newlines, as
// X-Violations-Found means them.
func (r *reply) readFields(lines []string) error {
	last := ""
	for _, line := range lines {
		if line[0] == ' ' || line[0] == '\t' {
			if last == "" {
				return fmt.Errorf("reply with a bad header %.200q", line)
			}
			r.fields[last] += "\n" + strings.TrimSpace(line)
			continue
		}
		m := fieldLine.FindStringSubmatch(line)
		if m == nil {
			return fmt.Errorf("reply with a bad header %.200q", line)
		}
		last = strings.ToLower(m[1])
		if _, twice := r.fields[last]; twice {
			if last == "encapsulated" {
				return errors.New("reply with two Encapsulated fields")
			}
			r.fields[last] += ", "
		}
		r.fields[last] += m[2]
	}
	return nil
}

// headLines reads lines up to an empty one, which it leaves out.
func headLines(r *bufio.Reader) ([]string, error) {
	var lines []string
	for size := 0; ; {
		line, err := r.ReadSlice('\n')
		if size += len(line); size > maxHead || errors.Is(err, bufio.ErrBufferFull) {
			return lines, fmt.Errorf("a header larger than %d bytes", maxHead)
		}
		if err != nil {
			if len(line) > 0 || len(lines) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return lines, err
		}
		text := strings.TrimRight(string(line), "\r\n")
		if text == "" && len(lines) > 0 {
			return lines, nil
		}
		if text == "" || len(lines) == maxFields {
			return lines, errors.New("a header without a beginning, or of too many lines")
		}
		lines = append(lines, text)
	}
}

// readInside reads the HTTP headers that are there.
func (c *conn) readInside(r *reply) error {
	list := r.get("Encapsulated")
	if list == "" {
		return nil
	}
	at, last := -1, ""
	for _, part := range strings.Split(list, ",") {
		m := partOffset.FindStringSubmatch(strings.TrimSpace(part))
		if m == nil {
			return fmt.Errorf("reply with Encapsulated: %.200q", list)
		}
		offset, _ := strconv.Atoi(m[2])
		if offset < at || at < 0 && offset != 0 || strings.HasSuffix(last, "-body") {
			return fmt.Errorf("reply with Encapsulated: %.200q", list)
		}
		if last != "" {
			if err := c.readHTTP(r, last, offset-at); err != nil {
				return err
			}
		}
		at, last = offset, m[1]
	}
	if !strings.HasSuffix(last, "-body") {
		return fmt.Errorf("reply with Encapsulated: %.200q, which has no end", list)
	}
	r.inside.body = last != "null-body"
	return nil
}

// readHTTP reads one header of HTTP of a known length.
func (c *conn) readHTTP(r *reply, part string, length int) error {
	if length < 4 || length > maxHead {
		return fmt.Errorf("reply with a %s of %d bytes", part, length)
	}
	head := make([]byte, length)
	if _, err := io.ReadFull(c.r, head); err != nil {
		return fmt.Errorf("read reply: %w", err)
	}
	if !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
		return fmt.Errorf("reply with a %s that has no end", part)
	}
	if part == "res-hdr" {
		line, _, _ := strings.Cut(string(head), "\r\n")
		r.inside.status = mail.CleanText(cut(line))
	}
	return nil
}

// copyBody reads a body in chunks and writes it to w, limit octets at most.
func (c *conn) copyBody(w io.Writer, limit int64) (int64, error) {
	var total int64
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return total, fmt.Errorf("read reply: chunk: %w", err)
		}
		size, _, _ := strings.Cut(strings.TrimRight(string(line), "\r\n"), ";")
		n, err := strconv.ParseUint(strings.TrimSpace(size), 16, 31)
		if err != nil {
			return total, fmt.Errorf("reply with a chunk of %.40q", size)
		}
		if total += int64(n); total > limit {
			return total, fmt.Errorf("a body larger than %d bytes", limit)
		}
		if n > 0 {
			if _, err := io.CopyN(w, c.r, int64(n)); err != nil {
				return total, fmt.Errorf("read reply: %w", err)
			}
		}
		end, err := c.r.ReadSlice('\n')
		if err != nil || strings.TrimRight(string(end), "\r\n") != "" {
			return total, fmt.Errorf("reply with a chunk that does not end: %.40q", end)
		}
		if n == 0 {
			return total, nil
		}
	}
}

func (c *conn) skipBody(r *reply) error {
	if !r.inside.body {
		return nil
	}
	_, err := c.copyBody(io.Discard, maxBody)
	return err
}
