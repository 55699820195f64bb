package archive

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"

	"gatepost/internal/testkit"
)

// secret is what has to be found in every kind; EICAR itself is for the tests
// with a scanner.
const secret = "MZ\x90\x00 this is what must be found "

func compressed(t testing.TB, data []byte, with func(io.Writer) (io.WriteCloser, error)) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := with(&b)
	check(t, err)
	_, err = w.Write(data)
	check(t, err)
	check(t, w.Close())
	return b.Bytes()
}

func xzed(t testing.TB, data []byte) []byte {
	return compressed(t, data, func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) })
}

func zstded(t testing.TB, data []byte) []byte {
	return compressed(t, data, func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) })
}

func lzmaed(t testing.TB, data []byte) []byte {
	return compressed(t, data, func(w io.Writer) (io.WriteCloser, error) { return lzma.NewWriter(w) })
}

// isoImage has one file in one folder, with a Rock Ridge name, and the same file
// under another name for Joliet.
func isoImage(text string) []byte { return testkit.ISO("long.exe", "schön.exe", []byte(text)) }

func cabinet(name string) []byte {
	var b bytes.Buffer
	put(&b, "MSCF", uint32(0), uint32(0), uint32(0), uint32(44), uint32(0), byte(3), byte(1), uint16(1), uint16(1), uint16(0), uint16(0), uint16(0))
	put(&b, uint32(0), uint16(0), uint16(0)) // a folder
	put(&b, uint32(9), uint32(0), uint16(0), uint16(0), uint16(0), uint16(0x20), name, byte(0))
	return b.Bytes()
}

// TestKinds: what is in every kind is found, whoever made the archive.
func TestKinds(t *testing.T) {
	in := file{"a.exe", secret + strings.Repeat("and more of it ", 200)}
	made := func(pkg, out string, args ...string) func(*testing.T) []byte {
		return func(t *testing.T) []byte { return run(t, pkg, append(args, "a.exe"), out, in) }
	}
	is := func(b []byte) func(*testing.T) []byte { return func(*testing.T) []byte { return b } }
	tar := tarred(t, in)
	tests := []struct {
		name  string
		bytes func(*testing.T) []byte
		kind  string
		path  string
	}{
		{"x.zip", is(zipped(t, in)), "zip", "x.zip/a.exe"},
		{"x.tar", is(tar), "tar", "x.tar/a.exe"},
		{"a.exe.gz", is(gzipped(t, "", []byte(in.text))), "gz", "a.exe.gz/a.exe"},
		{"x.tgz", is(gzipped(t, "", tar)), "gz", "x.tgz/x.tar/a.exe"},
		{"a.exe.xz", is(xzed(t, []byte(in.text))), "xz", "a.exe.xz/a.exe"},
		{"a.exe.zst", is(zstded(t, []byte(in.text))), "zst", "a.exe.zst/a.exe"},
		{"a.exe.lzma", is(lzmaed(t, []byte(in.text))), "lzma", "a.exe.lzma/a.exe"},
		{"x5.rar", is(rar5(in)), "rar", "x5.rar/a.exe"},
		{"x.iso", is(isoImage(in.text)), "iso", "x.iso/schön.exe"},
		{"x.z.xz.gz.zip", is(zipped(t, file{"b.gz", string(gzipped(t, "", xzed(t, zstded(t, []byte(in.text)))))})), "zip", "x.z.xz.gz.zip/b.gz/b/b/b"},

		{"zip", made("zip", "x.zip", "zip", "-q", "x.zip"), "zip", "zip/a.exe"},
		{"tar", made("tar", "x.tar", "tar", "cf", "x.tar", "--format=v7"), "tar", "tar/a.exe"},
		{"tar pax", made("tar", "x.tar", "tar", "cf", "x.tar", "--format=pax"), "tar", "tar pax/a.exe"},
		{"bzip2.bz2", made("bzip2", "a.exe.bz2", "bzip2"), "bz2", "bzip2.bz2/bzip2"},
		{"xz.xz", made("xz-utils", "a.exe.xz", "xz", "-9e"), "xz", "xz.xz/xz"},
		{"xz without check.xz", made("xz-utils", "a.exe.xz", "xz", "--check=none"), "xz", "xz without check.xz/xz without check"},
		{"xz in blocks.xz", made("xz-utils", "a.exe.xz", "xz", "--block-size=1000"), "xz", "xz in blocks.xz/xz in blocks"},
		{"old.lzma", made("xz-utils", "a.exe.lzma", "xz", "--format=lzma"), "lzma", "old.lzma/old"},
		{"zstd.zst", made("zstd", "a.exe.zst", "zstd", "-q"), "zst", "zstd.zst/zstd"},
		{"7z", made("p7zip-full", "x.7z", "7z", "a", "-bd", "x.7z"), "7z", "7z/a.exe"},
		{"7z with a filter", made("p7zip-full", "x.7z", "7z", "a", "-bd", "-mx=9", "-m0=BCJ2", "-m1=LZMA", "x.7z"), "7z", "7z with a filter/a.exe"},
		{"7z PPMd", made("p7zip-full", "x.7z", "7z", "a", "-bd", "-m0=PPMd", "x.7z"), "7z", "7z PPMd/a.exe"},
		{"zip BZip2", made("p7zip-full", "x.zip", "7z", "a", "-bd", "-tzip", "-mm=BZip2", "x.zip"), "zip", "zip BZip2/a.exe"},
		{"zip LZMA", made("p7zip-full", "x.zip", "7z", "a", "-bd", "-tzip", "-mm=LZMA", "x.zip"), "zip", "zip LZMA/a.exe"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := look(t, tt.name, tt.bytes(t), DefaultLimits())
			e := s.entry(t, tt.path)
			if s.Kind != tt.kind || len(s.Ambiguous)+len(s.Unseen) > 0 || s.Encrypted {
				t.Errorf("result = %+v", s.Result)
			}
			if s.content[tt.path] != in.text || !e.Whole || e.Size != int64(len(in.text)) || e.Type.Program != "dos" {
				t.Errorf("content of %d bytes, entry %+v", len(s.content[tt.path]), e)
			}
		})
	}
}

// TestLocked: what is encrypted, or can't be opened, says so.
func TestLocked(t *testing.T) {
	in := file{"a.exe", secret}
	seven := func(args ...string) func(*testing.T) []byte {
		return func(t *testing.T) []byte {
			return run(t, "p7zip-full", append(append([]string{"7z", "a", "-bd", "-psecret"}, args...), "a.exe"), args[len(args)-1], in)
		}
	}
	is := func(b []byte) func(*testing.T) []byte { return func(*testing.T) []byte { return b } }
	cut := zipped(t, file{"a.txt", strings.Repeat("text ", 1000)})
	tests := []struct {
		name      string
		bytes     func(*testing.T) []byte
		names     []string
		encrypted bool
		unseen    string
	}{
		{"zip", seven("-tzip", "x.zip"), []string{"zip/a.exe"}, true, ""},
		{"zip AES", seven("-tzip", "-mem=AES256", "x.zip"), []string{"zip AES/a.exe"}, true, ""},
		{"7z", seven("x.7z"), []string{"7z/a.exe"}, true, ""},
		{"7z names too", seven("-mhe=on", "x.7z"), nil, true, "list of files is encrypted"},
		{"rar", is(rar4(0, 4, in)), []string{"rar/a.exe"}, true, "names only"},
		{"old rar", is(rar4(0, 0, in)), []string{"old rar/a.exe"}, false, "names only"},
		{"rar names too", is(rar4(0x80, 0, in)), nil, true, "list of files is encrypted"},
		{"cab", is(cabinet("a.exe")), []string{"cab/a.exe"}, false, "cab not opened"},
		{"arj", is([]byte("\x60\xea\x28\x00\x22\x0b\x01\x0b\x10\x00\x02\x00 and so on")), nil, false, "arj not opened"},
		{"lzh", is([]byte("\x20\x20-lh5-\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x20\x01\x01a")), nil, false, "lzh not opened"},
		{"vhd", is(append(bytes.Repeat([]byte{1}, 1024), append([]byte("conectix"), make([]byte, 504)...)...)), nil, false, "vhd not opened"},
		{"cut zip", is(cut[:60]), []string{"cut zip/a.txt"}, false, "not decoded"},
		{"cut tar", is(tarred(t, file{"a", strings.Repeat("x", 2000)})[:1500]), []string{"cut tar/a"}, false, "not decoded"},
		{"cut gz", is(gzipped(t, "a", bytes.Repeat([]byte("abc"), 1000))[:20]), []string{"cut gz/a"}, false, "not decoded"},
		{"gz with more behind", is(append(gzipped(t, "a", []byte("text")), "surprise"...)), []string{"gz with more behind/a"}, false, "behind the end"},
		{"7z without an end", is([]byte("7z\xbc\xaf\x27\x1c\x00\x04\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x7f\x00\x00\x00\x00")), nil, false, "7z not opened"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := look(t, tt.name, tt.bytes(t), DefaultLimits())
			if got := s.names(); !slices.Equal(got, tt.names) {
				t.Errorf("names = %q, want %q; %+v", got, tt.names, s.Result)
			}
			if s.Encrypted != tt.encrypted || tt.unseen != "" && !says(s.Unseen, tt.unseen) || tt.unseen == "" && len(s.Unseen) > 0 {
				t.Errorf("result = %+v", s.Result)
			}
		})
	}
}

// TestOldRar: with enough memory the content of RAR 4 is read as well.
func TestOldRar(t *testing.T) {
	l := DefaultLimits()
	l.Memory = 1 << 30
	s := look(t, "x.rar", rar4(0, 0, file{"a.exe", secret}), l)
	if s.content["x.rar/a.exe"] != secret || len(s.Unseen) > 0 {
		t.Errorf("%q %+v", s.content, s.Result)
	}
}

// TestMembers: a file cut over two gzip members is one file, as gunzip sees it.
func TestMembers(t *testing.T) {
	s := look(t, "x.gz", slices.Concat(gzipped(t, "a", []byte("EI")), gzipped(t, "a", []byte("CAR"))), DefaultLimits())
	if got := s.content["x.gz/a"]; got != "EICAR" {
		t.Errorf("content = %q, %+v", got, s.Result)
	}
}

// TestNothing: what is no archive gives nothing, and no reason.
func TestNothing(t *testing.T) {
	for _, text := range []string{"", "x", "Dear all,\r\nPK is not a zip.\r\n", "MZ is how my name begins", strings.Repeat("BZh9 ", 100), "GIF89a"} {
		if s := look(t, "x", []byte(text), DefaultLimits()); s.Kind != "" || len(s.entries)+len(s.Unseen)+len(s.Ambiguous) > 0 {
			t.Errorf("%.20q: %+v", text, s)
		}
	}
}

// TestErrors: those of the visitor, of reading and of ctx end everything.
func TestErrors(t *testing.T) {
	b := zipped(t, file{"a", "one"}, file{"b", "two"})
	open := func(ctx context.Context, r io.ReaderAt, visit Visit) error {
		_, err := Open(ctx, "x", r, int64(len(b)), NewBudget(DefaultLimits()), visit)
		return err
	}
	var visits int
	err := open(t.Context(), bytes.NewReader(b), func(Entry, io.Reader) error { visits++; return errVisit })
	if !errors.Is(err, errVisit) || visits != 1 {
		t.Errorf("visit: %v after %d", err, visits)
	}
	visits = 0
	outer := zipped(t, file{"a.zip", string(b)}, file{"b", "three"})
	_, err = Open(t.Context(), "x", bytes.NewReader(outer), int64(len(outer)), NewBudget(DefaultLimits()), func(Entry, io.Reader) error { visits++; return errVisit })
	if !errors.Is(err, errVisit) || visits != 1 {
		t.Errorf("visit in a nested archive: %v after %d", err, visits)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = open(ctx, bytes.NewReader(b), func(Entry, io.Reader) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("ctx: %v", err)
	}
	err = open(t.Context(), brokenReader{}, func(Entry, io.Reader) error { return nil })
	if !errors.Is(err, errVisit) {
		t.Errorf("read: %v", err)
	}
}

type brokenReader struct{}

func (brokenReader) ReadAt([]byte, int64) (int, error) { return 0, errVisit }
