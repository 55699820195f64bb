package alter

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"gatepost/filters"
	"gatepost/internal/mail"
)

// Config of the Finisher.
type Config struct {
	Hostname string // ours, for notes
	// Inspect takes a message apart; what was altered is inspected again.
	Inspect func(context.Context, *mail.Message) *mail.Inside
	Log     *slog.Logger
}

// Finisher makes edits of Verdict.Alter.
type Finisher struct{ cfg Config }

// New checks cfg.
func New(cfg Config) (*Finisher, error) {
	if cfg.Inspect == nil || cfg.Log == nil {
		return nil, errors.New("alter: nobody inspects or logs")
	}
	return &Finisher{cfg}, nil
}

// work is one copy of a message while it is altered.
type work struct {
	tx       *mail.Transaction
	hostname string
	root     *node
	edits    []mail.Edit // of the header
	pieces   []piece     // of the body
	skipped  []string    // why text was not added

	stripped, renamed []target
	texted            []*node // parts that text was added to
}

// Finish implements filters.Finisher. Text that can't be added is left out and
// that is logged; a part that can't be taken out or renamed holds the message.
func (f *Finisher) Finish(ctx context.Context, tx *mail.Transaction, v mail.Verdict) ([]mail.Edit, error) {
	if len(v.Alter) == 0 || tx.Message == nil {
		return nil, nil
	}
	w := &work{tx: tx, hostname: f.cfg.Hostname}
	var texts []mail.AddText
	var strips []mail.StripParts
	var renames []mail.RenameParts
	for _, a := range v.Alter {
		switch a := a.(type) {
		case mail.TagSubject:
			w.edits = append(w.edits, tagSubject(tx.Message.Header, a.Text)...)
		case mail.AddText:
			texts = append(texts, a)
		case mail.StripParts:
			strips = append(strips, a)
		case mail.RenameParts:
			renames = append(renames, a)
		}
	}
	if len(texts)+len(strips)+len(renames) == 0 {
		return w.edits, nil
	}
	var err error
	w.root, err = parse(tx.Message)
	if err != nil && !errors.Is(err, errStructure) {
		return nil, err
	}
	if len(strips)+len(renames) > 0 {
		if err := f.parts(w, err, strips, renames); err != nil {
			return nil, err
		}
	}
	if len(texts) > 0 {
		if err := f.texts(ctx, w, err, texts); err != nil {
			return nil, err
		}
	}
	return f.finished(ctx, w)
}

// parts takes parts out and renames others. What is to be taken out is not
// renamed as well.
func (f *Finisher) parts(w *work, structure error, strips []mail.StripParts, renames []mail.RenameParts) error {
	switch inside := w.tx.Inside; {
	case inside == nil:
		return errors.New("alter: the message was not taken apart")
	case len(inside.Ambiguous) > 0:
		return hold("mail programs would read this message in different ways (%s)", inside.Ambiguous[0])
	case structure != nil:
		return hold("%v", structure)
	}
	var out []target
	gone := make(map[*node]bool)
	for _, s := range strips {
		found, err := w.targets(s.Paths, s.Why)
		if err != nil {
			return err
		}
		for _, t := range found {
			if !gone[t.node] {
				gone[t.node] = true
				out = append(out, t)
			}
		}
	}
	for _, t := range out {
		w.strip(t)
	}
	for _, r := range renames {
		found, err := w.targets(r.Paths, "")
		if err != nil {
			return err
		}
		for _, t := range found {
			if !gone[t.node] {
				gone[t.node] = true
				w.rename(t)
			}
		}
	}
	return nil
}

// replace puts a new content, and what the header says of it, in the place of a
// part.
func (w *work) replace(n *node, c headerChange, content []byte) {
	if n.headerAt < 0 {
		w.edits = append(w.edits, c.edits(n.header)...)
		w.pieces = append(w.pieces, piece{n.at, n.end - n.at, content})
		return
	}
	w.pieces = append(w.pieces, piece{n.headerAt, n.end - n.headerAt, append(c.header(n.header), content...)})
}

// finished are all edits, once the result was looked at.
func (f *Finisher) finished(ctx context.Context, w *work) ([]mail.Edit, error) {
	if len(w.skipped) > 0 {
		f.cfg.Log.InfoContext(ctx, "no text added", "id", w.tx.ID, "why", w.skipped)
	}
	if len(w.pieces) > 0 {
		body := splice(w.tx.Message.Body(), w.tx.Message.BodySize(), w.pieces)
		w.edits = append(w.edits, mail.ReplaceBody{Body: body, Size: body.size})
	}
	if len(w.stripped)+len(w.renamed) == 0 {
		return w.edits, nil
	}
	_, after := mail.Apply(mail.Envelope{}, w.tx.Message, w.edits)
	inside := f.cfg.Inspect(ctx, after)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return w.edits, w.verify(inside)
}

// readAll reads a range of the body.
func (w *work) readAll(n *node) ([]byte, error) {
	b := make([]byte, n.end-n.at)
	if got, err := w.tx.Message.Body().ReadAt(b, n.at); got < len(b) {
		if err == nil {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return b, nil
}

var _ filters.Finisher = (*Finisher)(nil)
