package archive

import (
	"errors"
	"io"

	"github.com/nwaples/rardecode/v2"
)

// streamRar reads rar 1.5 to 5.
func streamRar(x *box, r io.Reader) error {
	most := (x.budget.limits.Memory - x.budget.held) / 2
	if err := x.budget.hold(most); err != nil {
		return err
	}
	defer x.budget.release(most)
	z, err := rardecode.NewReader(r, rardecode.MaxDictionarySize(most))
	if err != nil {
		return x.rarError(err)
	}
	var window int64
	for {
		h, err := z.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return x.rarError(err)
		}
		if h.IsDir {
			if err := x.budget.file(); err != nil {
				return x.spent(err)
			}
			continue
		}
		// The decoder clears its window before each file, and it only grows.
		window = min(max(window, h.UnPackedSize), most)
		if err := x.budget.work(window); err != nil {
			return x.spent(err)
		}
		if err := x.rarEntry(h, z); err != nil {
			return err
		}
	}
}

func (x *box) rarEntry(h *rardecode.FileHeader, z io.Reader) error {
	e := Entry{Names: []string{h.Name}, Size: h.UnPackedSize, Encrypted: h.Encrypted, Link: h.LinkTarget}
	if h.UnKnownSize {
		e.Size = -1
	}
	if h.LinkType != rardecode.LinkTypeNone {
		if why := oddName(h.LinkTarget); why != "" {
			x.ambiguous("a link with %s", why)
		}
		return x.file(e, nil)
	}
	return x.file(e, z)
}

func (x *box) rarError(err error) error {
	switch {
	case errors.Is(err, rardecode.ErrArchiveEncrypted), errors.Is(err, rardecode.ErrArchivedFileEncrypted):
		x.res.Encrypted = true
		x.unseen("the list of files is encrypted")
		return nil
	case errors.Is(err, rardecode.ErrDictionaryTooLarge):
		x.unseen("a dictionary over the limit")
		return nil
	}
	return err
}
