package integration

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	"gatepost/internal/testkit"
)

// twoDoors is one gateway with a clamd, which clients speak to and a Postfix asks.
type twoDoors struct {
	gateway *testkit.Gateway
	sink    *testkit.Sink
	clamd   *testkit.Clamd
	doors   map[string]string // addresses by name
}

func newTwoDoors(t *testing.T, binary func() (string, error), configure func(*testkit.Gateway)) *twoDoors {
	t.Helper()
	needRoot(t)
	d := &twoDoors{sink: testkit.Up(t, testkit.NewSink()), clamd: testkit.Up(t, testkit.NewClamd(testkit.Dir(t)))}
	d.gateway = newGateway(t, binary, d.sink.Addr)
	d.gateway.UseClamd("unix:"+d.clamd.Socket, "tempfail")
	d.gateway.Config.Set("filter.clamav", "timeout", `"120s"`)
	socket := milterSocket(t, d.gateway, "unix")
	d.gateway.Config.Set("milter.main", "quarantine", `"hold"`)
	d.gateway.Config.Set("milter.main", "reinject", fmt.Sprintf("%q", "smtp://"+d.sink.Addr))
	if configure != nil {
		configure(d.gateway)
	}
	testkit.Up(t, d.gateway)
	mta := testkit.Up(t, testkit.NewMilterPostfix(testkit.Dir(t), d.sink.Addr, "unix:"+socket, "local_header_rewrite_clients =", "message_size_limit = 50000000", "header_size_limit = 20000000"))
	d.doors = map[string]string{"proxy": d.gateway.Addr, "milter": mta.Addr}
	return d
}

// held is the reason why the message with that subject is held; "" when it is not.
func (d *twoDoors) held(t *testing.T, id string) string {
	t.Helper()
	for _, m := range inState(t, d.gateway, "hold") {
		if strings.Contains(fmt.Sprint(m), id) {
			return fmt.Sprint(m["reason"])
		}
	}
	return ""
}

// askClamd has clamd scan content as it is, and nothing of ours before it.
func askClamd(t *testing.T, socket string, content []byte) string {
	t.Helper()
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b := binary.BigEndian.AppendUint32([]byte("zINSTREAM\x00"), uint32(len(content)))
	if _, err := c.Write(append(append(b, content...), 0, 0, 0, 0)); err != nil {
		t.Fatal(err)
	}
	said, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Trim(string(said), "\x00")
}

// archiveRow is an archive as an attachment.
type archiveRow struct {
	name    string // of the file
	content []byte
}

// infected are archives of every kind with EICAR in them.
func infected(t *testing.T) []archiveRow {
	t.Helper()
	const name = "invoice.com"
	// Packers store what is short, and refer back for what they have seen: so that
	// it stands nowhere as it is, its halves come first.
	eicar := testkit.EICAR()
	virus := []byte(testkit.Filler(3000) + eicar[:40] + "\r\n" + eicar[30:] + "\r\n" + eicar + testkit.Filler(3000))
	pack := func(pkg, out string, command ...string) []byte {
		return testkit.Pack(t, pkg, name, virus, out, append(command, name)...)
	}
	var gz bytes.Buffer
	z := gzip.NewWriter(&gz)
	_, _ = z.Write(testkit.Tar(name, virus))
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	zip := testkit.Zip(name, virus)
	deep := zip
	for range 6 {
		deep = testkit.Zip("a.zip", deep)
	}
	zst, xz := pack("zstd", "", "zstd", "-qc"), pack("xz-utils", "", "xz", "-kc")
	return []archiveRow{
		{"zip.zip", zip}, {"nested.zip", testkit.Zip("a.zip", zip)}, {"seven deep.zip", deep},
		{"bzip2 in.zip", pack("p7zip-full", "x.zip", "7z", "a", "-bd", "-tzip", "-mm=BZip2", "x.zip")},
		{"lzma in.zip", pack("p7zip-full", "x.zip", "7z", "a", "-bd", "-tzip", "-mm=LZMA", "x.zip")},
		{"behind a picture.gif", slices.Concat([]byte("GIF89a\x01\x00\x01\x00\x00\x00\x00;"), zip)},
		{"tar.tar", testkit.Tar(name, virus)}, {"tar gz.tar.gz", gz.Bytes()},
		{"bz2.com.bz2", pack("bzip2", "", "bzip2", "-kc")}, {"xz.com.xz", xz}, {"zst.com.zst", zst},
		{"lzma.com.lzma", pack("xz-utils", "", "xz", "--format=lzma", "-kc")},
		{"zst in.zip", testkit.Zip("a.zst", zst)}, {"xz in zst in.tar", testkit.Tar("a.tar", testkit.Tar("b.xz", xz))},
		{"7z.7z", pack("p7zip-full", "x.7z", "7z", "a", "-bd", "x.7z")},
		{"7z PPMd.7z", pack("p7zip-full", "x.7z", "7z", "a", "-bd", "-m0=PPMd", "x.7z")},
		{"rar5.rar", testkit.RAR5(name, virus)}, {"iso.iso", testkit.ISO(name, name, virus)}, {"winmail.dat", testkit.Winmail(name, virus)},
		{"embedded.docx", document(t, "word/embeddings/oleObject1.bin", testkit.OLEPackage(name, virus))},
		{"as a picture.docx", document(t, "word/media/image1.png", virus)},
		{"object.doc", testkit.OLEPackage(name, virus)},
	}
}

// document is a Word document with one more part.
func document(t *testing.T, name string, content []byte) []byte {
	t.Helper()
	return zipOf(t, "[Content_Types].xml", `<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="xml" ContentType="application/xml"/></Types>`,
		"word/document.xml", "<w:document/>", name, string(content))
}

// locked are archives that nobody but the recipient can look into, of programs
// that encrypt, with why the message is held.
func locked(t *testing.T) []archiveRow {
	t.Helper()
	const name = "invoice.com"
	virus := []byte(testkit.EICAR())
	seven := func(out string, args ...string) []byte {
		command := append([]string{"7z", "a", "-bd", "-psecret"}, args...)
		return testkit.Pack(t, "p7zip-full", name, virus, out, append(command, out, name)...)
	}
	return []archiveRow{
		{"zip.zip", seven("x.zip", "-tzip")}, {"AES.zip", seven("x.zip", "-tzip", "-mem=AES256")}, {"7z.7z", seven("x.7z")},
		{"names too.7z", seven("x.7z", "-mhe=on")}, {"rar.rar", testkit.RAR4(name, []byte("not to be read"), true)},
		{"in a zip.zip", testkit.Zip("a.7z", seven("x.7z", "-mhe=on"))},
	}
}

// Real clamd finds EICAR in archives of every kind, through both entries: where
// it can't open them itself it gets what we found in them. What nobody can look
// into is never clean.
func TestArchives(t *testing.T) {
	d := newTwoDoors(t, binaries.race, nil)
	virus, closed := infected(t), locked(t)
	var alone []string
	for _, a := range virus {
		if !strings.HasSuffix(askClamd(t, d.clamd.Socket, testkit.WithAttachment("x", "x", a.name, a.content)), "FOUND") {
			alone = append(alone, a.name)
		}
	}
	t.Logf("clamd alone, given the message, does not find it in %q", alone)
	for door, addr := range d.doors {
		t.Run(door, func(t *testing.T) {
			for i, a := range virus {
				t.Run(a.name, func(t *testing.T) {
					data := testkit.WithAttachment(fmt.Sprintf("v%d.%s", i, door), "papers", a.name, a.content)
					isVirus(t, testkit.Send(addr, letter(data)))
				})
			}
			t.Run("uuencoded", func(t *testing.T) {
				data := testkit.Message("uu."+door, "papers", "see below\r\n\r\n"+testkit.UUEncode("invoice.com", []byte(testkit.EICAR())))
				isVirus(t, testkit.Send(addr, letter(data)))
			})
			for i, a := range closed {
				t.Run("locked "+a.name, func(t *testing.T) {
					subject := fmt.Sprintf("locked-%d-%s-", i, door)
					sendWant(t, addr, testkit.Letter{From: subject + "@sender.test", To: []string{"u@example.com"}, Data: testkit.WithAttachment("x", "x", a.name, a.content)}, testkit.Dot, 250)
					if why := d.held(t, subject); !strings.Contains(why, "not scanned") {
						t.Errorf("held because %q", why)
					}
				})
			}
			sendWant(t, addr, letter(testkit.WithAttachment("good", "good", "good.zip", testkit.Zip("a.txt", []byte("hello")))), testkit.Dot, 250)
		})
	}
	for _, m := range waitMails(t, d.sink, len(d.doors)) {
		if field(string(m.Data), "Subject") != "good" {
			t.Errorf("this arrived:\n%.300s", m.Data)
		}
	}
}

// isVirus wants that a message was refused because of EICAR.
func isVirus(t *testing.T, res testkit.Result) {
	t.Helper()
	if res.Err != nil || res.Stage != testkit.Dot || res.Code/100 != 5 || !strings.Contains(res.Text(), "Eicar-Local") {
		t.Errorf("got %v, want it refused for the virus", res)
	}
}
