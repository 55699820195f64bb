package integration

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"gatepost/internal/testkit"
)

// zipOf is an archive of files: a name, a content, and so on.
func zipOf(t *testing.T, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := 0; i+1 < len(files); i += 2 {
		w, err := z.Create(files[i])
		if err == nil {
			_, err = w.Write([]byte(files[i+1]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// linkTar has a link that leads out of it.
func linkTar(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "a.txt", Typeflag: tar.TypeSymlink, Linkname: "../../../etc/passwd", Mode: 0o777}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// M11: archives in which two unpackers see different things, or that write where
// they should not, are held, whatever is in them; and what is forbidden by its name
// is found in them.
func TestHostileArchives(t *testing.T) {
	d := newTwoDoors(t, binaries.race, func(g *testkit.Gateway) {
		g.Config.Set("filter.attachments", "deny", `[{name="programs", standard=true, extensions=["lnk", "iso", "vhd", "one"]}]`)
	})
	good := zipOf(t, "a.txt", "hello")
	for door, addr := range d.doors {
		for i, tt := range []struct {
			name, file string
			content    []byte
			code       int
			why        string // why it is held, or what the refusal says
		}{
			{"two directories", "x.zip", slices.Concat(good, zipOf(t, "b.txt", "other")), 250, "ambiguous"},
			{"another name in front of the file", "x.zip", bytes.Replace(good, []byte("a.txt"), []byte("b.txt"), 1), 250, "ambiguous"},
			{"a program's name in front of the file", "x.zip", bytes.Replace(good, []byte("a.txt"), []byte("b.exe"), 1), 554, "ends in .exe"},
			{"a program's name in the directory", "x.zip", bytes.Replace(zipOf(t, "b.exe", "hello"), []byte("b.exe"), []byte("a.txt"), 1), 554, "b.exe"},
			{"one name twice", "x.zip", zipOf(t, "a.txt", "1", "a.txt", "2"), 250, "ambiguous"},
			{"overlapping", "x.zip", overlapping(good, 3), 250, "ambiguous"},
			{"more behind the end", "x.zip", append(bytes.Clone(good), "surprise, and more of it"...), 250, "ambiguous"},
			{"out of the folder", "x.zip", zipOf(t, "../../a.txt", "hello"), 250, "ambiguous"},
			{"out of the folder, for Windows", "x.zip", zipOf(t, "..\\..\\a.txt", "hello"), 250, "ambiguous"},
			{"absolute", "x.zip", zipOf(t, "/etc/a.txt", "hello"), 250, "ambiguous"},
			{"a link", "x.tar", linkTar(t), 250, "ambiguous"},
			{"cut", "x.zip", good[:len(good)-30], 250, "ambiguous"},
			{"a program", "x.zip", zipOf(t, "a.exe", "hello"), 554, "a.exe"},
			{"a program behind a picture", "x.gif", slices.Concat([]byte("GIF89a\x01\x00\x01\x00\x00\x00\x00;"), zipOf(t, "a.exe", "hello")), 554, "a.exe"},
			{"a program in five", "x.zip", testkit.Zip("b.tar", testkit.Tar("c.zip", zipOf(t, "d.zip", string(zipOf(t, "a.scr", "hello"))))), 554, "a.scr"},
			{"double extension", "x.zip", zipOf(t, "invoice.pdf.exe", "hello"), 554, "invoice.pdf.exe"},
			{"turned around", "x.zip", zipOf(t, "inv\u202etxt.exe", "hello"), 554, ".exe"},
			{"a program in an encrypted RAR", "x.rar", testkit.RAR4("a.exe", []byte("????"), true), 554, "a.exe"},
			{"a program in a RAR", "x.rar", testkit.RAR5("a.exe", []byte("hello")), 554, "a.exe"},
			{"a program in an image", "x.img", testkit.ISO("long.exe", "b.exe", []byte("hello")), 554, ".exe"},
			{"a program in winmail.dat", "winmail.dat", testkit.Winmail("a.exe", []byte("hello")), 554, "a.exe"},
			{"a program in a document", "x.docx", document(t, "word/embeddings/oleObject1.bin", testkit.OLEPackage("a.exe", []byte("hello"))), 554, "a.exe"},
			{"a link file", "x.zip", zipOf(t, "a.lnk", "hello"), 554, "a.lnk"},
			{"good", "x.zip", good, 250, ""},
		} {
			t.Run(door+" M11 "+tt.name, func(t *testing.T) {
				from := fmt.Sprintf("m11-%d-%s@sender.test", i, door)
				res := testkit.Send(addr, testkit.Letter{From: from, To: []string{"u@example.com"}, Data: testkit.WithAttachment("x", "x", tt.file, tt.content)})
				if res.Err != nil || res.Code != tt.code || tt.code != 250 && !strings.Contains(res.Text(), tt.why) {
					t.Errorf("got %v, want %d with %q", res, tt.code, tt.why)
				}
				if why := d.held(t, from); res.Accepted() && (why == "") != (tt.why == "") || res.Accepted() && !strings.Contains(why, tt.why) {
					t.Errorf("held because %q, want %q", why, tt.why)
				}
			})
		}
	}
	waitMails(t, d.sink, len(d.doors))
}
