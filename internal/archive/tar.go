package archive

import (
	"archive/tar"
	"errors"
	"io"
)

// streamTar reads all flavours of tar.
func streamTar(x *box, r io.Reader) error {
	x.plain = true
	t := tar.NewReader(r)
	for n := 0; ; n++ {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			// Two empty blocks are the end. What is behind them GNU tar shows
			// when it is told to ignore zeros.
			return tarEnd(x, r)
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return err
		}
		if skip, err := tarEntry(x, h, t); err != nil || skip {
			if err != nil {
				return err
			}
			continue
		}
	}
}

// tarEntry takes one file to the visitor.
func tarEntry(x *box, h *tar.Header, r io.Reader) (skip bool, err error) {
	e := Entry{Names: []string{h.Name}, Size: h.Size}
	switch h.Typeflag {
	case tar.TypeDir:
		if h.Size == 0 {
			return true, nil
		}
	case tar.TypeXGlobalHeader:
		return true, nil
	case tar.TypeSymlink, tar.TypeLink:
		e.Link = h.Linkname
		if why := oddName(h.Linkname); why != "" {
			x.ambiguous("a link with %s", why)
		}
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
	default:
		x.ambiguous("an entry of type %q", h.Typeflag)
	}
	return false, x.file(e, r)
}

// tarEnd looks for anything but zeros behind the end.
func tarEnd(x *box, r io.Reader) error {
	if err := skipZeros(x, r); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}
