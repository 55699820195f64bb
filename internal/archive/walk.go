package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
)

// walk is one Open: the archive and all that are nested in it.
type walk struct {
	ctx    context.Context
	budget *Budget
	visit  Visit
	err    error // of visit or ctx: everything ends
	told   bool  // that the budget is spent
}

// box is one archive that is being walked.
type box struct {
	*walk
	name, kind string
	depth      int
	encoded    func() int64 // how much of the archive there is, or was read
	plain      bool         // its files lie in it as they are: they were counted once
	decoded    int64
	res        Result
}

// errStop ends the walk of one archive; why was told.
var errStop = errors.New("archive: stop")

// opener walks an archive at any place of r; streamer one that comes in order.
type (
	opener   func(*box, io.ReaderAt, int64) error
	streamer func(*box, io.Reader) error
)

func openerOf(kind string) opener {
	switch kind {
	case "zip":
		return openZip
	case "7z":
		return open7z
	case "iso":
		return openISO
	case "cab":
		return openCab
	case "tnef":
		return openTNEF
	}
	return nil
}

func streamerOf(kind string) streamer {
	switch kind {
	case "gz":
		return streamGzip
	case "bz2":
		return streamBzip2
	case "xz":
		return streamXZ
	case "zst":
		return streamZstd
	case "lzma":
		return streamLZMA
	case "tar":
		return streamTar
	case "rar":
		return streamRar
	}
	return nil
}

// open walks one archive, of which r is all.
func (w *walk) open(name, kind string, r io.ReaderAt, size int64, depth int) Result {
	x := &box{walk: w, name: name, kind: kind, depth: depth, encoded: func() int64 { return size }}
	open, stream := openerOf(kind), streamerOf(kind)
	if open == nil && stream != nil {
		open = func(x *box, r io.ReaderAt, size int64) error {
			return stream(x, io.NewSectionReader(r, 0, size))
		}
	}
	x.run(func() error {
		if open == nil {
			return errKind
		}
		return open(x, r, size)
	})
	return x.res
}

// stream walks one archive that can be read only once.
func (w *walk) stream(name, kind string, r io.Reader, depth int) Result {
	in := &counter{r: r}
	x := &box{walk: w, name: name, kind: kind, depth: depth, encoded: func() int64 { return in.n }}
	x.run(func() error { return streamerOf(kind)(x, in) })
	return x.res
}

var errKind = errors.New("this kind can't be opened")

// run walks the archive; what goes wrong becomes a reason why it was not seen.
func (x *box) run(walk func() error) {
	if x.kind == "" {
		return
	}
	defer func() {
		if p := recover(); p != nil {
			x.unseen("the decoder panicked: %v", p)
		}
	}()
	if x.depth > x.budget.limits.Depth {
		x.unseen("more than %d archives in each other", x.budget.limits.Depth)
		return
	}
	err := walk()
	if cause := x.ctx.Err(); cause != nil && x.err == nil {
		x.err = cause
	}
	if err != nil && !errors.Is(err, errStop) {
		x.unseen("%s not opened: %v", x.kind, err)
	}
}

// file takes one file of the archive to the visitor, and opens it first when it
// is an archive. Content is nil where it can't be read; why was told then.
func (x *box) file(e Entry, content io.Reader) error {
	if x.err != nil || x.ctx.Err() != nil {
		return errStop
	}
	if err := x.budget.file(); err != nil {
		return x.spent(err)
	}
	x.finishEntry(&e)
	if e.Encrypted {
		x.res.Encrypted = true
		content = nil
	}
	if content == nil {
		return x.show(e, bytes.NewReader(nil))
	}
	in := &counted{x: x, r: content}
	data, whole, err := hold(x.budget, in, e.Size)
	defer x.budget.recycle(data)
	if err != nil {
		return x.broken(e, data, err)
	}
	if whole {
		return x.held(e, data)
	}
	return x.passing(e, data, in)
}

// held is a file that is in memory.
func (x *box) held(e Entry, data []byte) error {
	src := &source{ctx: x.ctx, r: bytes.NewReader(data)}
	e.Whole, e.Size, e.Type = true, int64(len(data)), DetectFile(src, int64(len(data)))
	for _, kind := range []string{e.Type.Archive, e.Type.Also} {
		if kind != "" {
			sub := x.open(e.Path, kind, src, e.Size, x.depth+1)
			e.Encrypted = e.Encrypted || sub.Encrypted
			x.merge(sub)
		}
	}
	return x.show(e, bytes.NewReader(data))
}

// passing is a file that is too long for memory, of which data is the beginning.
func (x *box) passing(e Entry, data []byte, in *counted) error {
	e.Type = Detect(data)
	all := io.MultiReader(bytes.NewReader(data), in)
	var err error
	switch kind := e.Type.Archive; {
	case kind != "" && streamerOf(kind) != nil:
		sub := x.stream(e.Path, kind, all, x.depth+1)
		e.Encrypted = sub.Encrypted
		x.merge(sub)
		err = x.show(e, bytes.NewReader(nil))
	default:
		if kind != "" {
			x.tell(&x.res.Unseen, e.Path, "%s of more than %d bytes not opened", kind, len(data))
		}
		e.Whole = true
		err = x.show(e, all)
	}
	if err != nil {
		return err
	}
	// What comes behind may need that this was decoded, and it may be broken.
	if _, err := io.Copy(io.Discard, in); err != nil {
		return x.failed(e, err)
	}
	return nil
}

// broken shows as much of a file as could be decoded.
func (x *box) broken(e Entry, data []byte, cause error) error {
	e.Type = Detect(data)
	if err := x.show(e, bytes.NewReader(data)); err != nil {
		return err
	}
	return x.failed(e, cause)
}

// failed tells why a file was not read to its end. The rest of the archive can
// be read unless a limit was reached.
func (x *box) failed(e Entry, cause error) error {
	switch {
	case x.err != nil || x.ctx.Err() != nil:
		return errStop
	case x.budget.spent != nil:
		return x.spent(x.budget.spent)
	case errors.Is(cause, errRatio):
		x.unseen("%v", cause)
		return errStop
	}
	x.tell(&x.res.Unseen, e.Path, "not decoded: %v", cause)
	return nil
}

func (x *box) spent(err error) error {
	if !x.told {
		x.told = true
		x.unseen("%v", err)
	}
	return errStop
}

func (x *box) show(e Entry, r io.Reader) error {
	if x.err != nil { // of what lies in it
		return errStop
	}
	if err := x.visit(e, r); err != nil {
		x.err = err
		return errStop
	}
	return nil
}

// firstBuffer is enough for most files.
const firstBuffer = 4 << 10

// hold reads r into memory as far as that is allowed: half of what is left, so
// that an archive in an archive finds some. Sizes are powers of two, for the
// buffers are used again.
func hold(b *Budget, r io.Reader, hint int64) (data []byte, whole bool, err error) {
	limit := (b.limits.Memory - b.held) / 2
	size := int64(firstBuffer)
	for size <= hint && size < 64<<10 {
		size *= 2
	}
	for ; size <= limit; size *= 2 {
		grown, err := b.buffer(size)
		if err != nil {
			return data, false, err
		}
		grown = append(grown, data...)
		b.recycle(data)
		data = grown
		n, err := io.ReadFull(r, data[len(data):cap(data)])
		data = data[:len(data)+n]
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) && !isTorn(r) {
			return data, true, nil
		}
		if err != nil {
			return data, false, err
		}
	}
	return data, false, nil
}

// isTorn tells a decoder's unexpected end from the one that io.ReadFull makes.
func isTorn(r io.Reader) bool {
	c, ok := r.(*counted)
	return ok && c.err != nil && !errors.Is(c.err, io.EOF)
}

var errRatio = errors.New("decodes to far more than its size")

// counted is the content of one file on its way out of the archive.
type counted struct {
	x   *box
	r   io.Reader
	err error
}

func (c *counted) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	if c.err = c.x.ctx.Err(); c.err != nil {
		return 0, c.err
	}
	n, err := c.r.Read(p)
	if over := c.x.count(n); over != nil {
		n, err = 0, over
	}
	c.err = err
	return n, err
}

// count counts n bytes that came out of the archive.
func (x *box) count(n int) error {
	x.decoded += int64(n)
	size := x.encoded()
	if x.decoded > ratioFrom && x.decoded/x.budget.limits.Ratio > size {
		return fmt.Errorf("%w: over %d times", errRatio, x.budget.limits.Ratio)
	}
	if x.plain && x.decoded <= size {
		return nil
	}
	return x.budget.decoded(n)
}

type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
