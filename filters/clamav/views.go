package clamav

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/baruwa-enterprise/clamd/protocol"

	"gatepost/internal/mail"
	"gatepost/internal/mime"
)

// clamd reads a message in one way. Mail programs read a broken one in many,
// and each content that one of them could show goes to clamd by itself, over
// one session.

// isPlain reports that clamd saw all there is in the message.
func isPlain(tx *mail.Transaction) bool {
	in := tx.Inside
	if in == nil || len(in.Ambiguous) > 0 || len(in.Unseen) > 0 || len(in.Parts) > 1 {
		return false
	}
	// Decoded it is as long as it was: nothing was decoded.
	return len(in.Parts) == 0 || in.Parts[0].Size == tx.Message.BodySize() && in.Parts[0].Archive == ""
}

// beyond are the limits of taking apart: over them clamd has not seen all that
// a mail program could show. What archives did not show is clamd's own affair,
// it opens them itself; a message whose content is elsewhere is one for rules.
var beyond = [...]string{
	mime.OverDepth, mime.OverParts, mime.OverDecoded, mime.OverTime, mime.OverWork, mime.OverHeader, mime.OverReadings, mime.SignedInside, mime.Unreadable,
}

// errEnough ends a walk.
var errEnough = errors.New("enough was seen")

// views scans every content that can be read in the message.
func (f *Filter) views(ctx context.Context, m *mail.Message) (found []mail.Finding, err error) {
	limits := f.cfg.Inside
	limits.Time = f.cfg.Timeout // which ctx cuts
	err = f.backends.Do(ctx, func(conn net.Conn) error {
		found = nil
		s := &session{conn: conn, r: bufio.NewReader(conn)}
		var failed error
		inside := mime.Walk(ctx, m, limits, func(p mail.Part, content io.Reader) error {
			a, err := s.scan(content, f.cfg.MaxSize)
			if err != nil {
				failed = err
				return err
			}
			found = merge(found, f.finding(a, p.Path))
			if isVirus(found) || a.result == tooLarge { // which ends the session
				return errEnough
			}
			return nil
		})
		switch {
		case failed != nil:
			return failed
		case ctx.Err() != nil:
			return ctx.Err()
		}
		for _, u := range inside.Unseen {
			if slices.Contains(beyond[:], u) {
				found = merge(found, []mail.Finding{notScanned("limit of "+u, "a part was not taken out of the message")})
			}
		}
		return s.end()
	})
	return found, err
}

// session asks several things on one connection (IDSESSION); replies are
// numbered.
type session struct {
	conn net.Conn
	r    *bufio.Reader
	n    int
}

// scan sends one content, as far as it can be read: that it could not be read
// to its end, the walk tells.
func (s *session) scan(content io.Reader, limit int64) (answer, error) {
	s.n++
	commands := command(protocol.Instream)
	if s.n == 1 {
		commands = "zIDSESSION\x00" + commands
	}
	sent := s.send(commands, content, limit)
	if errors.Is(sent, errTooLarge) {
		return answer{result: tooLarge}, nil
	}
	reply, err := s.reply()
	if sent != nil {
		if a, perr := s.parse(reply); perr == nil && a.result == tooLarge {
			return a, nil
		}
		return answer{}, fmt.Errorf("send: %w", sent)
	}
	if err != nil {
		return answer{}, err
	}
	return s.parse(reply)
}

var errTooLarge = errors.New("larger than max_size")

func (s *session) send(commands string, content io.Reader, limit int64) error {
	if _, err := io.WriteString(s.conn, commands); err != nil {
		return err
	}
	chunk := make([]byte, 4+chunkSize)
	for ended := false; !ended; {
		n, err := io.ReadFull(content, chunk[4:])
		ended = err != nil
		if limit -= int64(n); limit < 0 {
			return errTooLarge
		}
		if n == 0 {
			break
		}
		binary.BigEndian.PutUint32(chunk, uint32(n))
		if _, err := s.conn.Write(chunk[:4+n]); err != nil {
			return err
		}
	}
	_, err := s.conn.Write(make([]byte, 4))
	return err
}

// reply reads one, with its terminator.
func (s *session) reply() ([]byte, error) {
	var reply []byte
	for len(reply) <= maxReply {
		b, err := s.r.ReadByte()
		if err == io.EOF && len(reply) == 0 {
			return nil, errNoReply
		}
		if err != nil {
			return reply, fmt.Errorf("read reply: %w", err)
		}
		if reply = append(reply, b); b == 0 {
			return reply, nil
		}
	}
	return nil, fmt.Errorf("reply larger than %d bytes", maxReply)
}

// parse reads a numbered reply. What else came is no answer to anything.
func (s *session) parse(reply []byte) (answer, error) {
	text, ok := strings.CutPrefix(string(reply), strconv.Itoa(s.n)+": ")
	if !ok || s.r.Buffered() > 0 {
		return answer{}, fmt.Errorf("reply %q", reply)
	}
	return parseReply([]byte(text), stream)
}

// end says goodbye. A session that was not begun has no end.
func (s *session) end() error {
	if s.n > 0 {
		_, _ = io.WriteString(s.conn, "zEND\x00") // all was answered
	}
	return nil
}
