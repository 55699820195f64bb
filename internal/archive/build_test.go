package archive

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gatepost/internal/testkit"
)

// seen is what Open showed of an archive.
type seen struct {
	Result
	entries []Entry
	content map[string]string
}

func (s *seen) names() []string {
	var all []string
	for _, e := range s.entries {
		all = append(all, e.Path)
	}
	return all
}

func (s *seen) entry(t *testing.T, path string) Entry {
	t.Helper()
	for _, e := range s.entries {
		if e.Path == path {
			return e
		}
	}
	t.Fatalf("no %q in %q; %+v", path, s.names(), s.Result)
	return Entry{}
}

func look(t testing.TB, name string, b []byte, l Limits) *seen {
	t.Helper()
	s := &seen{content: map[string]string{}}
	res, err := Open(context.Background(), name, bytes.NewReader(b), int64(len(b)), NewBudget(l), func(e Entry, r io.Reader) error {
		var text bytes.Buffer
		if _, err := io.Copy(&text, io.LimitReader(r, 1<<20)); err != nil {
			t.Logf("read %s: %v", e.Path, err)
		}
		s.entries = append(s.entries, e)
		s.content[e.Path] = text.String()
		return nil
	})
	if err != nil {
		t.Fatalf("open %s: %v", name, err)
	}
	s.Result = res
	return s
}

func says(list []string, part string) bool {
	return slices.ContainsFunc(list, func(s string) bool { return strings.Contains(s, part) })
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

type file struct{ name, text string }

func zipped(t testing.TB, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, f := range files {
		w, err := z.Create(f.name)
		check(t, err)
		_, err = io.WriteString(w, f.text)
		check(t, err)
	}
	check(t, z.Close())
	return b.Bytes()
}

func tarred(t testing.TB, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	z := tar.NewWriter(&b)
	for _, f := range files {
		check(t, z.WriteHeader(&tar.Header{Name: f.name, Size: int64(len(f.text)), Mode: 0o644}))
		_, err := io.WriteString(z, f.text)
		check(t, err)
	}
	check(t, z.Close())
	return b.Bytes()
}

func gzipped(t testing.TB, name string, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Name = name
	_, err := z.Write(data)
	check(t, err)
	check(t, z.Close())
	return b.Bytes()
}

// rawZip is a stored file of a zip that is built by hand, to lie with.
type rawZip struct {
	local, central string // names
	text           string
	flags, method  uint16
	extra          string
	unlisted       bool
	mode           uint32
}

func put(b *bytes.Buffer, v ...any) {
	for _, x := range v {
		if s, ok := x.(string); ok {
			b.WriteString(s)
			continue
		}
		_ = binary.Write(b, binary.LittleEndian, x)
	}
}

// handZip writes local headers, the directory and its end.
func handZip(files ...rawZip) []byte {
	var b, dir bytes.Buffer
	var n uint16
	for _, f := range files {
		at := uint32(b.Len())
		crc, size := crc32.ChecksumIEEE([]byte(f.text)), uint32(len(f.text))
		put(&b, zipLocal, uint16(20), f.flags, f.method, uint32(0), crc, size, size, uint16(len(f.local)), uint16(len(f.extra)), f.local, f.extra, f.text)
		if f.unlisted {
			continue
		}
		n++
		put(&dir, zipCentral, uint16(0x314), uint16(20), f.flags, f.method, uint32(0), crc, size, size,
			uint16(len(f.central)), uint16(len(f.extra)), uint16(0), uint16(0), uint16(0), f.mode<<16, at, f.central, f.extra)
	}
	at := uint32(b.Len())
	put(&b, dir.String(), zipEnd, uint16(0), uint16(0), n, n, uint32(dir.Len()), at, uint16(0))
	return b.Bytes()
}

// run makes a file with a real program, in a folder that holds the files.
func run(t *testing.T, pkg string, args []string, out string, files ...file) []byte {
	t.Helper()
	dir := t.TempDir()
	for _, f := range files {
		check(t, os.WriteFile(filepath.Join(dir, f.name), []byte(f.text), 0o600))
	}
	cmd := exec.CommandContext(t.Context(), testkit.Program(t, args[0], pkg), args[1:]...)
	cmd.Dir = dir
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%q: %v\n%s", args, err, text)
	}
	b, err := os.ReadFile(filepath.Join(dir, out))
	check(t, err)
	return b
}

// rar5 writes a stored file in the format of RAR 5.
func rar5(f file) []byte { return testkit.RAR5(f.name, []byte(f.text)) }

// rar4 writes stored files in the older format; flags go into the file header,
// main into the one of the archive.
func rar4(main, flags uint16, files ...file) []byte {
	var b bytes.Buffer
	b.WriteString("Rar!\x1a\x07\x00")
	block := func(kind byte, flags uint16, rest, data string) {
		var h bytes.Buffer
		put(&h, kind, flags, uint16(7+len(rest)), rest)
		put(&b, uint16(crc32.ChecksumIEEE(h.Bytes())), h.String(), data)
	}
	block(0x73, main, "\x00\x00\x00\x00\x00\x00", "")
	for _, f := range files {
		var h bytes.Buffer
		size := uint32(len(f.text))
		put(&h, size, size, byte(3), crc32.ChecksumIEEE([]byte(f.text)), uint32(0x21<<16), byte(20), byte(0x30), uint16(len(f.name)), uint32(0o100644), f.name)
		block(0x74, 0x8000|flags, h.String(), f.text)
	}
	block(0x7b, 0x4000, "", "")
	return b.Bytes()
}

var errVisit = errors.New("seen enough")

// lookAs makes a walk that notes what it shows.
func lookAs(t testing.TB, s *seen) *walk {
	return &walk{ctx: t.Context(), budget: NewBudget(DefaultLimits()), visit: func(e Entry, r io.Reader) error {
		b, err := io.ReadAll(io.LimitReader(r, 1<<20))
		s.entries = append(s.entries, e)
		s.content[e.Path] += string(b)
		return err
	}}
}
