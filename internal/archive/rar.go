package archive

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"github.com/nwaples/rardecode/v2"
)

// oldRarMemory is what a block in a file of RAR 3 or 4 may ask for, wherever in the
// file it is: the library has no limit for it.
const oldRarMemory = 256 << 20

// streamRar reads rar 5, and of older ones the names. Their content is read where
// the memory is allowed that any of their blocks may take.
func streamRar(x *box, r io.Reader) error {
	in := bufio.NewReader(r)
	head, _ := in.Peek(12)
	names := !bytes.HasPrefix(head, []byte("Rar!\x1a\x07\x01")) && x.budget.limits.Memory-x.budget.held < 2*oldRarMemory
	if names {
		x.unseen("packed by RAR 4 or older: names only")
	}
	// Going over a file of a solid archive would unpack it: only one is listed.
	solid := len(head) < 12 || head[9] != 0x73 || head[10]&8 != 0
	most := (x.budget.limits.Memory - x.budget.held) / 2
	if err := x.budget.hold(most); err != nil {
		return err
	}
	defer x.budget.release(most)
	z, err := rardecode.NewReader(in, rardecode.MaxDictionarySize(most))
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
		if names {
			if err := x.rarEntry(h, nil); err != nil || solid || h.Solid {
				return err
			}
			continue
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
