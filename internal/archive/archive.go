// Package archive lists and opens what is in an archive: zip, tar, gzip, bzip2,
// xz, zstd, lzma, 7z, rar and ISO images, nested in each other, all under one
// [Budget]. It also tells what content is by its bytes ([Detect]), looks into
// Office documents ([Office]) and takes winmail.dat apart ([TNEF]).
//
// It knows nothing of mail. What can't be opened, is encrypted, is over budget
// or would look different to two unpackers is told, never left out silently.
package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// Entry is one file in an archive.
type Entry struct {
	// Path is the name of the archive, a slash, and the name in it; in nested
	// archives with all archives on the way.
	Path string
	// Names are all names under which an unpacker may write the file, as full
	// names in the archive; the first is the one that most programs use.
	Names []string
	// Size is the decoded length when the whole content was read, otherwise
	// what the archive claims, and -1 where it claims nothing.
	Size int64
	// Kind is the kind of the archive that the file lies in: "zip", "tar"…
	Kind string
	// Depth counts the archives around the file, 1 for what lies in the one
	// that Open was given.
	Depth int
	// Encrypted files, and archives with encrypted files in them, can't be read.
	Encrypted bool
	// Link is the target of a symbolic or hard link.
	Link string
	// Whole: the reader gives the whole content. Otherwise it gives the
	// beginning, or nothing: the file is encrypted, can't be decoded, or is an
	// archive that was too large to keep while it was opened.
	Whole bool
	// Type is what the content is; its zero value where that couldn't be read.
	Type Type
}

// Result is what Open has to say of the archive as a whole, and of those nested
// in it.
type Result struct {
	Kind string // "zip", "7z"…; "" for what is no archive
	// Encrypted: some file, or the list of files, can't be read.
	Encrypted bool
	// Ambiguous says where two unpackers would see different things.
	Ambiguous []string
	// Unseen says what was not looked at. Then more may be inside than was visited.
	Unseen []string
}

// Visit is called for each file, those in a nested archive before the archive
// itself. The reader is valid until Visit returns; it also is an io.ReaderAt and
// has Size() int64 when the file was held in memory, which is the case for all
// but very long ones. Visit need not read to the end. An error ends Open.
type Visit func(Entry, io.Reader) error

// Open visits the files in an archive of any known kind. What is no archive gives
// an empty Result. The error is the one of visit, of ctx, or of reading r: what is
// wrong with the archive is in the Result.
func Open(ctx context.Context, name string, r io.ReaderAt, size int64, b *Budget, visit Visit) (Result, error) {
	src := &source{ctx: ctx, r: r}
	t := DetectFile(src, size)
	kinds := []string{t.Archive, t.Also}
	if t.Archive == "" {
		kinds = kinds[1:]
	}
	return openAs(ctx, name, kinds, src, size, b, visit)
}

// openAs opens r as each of the kinds that it is.
func openAs(ctx context.Context, name string, kinds []string, src *source, size int64, b *Budget, visit Visit) (Result, error) {
	x := &box{walk: &walk{ctx: ctx, budget: b, visit: visit}}
	x.res.Kind = kinds[0]
	for _, kind := range kinds {
		if kind != "" && x.err == nil {
			x.merge(x.open(name, kind, src, size, 1))
		}
	}
	if src.err != nil && x.err == nil {
		x.err = fmt.Errorf("archive: read %s: %w", kinds[0], src.err)
	}
	return x.res, x.err
}

// source remembers that reading failed, and fails when ctx ends: decoders that
// ask nobody end by it.
type source struct {
	ctx context.Context
	r   io.ReaderAt
	err error
}

func (s *source) ReadAt(p []byte, off int64) (int, error) {
	if err := s.ctx.Err(); err != nil {
		s.err = err
		return 0, err
	}
	n, err := s.r.ReadAt(p, off)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}
