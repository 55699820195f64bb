package mime

import (
	"bytes"
	"errors"
	"io"
)

// source is bytes in which parts stand: the message itself, or what was behind a
// transfer encoding.
type source struct {
	r      io.ReaderAt
	size   int64
	base   int64 // where it begins in the body of the message; the header is in front of that
	layers int   // decoders around it; 0: its bytes are those of the message
	lf     bool  // its lines end in LF alone
}

// span is a stretch of a source.
type span struct {
	src      *source
	from, to int64
}

func (s span) size() int64 { return s.to - s.from }

// inBody is where it stands in the body of the message. Not ok: it is decoded,
// or begins in the header.
func (s span) inBody() (at, length int64, ok bool) {
	at = s.src.base + s.from
	return at, s.size(), s.src.layers == 0 && at >= 0
}

// joined is the header of a message and the body behind it as one.
type joined struct {
	head []byte
	body io.ReaderAt
}

func (j joined) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	if off < int64(len(j.head)) {
		if n = copy(p, j.head[off:]); n == len(p) {
			return n, nil
		}
	}
	m, err := j.body.ReadAt(p[n:], off+int64(n)-int64(len(j.head)))
	return n + m, err
}

const (
	blockSize = 64 << 10
	maxLine   = 4 << 10 // of a line, what is looked at
)

// lines calls do with the beginning of each line of s, without its end. next is
// where the next line begins. It ends when do says so or a budget does.
func (w *walker) lines(s span, do func(at int64, line []byte, next int64) bool) {
	buf := make([]byte, min(blockSize, s.size()))
	var line []byte // the beginning of a line that is not at its end
	begin, long := s.from, false
	for at := s.from; at < s.to; {
		b, ok := w.read(s.src, buf, at, s.to)
		if !ok {
			return
		}
		for len(b) > 0 {
			i := bytes.IndexByte(b, '\n')
			if i < 0 {
				long = long || len(line)+len(b) > maxLine
				line = append(line, b[:min(len(b), maxLine-min(maxLine, len(line)))]...)
				at += int64(len(b))
				break
			}
			whole := b[:i]
			if len(line) > 0 {
				line = append(line, whole[:min(i, maxLine-min(maxLine, len(line)))]...)
				whole = line
			}
			at += int64(i + 1)
			b = b[i+1:]
			if !long {
				whole = bytes.TrimSuffix(whole, []byte("\r"))
			}
			if !w.spend(lineCost) || !do(begin, whole[:min(len(whole), maxLine)], at) {
				return
			}
			begin, line, long = at, line[:0], false
		}
	}
	if begin < s.to {
		do(begin, bytes.TrimSuffix(line, []byte("\r")), s.to)
	}
}

// lineCost is what a line costs beside its bytes.
const lineCost = 16

// read fills buf from at on, not beyond end. Not ok: nothing more is to be read.
func (w *walker) read(src *source, buf []byte, at, end int64) ([]byte, bool) {
	b := buf[:min(int64(len(buf)), end-at)]
	if !w.spend(len(b)) {
		return nil, false
	}
	n, err := src.r.ReadAt(b, at)
	if n < len(b) {
		w.broken(err)
		return nil, false
	}
	return b, true
}

// broken notes why reading ended.
func (w *walker) broken(err error) {
	switch {
	case w.over:
	case w.ctx.Err() != nil:
		w.stop(OverTime)
	case errors.Is(err, errBudget):
	default:
		w.stop(Unreadable)
	}
}

var errBudget = errors.New("mime: over a limit")

// spend counts work, and reports whether more may be done.
func (w *walker) spend(n int) bool {
	w.work -= int64(n)
	if w.over {
		return false
	}
	if w.ctx.Err() != nil {
		w.stop(OverTime)
	} else if w.work < 0 {
		w.stop(OverWork)
	}
	return !w.over
}

// stop ends the walk.
func (w *walker) stop(why string) {
	w.over = true
	w.unseen(why)
}
