package archive

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"io"
	"slices"
	"strings"
)

// zipWalk reads a zip in all ways in which unpackers do: by each directory, and
// from local header to local header.
type zipWalk struct {
	*box
	r       io.ReaderAt
	size    int64
	files   []*zipFile
	places  map[int64]*zipFile
	inflate io.ReadCloser
}

func openZip(x *box, r io.ReaderAt, size int64) error {
	z := &zipWalk{box: x, r: r, size: size, places: map[int64]*zipFile{}}
	if err := z.directories(); err != nil {
		return err
	}
	slices.SortStableFunc(z.files, func(a, b *zipFile) int { return cmp.Compare(a.at, b.at) })
	known := len(z.files)
	if err := z.compare(); err != nil {
		return err
	}
	if err := z.hidden(); err != nil {
		return err
	}
	if known == 0 && len(z.files) > 0 {
		z.ambiguous("files but no directory")
	}
	if err := x.budget.dictionary(inflateMemory); err != nil {
		return err
	}
	defer x.budget.release(inflateMemory)
	slices.SortStableFunc(z.files, func(a, b *zipFile) int { return cmp.Compare(a.at, b.at) })
	for _, f := range z.files {
		if err := z.show(f); err != nil {
			return err
		}
	}
	return nil
}

// directories collects the files of all directories.
func (z *zipWalk) directories() error {
	ends, err := zipEnds(z.r, z.size)
	if err != nil {
		return err
	}
	var used []int64
	for _, at := range ends {
		d, err := readEnd(z.r, at)
		if err != nil {
			continue
		}
		if d.split {
			z.unseen("a part of a zip in several volumes")
		}
		if len(used) == 0 && d.comment < z.size-at-zipEndSize && z.junk(at+zipEndSize+d.comment) {
			z.ambiguous("data behind the end of the zip")
		}
		first, err := z.directory(d)
		if err != nil {
			return err
		}
		if first >= 0 && !slices.Contains(used, first) {
			used = append(used, first)
		}
	}
	if len(used) > 1 {
		z.ambiguous("two directories")
	}
	return nil
}

// junk says whether there is anything but zeros and line ends from at on.
func (z *zipWalk) junk(at int64) bool {
	b := make([]byte, min(z.size-at, 1<<16))
	n, _ := z.r.ReadAt(b, at)
	return len(bytes.Trim(b[:n], "\x00\r\n ")) > 0
}

// directory reads one directory, where the end record says and where it must be
// by its size; it says where the first header was found, -1 for none.
func (z *zipWalk) directory(d zipDirectory) (int64, error) {
	found := int64(-1)
	for i, base := range []int64{d.base, 0} {
		if base < 0 || i == 1 && d.base == 0 || d.at > z.size-base {
			continue
		}
		n, err := z.headers(base+d.at, d, base)
		if err != nil {
			return found, err
		}
		if n == 0 {
			continue
		}
		if found >= 0 {
			z.ambiguous("two directories")
		}
		found = base + d.at
		if uint64(n)&0xffff != d.count&0xffff {
			z.ambiguous("a directory of %d files that says %d", n, d.count)
		}
	}
	return found, nil
}

// headers reads the headers of a directory to its last one.
func (z *zipWalk) headers(at int64, d zipDirectory, base int64) (int, error) {
	in := bufio.NewReaderSize(io.NewSectionReader(z.r, at, z.size-at), int(max(64, min(z.size-at, 1<<18))))
	for n := 0; ; n++ {
		b, err := in.Peek(46)
		if len(b) < 46 || string(b[:4]) != zipCentral {
			if err != nil && !errors.Is(err, io.EOF) {
				return n, err
			}
			return n, nil
		}
		whole := 46 + int(le16(b[28:])) + int(le16(b[30:])) + int(le16(b[32:]))
		if b, err = in.Peek(whole); err != nil {
			z.unseen("the directory is cut")
			return n, nil
		}
		f, _, err := readCentral(b)
		if err != nil {
			return n, err
		}
		if _, err := in.Discard(whole); err != nil {
			return n, err
		}
		if n >= z.budget.limits.Files || len(z.files)+z.budget.files >= z.budget.limits.Files {
			z.unseen("more than %d files", z.budget.limits.Files)
			return n + 1, nil
		}
		f.at += base
		z.add(f)
	}
}

// add notes a file by its place; a second name for it is kept.
func (z *zipWalk) add(f *zipFile) {
	was := z.places[f.at]
	if was == nil {
		z.places[f.at] = f
		z.files = append(z.files, f)
		return
	}
	if !slices.Equal(was.names, f.names) {
		z.tell(&z.res.Ambiguous, z.name+"/"+f.names[0], "two names for one file")
		was.names = append(was.names, f.names...)
	}
	was.packed = max(was.packed, f.packed)
}

// compare reads the local headers and tells where they say other things.
func (z *zipWalk) compare() error {
	seen := map[string]bool{}
	var end int64
	for _, f := range z.files {
		if err := z.ctx.Err(); err != nil {
			return err
		}
		place := z.box.name + "/" + f.names[0]
		key := strings.ToLower(f.names[0])
		if seen[key] {
			z.tell(&z.res.Ambiguous, place, "the same name twice")
		}
		seen[key] = true
		local, err := readLocal(z.r, f.at)
		if err != nil {
			z.tell(&z.res.Ambiguous, place, "in the directory only")
			continue
		}
		z.differ(place, f, local)
		f.data, f.other = local.data, local.method
		if f.at < end {
			z.ambiguous("overlapping files")
		}
		end = max(end, f.data+f.packed)
	}
	return nil
}

// differ compares the two headers of a file. Sizes of zero are those that come
// behind the content.
func (z *zipWalk) differ(place string, f, local *zipFile) {
	say := func(why string) { z.tell(&z.res.Ambiguous, place, "%s", why) }
	for _, odd := range []string{f.odd, local.odd} {
		if odd != "" {
			say(odd)
		}
	}
	masked := f.flags&0x2000 != 0 || local.flags&0x2000 != 0
	if masked {
		z.res.Encrypted = true
		z.unseen("the names are encrypted")
	}
	if !slices.Equal(f.names, local.names) && !masked {
		if !slices.ContainsFunc(local.names, func(n string) bool { return slices.Contains(f.names, n) }) {
			say("another name in the local header")
		}
		f.names = append(f.names, local.names...)
	}
	if f.method != local.method {
		say("another method in the local header")
	}
	if f.flags&1 != local.flags&1 {
		say("encrypted by one header only")
		f.flags &^= 1
	}
	late := local.flags&8 != 0
	if f.size != local.size && !(late && (local.size == 0 || local.size == 0xffffffff)) ||
		f.packed != local.packed && !(late && (local.packed == 0 || local.packed == 0xffffffff)) {
		say("another size in the local header")
	}
}

// hidden looks for local headers where no directory has a file: readers that
// go from header to header find them.
func (z *zipWalk) hidden() error {
	listed := slices.Clone(z.files)
	var from int64
	for i := 0; i <= len(listed); i++ {
		to := z.size
		if i < len(listed) {
			to = listed[i].at
		}
		if err := z.gap(from, to); err != nil {
			return err
		}
		if i < len(listed) && listed[i].data > 0 {
			from = max(from, listed[i].data+listed[i].packed)
		}
	}
	return nil
}

// gap looks for local headers from one place to another.
func (z *zipWalk) gap(from, to int64) error {
	const step = 1 << 16
	buf := make([]byte, min(step, max(0, to-from)))
	for from < to {
		if err := z.ctx.Err(); err != nil {
			return err
		}
		n, err := z.r.ReadAt(buf[:min(int64(len(buf)), to-from)], from)
		i := bytes.Index(buf[:n], []byte(zipLocal))
		if i < 0 {
			if err != nil || n < 4 || from+int64(n) >= to {
				return ignoreEOF(err)
			}
			from += int64(n) - 3
			continue
		}
		from += int64(i) + 4
		if f := z.localAt(from - 4); f != nil {
			if len(z.files)+z.budget.files >= z.budget.limits.Files {
				z.unseen("more than %d files", z.budget.limits.Files)
				return nil
			}
			z.tell(&z.res.Ambiguous, z.box.name+"/"+f.names[0], "in no directory")
			z.files = append(z.files, f)
			if f.flags&8 == 0 && f.packed < z.size-f.data {
				from = f.data + f.packed
			}
		}
	}
	return nil
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// localAt reads a local header that nobody points at. Four bytes may be like one
// by chance, or on purpose a million times: what follows is read when they are not.
func (z *zipWalk) localAt(at int64) *zipFile {
	var b [30]byte
	if _, err := z.r.ReadAt(b[:], at); err != nil {
		return nil
	}
	method, name := le16(b[8:]), le16(b[26:])
	if method > 20 && (method < 93 || method > 99) || le16(b[6:])&0xc000 != 0 || name == 0 || name > 1<<12 {
		return nil
	}
	f, err := readLocal(z.r, at)
	if err != nil {
		return nil
	}
	return f
}
