package mime

import (
	"bytes"
	"context"
	"strconv"
	"strings"
	"time"

	"gatepost/internal/archive"
	"gatepost/internal/mail"
)

// walker takes one message apart.
type walker struct {
	ctx    context.Context
	cancel context.CancelFunc
	m      *mail.Message
	cfg    Config
	visit  Visit
	inside *mail.Inside
	nodes  []Node

	message  *source
	archives *archive.Budget
	work     int64 // bytes that may still be looked at
	decoded  int64 // bytes that may still be decoded
	over     bool  // nothing more is looked at
	entities int
	shown    map[string]bool // the contents that visit has seen, by their sum
	paths    map[string]bool
	seen     map[seenSpan]bool
	declared map[string]bool // boundaries
	used     map[int64]bool  // where delimiters stand in the message
	text     strings.Builder
	urls     map[string]bool // that were looked at
}

// seenSpan is an entity that was walked.
type seenSpan struct {
	src  *source
	from int64
	to   int64
}

// workFor is how much is read to take apart a message of so many bytes: a dozen
// times the whole, which no ordinary message needs.
func workFor(size int64) int64 { return 64<<20 + 12*size }

func newWalker(ctx context.Context, m *mail.Message, c Config, visit Visit) *walker {
	c = c.withDefaults()
	ctx, cancel := context.WithTimeout(ctx, c.Time)
	return &walker{
		ctx: ctx, cancel: cancel, m: m, cfg: c, visit: visit,
		inside:   new(mail.Inside),
		archives: archive.NewBudget(c.Limits),
		work:     workFor(m.Size()),
		decoded:  c.Decoded,
		shown:    make(map[string]bool),
		paths:    make(map[string]bool),
		seen:     make(map[seenSpan]bool),
		declared: make(map[string]bool),
		used:     make(map[int64]bool),
		urls:     make(map[string]bool),
	}
}

func (w *walker) walk() *mail.Inside {
	start := time.Now()
	head := append(w.m.Header.Bytes(), "\r\n"...)
	w.message = &source{r: joined{head, w.m.Body()}, size: int64(len(head)) + w.m.BodySize(), base: -int64(len(head))}
	w.entity(&entity{span: span{w.message, 0, w.message.size}, root: true, primary: true, parent: -1, delimiter: -1})
	w.strays()
	w.inside.Text = strings.ToValidUTF8(w.text.String(), "")
	w.inside.Took = time.Since(start)
	return w.inside
}

// entity is a header with what is behind it: the message, or a part.
type entity struct {
	span
	path       string // of a message in the message that of its part
	root       bool   // it is a message
	primary    bool   // most programs see it
	parent     int    // node around it
	delimiter  int64  // where the delimiter in front of it begins in the source; -1: none
	depth      int
	boundaries []string // of those around it
	digest     bool     // without a type it is a message
	protected  bool
	encrypted  bool
}

// child is the i-th part of a multipart.
func (e *entity) child(i int) string { return join(e.path, strconv.Itoa(i)) }

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// entity walks all readings of an entity.
func (w *walker) entity(e *entity) {
	key := seenSpan{e.src, e.from, e.to}
	if w.over || w.seen[key] {
		return
	}
	w.seen[key] = true
	if e.depth > w.cfg.Depth {
		w.unseen(OverDepth)
		return
	}
	if w.entities++; w.entities > w.cfg.Parts {
		w.unseen(OverParts)
		w.over = true
		return
	}
	for i, h := range w.headers(e.span) {
		reading := *e
		reading.primary = e.primary && i == 0
		w.reading(&reading, h)
	}
}

// reading walks an entity under one reading of its header.
func (w *walker) reading(e *entity, h header) {
	r := w.structure(e, h)
	content := span{e.src, min(h.at, e.to), e.to}
	node := w.node(e, r, content)
	if node >= 0 {
		e.parent = node
	}
	switch {
	case r.multipart:
		w.multipart(e, r, content)
	case len(r.boundaries) > 0 && !r.message:
		w.disguised(e, r, content)
	}
	if r.leaf {
		w.leaf(e, r, content)
		w.doubleHeader(h, r, content)
	}
}

// disguised looks at what has a boundary and is said to be something else.
func (w *walker) disguised(e *entity, r structure, content span) {
	for _, b := range r.boundaries {
		if b != "" && len(w.delimiters(content, b)) > 0 {
			w.ambiguous(TypeDiffers)
			inner := *e
			inner.primary = false
			w.split(&inner, content, b)
		}
	}
}

// doubleHeader looks whether the header goes on behind the line that ends it.
func (w *walker) doubleHeader(h header, r structure, content span) {
	if !h.isMIME() || r.message || r.media == "text/rfc822-headers" {
		return
	}
	n := 0
	w.lines(content, func(_ int64, line []byte, _ int64) bool {
		blank := len(line) > 0 && (line[0] == ' ' || line[0] == '\t')
		if isContentField(line) || n == 0 && blank && bytes.Contains(line, []byte("name")) && bytes.Contains(line, []byte("=")) {
			w.ambiguous(HeaderEnd)
			return false
		}
		n++
		return n < 3 && len(line) > 0
	})
}

// node notes where a part stands, when most programs see it there.
func (w *walker) node(e *entity, r structure, content span) int {
	at, length, ok := content.inBody()
	if !e.primary || !ok {
		return -1
	}
	n := Node{Path: e.path, Parent: e.parent, Type: r.media, Encoding: r.encodings[0], Charset: r.charset, Names: r.names, Inline: r.inline, At: at, Length: length, DelimiterAt: -1}
	n.Protected = e.protected || r.smime || r.pgp || r.signedParts || r.cryptParts
	if e.root && !r.multipart {
		n.Path = join(e.path, "1")
	}
	if e.from > 0 {
		n.HeaderAt, n.HeaderLength = e.src.base+e.from, content.from-e.from
	}
	if e.delimiter >= 0 {
		n.DelimiterAt = e.src.base + e.delimiter
	}
	if r.multipart && len(r.boundaries) > 0 {
		n.Boundary = r.boundaries[0]
	}
	w.nodes = append(w.nodes, n)
	return len(w.nodes) - 1
}

// strays looks for delimiters outside of their multiparts.
func (w *walker) strays() {
	if len(w.declared) == 0 {
		return
	}
	type stray struct {
		boundary string
		at       int64
	}
	var found []stray
	w.lines(span{w.message, 0, w.message.size}, func(at int64, line []byte, next int64) bool {
		if !bytes.HasPrefix(line, []byte("--")) || w.used[at] {
			return true
		}
		b := bytes.TrimRight(line[2:], " \t")
		if w.declared[string(b)] || w.declared[string(bytes.TrimSuffix(b, []byte("--")))] {
			found = append(found, stray{string(b), next})
		}
		return len(found) < maxReadings*4
	})
	for _, s := range found {
		w.ambiguous(DelimiterStray)
		end := w.message.size
		w.lines(span{w.message, s.at, end}, func(at int64, line []byte, _ int64) bool {
			if bytes.HasPrefix(line, []byte("--"+s.boundary)) {
				end = at
				return false
			}
			return true
		})
		w.entity(&entity{span: span{w.message, s.at, end}, path: "stray", parent: -1, delimiter: -1, depth: 1})
	}
}
