package spamassassin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"

	"github.com/teamwork/spamc"

	"gatepost/internal/mail"
)

// This file stands around the library. It brings its own connection (unix
// socket, TLS, deadline, context), reads the whole reply within a limit and
// checks it before the library sees a byte of it, and turns the library's
// panics into errors.

// maxReply bounds spamd's reply. The library joins the lines of a report one by
// one, which is quadratic: this much costs it milliseconds.
const maxReply = 64 << 10

// answer is spamd's reply with its report as it was.
type answer struct {
	*spamc.ResponseReport
	text string
}

// maxText bounds what is kept of a report.
const maxText = 8 << 10

// askReport has one message judged.
func askReport(ctx context.Context, conn net.Conn, user string, x excerpt) (said answer, err error) {
	// Told by us, the length is right whatever kind the reader is of.
	header := spamc.Header{"Content-length": strconv.FormatInt(x.size(), 10)}
	if user != "" {
		header["User"] = user
	}
	check := func(reply []byte) error {
		if err := checkReport(reply); err != nil {
			return err
		}
		_, body, _ := strings.Cut(string(reply), "\r\n\r\n")
		said.text = reportText(body)
		return nil
	}
	err = guard(conn, check, func(c *spamc.Client) (err error) {
		said.ResponseReport, err = c.Report(ctx, x.reader(), header)
		return err
	})
	return said, err
}

// reportText is a report for people: lines without controls, the beginning of
// it.
func reportText(body string) string {
	body = strings.ReplaceAll(strings.TrimSpace(body), "\r\n", "\n")
	if len(body) > maxText {
		body = strings.ToValidUTF8(body[:maxText], "") + "\n…"
	}
	lines := strings.Split(body, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(mail.CleanText(line), " ")
	}
	return strings.Join(lines, "\n")
}

// askPing asks for a sign of life.
func askPing(ctx context.Context, conn net.Conn) error {
	return guard(conn, checkPing, func(c *spamc.Client) error { return c.Ping(ctx) })
}

// guard calls the library with a client that has this connection. The caller
// closes it.
func guard(conn net.Conn, check func([]byte) error, call func(*spamc.Client) error) (err error) {
	g := &guarded{Conn: conn, check: check}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("spamc panicked: %v", p)
		}
		if g.err != nil {
			err = g.err // the library would only cite it
		}
	}()
	return call(spamc.New("spamd", g))
}

// guarded is the connection as the library sees it.
type guarded struct {
	net.Conn
	check func(reply []byte) error
	reply *bytes.Reader // once it was read
	err   error         // why there is none
}

// DialContext makes guarded the library's Dialer.
func (g *guarded) DialContext(context.Context, string, string) (net.Conn, error) { return g, nil }

// Close leaves the connection to its owner: the library forgets to, now and
// then.
func (g *guarded) Close() error { return nil }

// Read gives out the reply, read and checked at the first call.
func (g *guarded) Read(p []byte) (int, error) {
	if g.err == nil && g.reply == nil {
		g.err = g.take()
	}
	if g.err != nil {
		return 0, g.err
	}
	return g.reply.Read(p)
}

func (g *guarded) take() error {
	// spamd reads whole lines: without this it waits for the end of a last
	// one that has none. The library does it only for connections it knows.
	if half, ok := g.Conn.(interface{ CloseWrite() error }); ok {
		if err := half.CloseWrite(); err != nil {
			return fmt.Errorf("send: %w", err)
		}
	}
	reply, err := io.ReadAll(io.LimitReader(g.Conn, maxReply+1))
	switch {
	case err != nil:
		return fmt.Errorf("read reply: %w", err)
	case len(reply) == 0:
		return errors.New("spamd hung up without a reply")
	case len(reply) > maxReply:
		return fmt.Errorf("reply larger than %d bytes", maxReply)
	}
	if err := g.check(reply); err != nil {
		return err
	}
	g.reply = bytes.NewReader(reply)
	return nil
}

var (
	statusLine = regexp.MustCompile(`^SPAMD/1\.[0-9] ([0-9]{1,3}) (.*)$`)
	pongLine   = regexp.MustCompile(`^SPAMD/[0-9.]+ 0 PONG$`)
	headerLine = regexp.MustCompile(`^([A-Za-z][A-Za-z-]*): *(.*)$`)
	spamValue  = regexp.MustCompile(`^(True|False|Yes|No) *; *(-?[0-9]{1,9}(\.[0-9]{1,9})?) */ *(-?[0-9]{1,9}(\.[0-9]{1,9})?) *$`)
)

// checkReport takes a reply to REPORT only when it is whole: EX_OK, one Spam
// header with two plain numbers, and a body of just the length that is told.
func checkReport(reply []byte) error {
	head, body, ok := strings.Cut(string(reply), "\r\n\r\n")
	if !ok {
		return fmt.Errorf("reply without an end of its header: %.200q", reply)
	}
	lines := strings.Split(head, "\r\n")
	status := statusLine.FindStringSubmatch(lines[0])
	if status == nil {
		return fmt.Errorf("reply %.200q", lines[0])
	}
	if status[1] != "0" {
		return fmt.Errorf("spamd says %.200q", status[1]+" "+status[2])
	}
	fields := make(map[string]string)
	for _, line := range lines[1:] {
		f := headerLine.FindStringSubmatch(line)
		if f == nil {
			return fmt.Errorf("reply with a bad header %.200q", line)
		}
		key := strings.ToLower(f[1])
		if _, twice := fields[key]; twice {
			return fmt.Errorf("reply with two headers %.200q", f[1])
		}
		fields[key] = f[2]
	}
	if !spamValue.MatchString(fields["spam"]) {
		return fmt.Errorf("reply without a score: Spam: %.200q", fields["spam"])
	}
	if length := fields["content-length"]; length != strconv.Itoa(len(body)) {
		return fmt.Errorf("reply cut: %d bytes, Content-length: %.20q", len(body), length)
	}
	return nil
}

func checkPing(reply []byte) error {
	line, rest, ok := strings.Cut(string(reply), "\r\n")
	if !ok || strings.Trim(rest, "\r\n") != "" || !pongLine.MatchString(line) {
		return fmt.Errorf("reply %.200q", reply)
	}
	return nil
}
