package archive

import (
	"context"
	"io"
)

// walk is one Open: the archive and all that are nested in it.
type walk struct {
	ctx    context.Context
	budget *Budget
	visit  Visit
	err    error
}

func (w *walk) open(name, kind string, r io.ReaderAt, size int64, depth int) Result {
	return Result{}
}
