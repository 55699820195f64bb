package proxy

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"gatepost/internal/mail"
)

// maxChunk bounds what we read to stay in step with a client (RFC 3030 sets no
// limit).
const maxChunk = 1<<32 - 1

// smallChunk is the size below which a chunk counts as an idle command.
const smallChunk = 1 << 10

// bdat receives a chunk (RFC 3030). Its bytes are read whether it is wanted or
// not; when their number is unknown the connection ends.
func (s *session) bdat(ctx context.Context, arg string) {
	size, last, ok := parseBdat(arg)
	if !ok {
		s.log.Info("closed", "client", s.client, "cause", "malformed BDAT")
		s.hangUp(badSyntax("want BDAT size [LAST]"))
		return
	}
	if r := s.refusesChunk(ctx); !r.IsZero() {
		s.skipChunk(size, last, r)
		return
	}
	in := s.tx.in
	if err := s.chunk(size, in.pace, func(b []byte) {
		text, _, _ := in.scan(b)
		in.write(text)
	}); err != nil {
		s.cutOff(err)
		return
	}
	switch r, cause := in.problem(); {
	case last:
		s.finish(ctx)
	case cause != "":
		s.breakOff(ctx, r, cause)
	default:
		s.chunkOK(size)
	}
}

// parseBdat reads "size [LAST]".
func parseBdat(arg string) (size int64, last, ok bool) {
	num, rest, _ := strings.Cut(arg, " ")
	if !isDigits(num) || len(num) > len("4294967295") {
		return 0, false, false
	}
	size, err := strconv.ParseInt(num, 10, 64)
	if err != nil || size > maxChunk {
		return 0, false, false
	}
	rest = strings.TrimLeft(rest, " ")
	last = strings.EqualFold(rest, "LAST")
	return size, last, last || rest == ""
}

// refusesChunk returns why a chunk is not wanted, and begins the message with
// the first that is.
func (s *session) refusesChunk(ctx context.Context) mail.Reply {
	switch {
	case s.tx == nil:
		return noTransaction()
	case s.tx.broken:
		return badSequence("the message was refused")
	case len(s.tx.Envelope.Recipients) == 0:
		return badSequence("no valid recipients")
	case s.tx.in != nil:
		return mail.Reply{}
	}
	if r := s.judgeData(ctx); !r.IsZero() {
		return r
	}
	s.tx.in = s.newIntake(false)
	return mail.Reply{}
}

// skipChunk reads and drops a chunk. With the last one the transaction is over.
func (s *session) skipChunk(size int64, last bool, r mail.Reply) {
	if err := s.chunk(size, newPace(s.set.Limits), func([]byte) {}); err != nil {
		s.cutOff(err)
		return
	}
	if last {
		s.abort()
	}
	s.refuse(r)
}

// chunk reads exactly size bytes. A connection that ends before is an error,
// never the end of the message.
func (s *session) chunk(size int64, p *pace, take func([]byte)) error {
	s.enlarge()
	defer s.shrink()
	for size > 0 {
		b := s.buffered()
		if len(b) == 0 {
			if err := p.fill(s.wire); err != nil {
				return err
			}
			continue
		}
		b = b[:min(int64(len(b)), size)]
		take(b)
		s.advance(len(b))
		size -= int64(len(b))
	}
	return nil
}

// breakOff refuses the message with a chunk that is not its last.
func (s *session) breakOff(ctx context.Context, r mail.Reply, cause string) {
	s.tx.broken = true
	s.tx.in.drop()
	s.logDecision(ctx, s.tx, refusal(r, cause))
	s.refuse(r)
}

func (s *session) chunkOK(size int64) {
	r := mail.Reply{Code: 250, Detail: "0.0", Text: fmt.Sprintf("%d octets received", size)}
	if size < smallChunk {
		s.idle(r)
		return
	}
	s.reply(r)
}
