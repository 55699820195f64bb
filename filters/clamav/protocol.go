package clamav

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"

	"github.com/baruwa-enterprise/clamd/protocol"
	"golang.org/x/sys/unix"

	"gatepost/internal/mail"
)

// The exchanges are our own, in the library's vocabulary. Its client opens its
// connections itself, so that neither a context nor a limit can be put around
// it, and reads "no reply" as "nothing found".

const (
	chunkSize = 64 << 10
	maxReply  = 4 << 10
)

// result is what clamd said. Its zero value is nothing that clamd can say.
type result int

const (
	clean result = iota + 1
	infected
	tooLarge // for INSTREAM
)

type answer struct {
	result    result
	signature string // of infected
}

var (
	errNoReply  = errors.New("clamd hung up without a reply")
	errContent  = errors.New("read the message")
	errNotTaken = errors.New("clamd did not take a descriptor")
)

// command is framed by NUL on both ways ("z"): a reply that is cut is seen.
func command(c protocol.Command) string { return "z" + c.String() + "\x00" }

// instream sends the message as a stream.
func instream(conn net.Conn, m *mail.Message) (answer, error) {
	sent := sendStream(conn, content(m), contentSize(m))
	if errors.Is(sent, errContent) {
		return answer{}, sent
	}
	reply, err := readReply(conn)
	if sent != nil {
		// clamd hangs up while we still send when its limit is reached. Its
		// reply says so, unless it was lost.
		if a, perr := parseReply(reply, stream); perr == nil && a.result == tooLarge {
			return a, nil
		}
		return answer{}, fmt.Errorf("send: %w", sent)
	}
	if err != nil {
		return answer{}, err
	}
	return parseReply(reply, stream)
}

func sendStream(conn net.Conn, r io.Reader, size int64) error {
	if _, err := io.WriteString(conn, command(protocol.Instream)); err != nil {
		return err
	}
	chunk := make([]byte, 4+min(size, chunkSize))
	for size > 0 {
		n := min(size, chunkSize)
		if _, err := io.ReadFull(r, chunk[4:4+n]); err != nil {
			return fmt.Errorf("%w: %w", errContent, err)
		}
		binary.BigEndian.PutUint32(chunk, uint32(n))
		if _, err := conn.Write(chunk[:4+n]); err != nil {
			return err
		}
		size -= n
	}
	_, err := conn.Write(make([]byte, 4))
	return err
}

// fildes sends the message as an open file.
func fildes(conn *net.UnixConn, m *mail.Message) (answer, error) {
	file, err := contentFile(m)
	if err != nil {
		return answer{}, err
	}
	defer file.Close()
	if _, err := io.WriteString(conn, command(protocol.Fildes)); err != nil {
		return answer{}, fmt.Errorf("send: %w", err)
	}
	// One byte has to go with the descriptor.
	if _, _, err := conn.WriteMsgUnix([]byte{0}, unix.UnixRights(int(file.Fd())), nil); err != nil {
		return answer{}, fmt.Errorf("%w: %w", errNotTaken, err)
	}
	reply, err := readReply(conn)
	if err != nil && len(reply) == 0 {
		err = fmt.Errorf("%w: %w", errNotTaken, err)
	}
	if err != nil {
		return answer{}, err
	}
	return parseReply(reply, descriptor)
}

func ping(conn net.Conn) error {
	if _, err := io.WriteString(conn, command(protocol.Ping)); err != nil {
		return err
	}
	reply, err := readReply(conn)
	if err == nil && string(reply) != "PONG\x00" {
		err = fmt.Errorf("reply %q", reply)
	}
	return err
}

// readReply reads to the end of the connection: clamd closes it after its
// reply, and what comes behind the reply has to be seen. What was read before
// an error is returned with it.
func readReply(conn net.Conn) ([]byte, error) {
	reply, err := io.ReadAll(io.LimitReader(conn, maxReply+1))
	switch {
	case err != nil:
		return reply, fmt.Errorf("read reply: %w", err)
	case len(reply) == 0:
		return nil, errNoReply
	case len(reply) > maxReply:
		return nil, fmt.Errorf("reply larger than %d bytes", maxReply)
	}
	return reply, nil
}

// What clamd calls the object of a scan.
var (
	stream     = regexp.MustCompile(`^stream$`)
	descriptor = regexp.MustCompile(`^fd\[[0-9]+\]$`)
)

// parseReply reads the one reply to a scan. What it does not know by heart is
// an error.
func parseReply(reply []byte, object *regexp.Regexp) (answer, error) {
	line, rest, terminated := bytes.Cut(reply, []byte{0})
	if !terminated || len(rest) > 0 {
		return answer{}, fmt.Errorf("reply %q", reply)
	}
	text := string(line)
	if object == stream && text == "INSTREAM size limit exceeded. ERROR" {
		return answer{result: tooLarge}, nil
	}
	of, text, ok := strings.Cut(text, ": ")
	if !ok || !object.MatchString(of) {
		return answer{}, fmt.Errorf("reply %q", reply)
	}
	if text == "OK" {
		return answer{result: clean}, nil
	}
	if found, ok := strings.CutSuffix(text, " FOUND"); ok && found != "" {
		return answer{result: infected, signature: signature(found)}, nil
	}
	return answer{}, fmt.Errorf("reply %q", reply)
}

// signature is the name of what was found: its last word, fit for a log.
func signature(s string) string {
	words := strings.Fields(mail.CleanText(s))
	if len(words) == 0 {
		return "unknown"
	}
	return words[len(words)-1]
}
