package archive

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// spend runs f and gives the CPU time and the largest heap meanwhile, and what
// was allocated in all.
func spend(t *testing.T, f func()) (cpu time.Duration, heap uint64) {
	t.Helper()
	runtime.GC()
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			runtime.ReadMemStats(&now)
			if now.HeapAlloc > before.HeapAlloc {
				heap = max(heap, now.HeapAlloc-before.HeapAlloc)
			}
			select {
			case <-stop:
				return
			case <-time.After(2 * time.Millisecond):
			}
		}
	}()
	from := cpuTime(t)
	f()
	cpu = cpuTime(t) - from
	close(stop)
	<-done
	return cpu, heap
}

func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	check(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// bomb42 is one archive in many, in many, down to one that is 12 MB of zeros.
func bomb42(t *testing.T) []byte {
	inner := zipped(t, file{"0", strings.Repeat("\x00", 12<<20)})
	for range 5 {
		var files []file
		for i := range 16 {
			files = append(files, file{fmt.Sprintf("%d.zip", i), string(inner)})
		}
		inner = zipped(t, files...)
	}
	return inner
}

// overlapped is many names for the same content, as David Fifield's zbsm has it.
func overlapped(t *testing.T) []byte {
	b := zipped(t, file{"0", strings.Repeat("\x00", 12<<20)})
	at := bytes.LastIndex(b, []byte(zipCentral))
	end := bytes.LastIndex(b, []byte(zipEnd))
	head := b[at:end]
	var dir bytes.Buffer
	const n = 20000
	for i := range n {
		h := bytes.Clone(head)
		h[46] = byte(i)
		dir.Write(h)
	}
	out := slices.Concat(b[:at], dir.Bytes())
	var e bytes.Buffer
	put(&e, zipEnd, uint16(0), uint16(0), uint16(n), uint16(n), uint32(dir.Len()), uint32(at), uint16(0))
	return append(out, e.Bytes()...)
}

func tinyFiles(n int) []byte {
	var files []rawZip
	for i := range n {
		files = append(files, plainFile(fmt.Sprint(i), ""))
	}
	return handZip(files...)
}

func nested(t *testing.T, n int) []byte {
	b := []byte("text")
	for range n {
		b = zipped(t, file{"x.zip", string(b)})
	}
	return b
}

// wideZstd asks for a window of 2 GB for a few bytes.
func wideZstd() []byte {
	return []byte("\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00")
}

// longZstd is n zeros, in blocks that each say a byte and how often.
func longZstd(n int) []byte {
	b := []byte("\x28\xb5\x2f\xfd\x00\x40") // a window of 256 KB
	for range n >> 17 {
		b = append(b, 0x02, 0x00, 0x10, 0)
	}
	return append(b, 0x01, 0x00, 0x00)
}

// wideXZ is a real file whose block header asks for a dictionary of 4 GB; the
// check sum of the header does not matter to us.
func wideXZ(t *testing.T) []byte {
	b := xzed(t, []byte("text"))
	i := bytes.Index(b, []byte{0x21, 0x01})
	b[i+2] = 40
	return b
}

// wideLZMA is a header that asks for 2 GB.
func wideLZMA() []byte {
	return append([]byte("\x5d\x00\x00\x00\x80\xff\xff\xff\xff\xff\xff\xff\xff\x00"), make([]byte, 100)...)
}

// many are many small files in one archive.
func many(t *testing.T, n int, name string, one []byte) []byte {
	var files []file
	for i := range n {
		files = append(files, file{fmt.Sprint(i, name), string(one)})
	}
	return tarred(t, files...)
}

// hugeNames7z has a header that says it has four thousand million files.
func hugeNames7z() []byte {
	header := "\x01\x05\xf0\xff\xff\xff\xff\x00\x00"
	var b bytes.Buffer
	put(&b, "7z\xbc\xaf\x27\x1c\x00\x04", uint32(0), uint64(0), uint64(len(header)), uint32(0), header)
	return b.Bytes()
}

func sparseTar() []byte {
	// GNU sparse 1.0: a file of 1 TB of which nothing is in the archive.
	var b bytes.Buffer
	pax := ""
	for _, r := range []string{"GNU.sparse.major=1\n", "GNU.sparse.minor=0\n", "GNU.sparse.name=big\n", "GNU.sparse.realsize=1099511627776\n"} {
		n := len(r) + 3
		pax += fmt.Sprintf("%d %s", n, r)
	}
	block := func(kind byte, name, data string) {
		h := make([]byte, 512)
		copy(h, name)
		copy(h[100:], "0000644\x000000000\x000000000\x00")
		copy(h[124:], fmt.Sprintf("%011o\x0000000000000\x00        ", len(data)))
		h[156] = kind
		copy(h[257:], "ustar\x0000")
		var sum int
		for _, c := range h {
			sum += int(c)
		}
		copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
		b.Write(h)
		b.WriteString(data)
		b.Write(make([]byte, (512-len(data)%512)%512))
	}
	block('x', "pax", pax)
	block('0', "big", "1\n1099511627776\n0\n"+strings.Repeat("\x00", 512-18))
	b.Write(make([]byte, 1024))
	return b.Bytes()
}

// TestBombs: each ends soon, in little memory, and says that it was not seen whole.
// The bounds are generous, for the race detector is slow, and the heap has what the
// collector didn't get to; the figures are printed.
func TestBombs(t *testing.T) {
	zeros := file{"zeros", strings.Repeat("\x00", 12<<20)}
	tests := []struct {
		name   string
		bytes  []byte
		unseen string
	}{
		{"42.zip", bomb42(t), "bytes decoded"},
		{"overlapping files", overlapped(t), "more than 10000 files"},
		{"gz of zeros", gzipped(t, "", make([]byte, 16<<20)), "250 times"},
		{"zst of 4 GB", longZstd(4 << 30), "250 times"},
		{"xz of zeros", run(t, "xz-utils", []string{"xz", "zeros"}, "zeros.xz", zeros), "250 times"},
		{"lzma of zeros", run(t, "xz-utils", []string{"xz", "--format=lzma", "zeros"}, "zeros.lzma", zeros), "250 times"},
		{"thirty thousand files", tinyFiles(30_000), "more than 10000 files"},
		{"twenty in each other", nested(t, 20), "archives in each other"},
		{"zst with a large window", wideZstd(), "window"},
		{"xz with a large dictionary", wideXZ(t), ""},
		{"lzma with a large dictionary", wideLZMA(), "dictionary"},
		{"many small xz", many(t, 1000, ".xz", xzed(t, []byte("text"))), ""},
		{"many dictionaries", many(t, 300, ".lzma", append([]byte("\x5d\x00\x00\x80\x00\xff\xff\xff\xff\xff\xff\xff\xff\x00"), make([]byte, 100)...)), "not decoded"},
		{"many bzip2", many(t, 600, ".bz2", []byte("BZh91AY&SY\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")), "not decoded"},
		{"many zst", many(t, 600, ".zst", append([]byte("\x28\xb5\x2f\xfd\x00\x68"), 0x02, 0x00, 0x10, 0)), "not decoded"},
		{"many rar", many(t, 1000, ".rar", rar5(file{"a", "text"})), ""},
		{"many zip", many(t, 6000, ".zip", zipped(t, file{"a", "text"})), "more than 10000 files"},
		{"7z with too many names", hugeNames7z(), "7z not opened"},
		{"sparse tar of 1 TB", sparseTar(), "times"},
		{"headers over and over", bytes.Repeat([]byte("PK\x03\x04\x14\x00\x00\x00\x00\x00aaaaaaaaaaaaaaaa\x01\x00\xff\xff"), 60_000), ""},
		{"ends over and over", bytes.Repeat([]byte(zipEnd+"\x00\x00\x00\x00\x01\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 60_000), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var res Result
			var err error
			b := NewBudget(DefaultLimits())
			cpu, heap := spend(t, func() {
				res, err = Open(context.Background(), "x", bytes.NewReader(tt.bytes), int64(len(tt.bytes)), b, func(_ Entry, r io.Reader) error {
					_, err := io.Copy(io.Discard, r)
					_ = err // a bomb that is over budget is told in the result
					return nil
				})
			})
			if err != nil {
				t.Fatal(err)
			}
			files, n := b.Used()
			t.Logf("%d bytes: %v CPU, %d MB, %d files, %d MB decoded, %.100q", len(tt.bytes), cpu, heap>>20, files, n>>20, res.Unseen)
			if tt.unseen != "" && !says(res.Unseen, tt.unseen) {
				t.Errorf("unseen = %q, want %q; %+v", res.Unseen, tt.unseen, res)
			}
			if cpu > 30*time.Second || heap > 256<<20 {
				t.Errorf("%v CPU and %d MB", cpu, heap>>20)
			}
		})
	}
}
