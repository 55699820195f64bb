package archive

import (
	"bytes"
	"context"
	"io"
	"testing"
)

// small are limits under which no input of a fuzzer takes long.
func small() *Budget {
	return NewBudget(Limits{Depth: 4, Files: 200, Bytes: 4 << 20, Ratio: 50, Memory: 4 << 20})
}

// openAll opens b as one kind, and checks what a caller counts on.
func openAll(t *testing.T, kind string, b []byte) {
	budget := small()
	var visits int
	res, err := openAs(context.Background(), "x", []string{kind}, &source{ctx: context.Background(), r: bytes.NewReader(b)}, int64(len(b)), budget,
		func(e Entry, r io.Reader) error {
			visits++
			if e.Path == "" || len(e.Names) == 0 || e.Depth < 1 {
				t.Errorf("entry %+v", e)
			}
			n, _ := io.Copy(io.Discard, r)
			if e.Whole && e.Type.Media == "" {
				t.Errorf("whole, but of no type: %+v with %d bytes", e, n)
			}
			return nil
		})
	if err != nil {
		t.Errorf("error %v", err)
	}
	if files, _ := budget.Used(); visits > files {
		t.Errorf("%d visits, but %d files counted", visits, files)
	}
	if budget.held != 0 {
		t.Errorf("%d bytes never given back", budget.held)
	}
	if len(res.Unseen) > maxTold || len(res.Ambiguous) > maxTold {
		t.Errorf("%d and %d reasons", len(res.Unseen), len(res.Ambiguous))
	}
}

func FuzzZip(f *testing.F) {
	f.Add(handZip(plainFile("a", "one"), plainFile("b", "two")))
	f.Add(handZip(rawZip{local: "a.txt", central: "b", text: "one", extra: unicodeName("b", "c"), unlisted: true}))
	f.Add(zipped(f, file{"a", "text"}, file{"b.zip", string(zipped(f, file{"c", "text"}))}))
	f.Fuzz(func(t *testing.T, b []byte) { openAll(t, "zip", b) })
}

func FuzzTNEF(f *testing.F) {
	f.Add(winmailFull())
	f.Fuzz(func(t *testing.T, b []byte) { openAll(t, "tnef", b) })
}

func FuzzISO(f *testing.F) {
	f.Add(isoImage("text")[16*isoSector:])
	f.Fuzz(func(t *testing.T, b []byte) { openAll(t, "iso", append(make([]byte, 16*isoSector), b...)) })
}

func FuzzCab(f *testing.F) {
	f.Add(cabinet("a.exe"))
	f.Fuzz(func(t *testing.T, b []byte) { openAll(t, "cab", b) })
}

func Fuzz7z(f *testing.F) {
	f.Add(hugeNames7z())
	f.Add([]byte("7z\xbc\xaf\x27\x1c\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00"))
	f.Fuzz(func(t *testing.T, b []byte) { openAll(t, "7z", b) })
}

func FuzzStreams(f *testing.F) {
	for i, b := range [][]byte{gzipped(f, "a", []byte("text")), xzed(f, []byte("text")), zstded(f, []byte("text")), lzmaed(f, []byte("text")),
		tarred(f, file{"a", "text"}), rar5(file{"a", "text"}), rar4(0, 0, file{"a", "text"})} {
		f.Add(byte(i), b)
	}
	kinds := []string{"gz", "xz", "zst", "lzma", "tar", "rar", "rar", "bz2"}
	f.Fuzz(func(t *testing.T, kind byte, b []byte) { openAll(t, kinds[int(kind)%len(kinds)], b) })
}

func FuzzOffice(f *testing.F) {
	f.Add(compound(stream{"Workbook", biff("\x85\x00\x08\x00\x00\x00\x00\x00\x00\x01\x01A"), 0}, stream{"\x01Ole10Native", packaged("a", "b", "c", "data"), 0}))
	f.Add(docx(f, file{"word/embeddings/a.bin", string(compound(stream{"__attach_version1.0_#0/", "", 0}, stream{"__substg1.0_37010102", "x", 1}))}))
	f.Fuzz(func(t *testing.T, b []byte) {
		budget := small()
		rep, err := Office(context.Background(), "x", bytes.NewReader(b), int64(len(b)), budget)
		if err != nil {
			t.Errorf("error %v", err)
		}
		if budget.held != 0 || len(rep.Embedded) > maxEmbedded {
			t.Errorf("%d bytes never given back, %d embedded", budget.held, len(rep.Embedded))
		}
	})
}

func FuzzDetect(f *testing.F) {
	f.Add([]byte("MZ\x90\x00"))
	f.Add([]byte("var a = new ActiveXObject(1);"))
	f.Add(isoImage("x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if typ := DetectFile(bytes.NewReader(b), int64(len(b))); typ.Media == "" || typ.Archive != "" && typ.Document != "" {
			t.Errorf("type %+v", typ)
		}
	})
}
