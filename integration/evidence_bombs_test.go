package integration

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// bomb is a message that is built to cost more than it is worth.
type bomb struct {
	name string
	data []byte
	over bool // must not be delivered: not all of it can be seen
}

// authorBombs are about headers and signatures.
func authorBombs(a *authors) (all []bomb) {
	const head = "Subject: x\nDate: Fri, 20 Nov 2026 10:00:00 +0000\nMessage-ID: <1@evil.test>\n"
	body := "\n" + strings.Repeat(strings.Repeat("x", 70)+"\n", 1000)
	author := "From: x@evil.test\n"
	add := func(name, text string) { all = append(all, bomb{name, wire(text), false}) }
	signature := func(selector, names string) string {
		return "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=evil.test; s=" + selector + "; h=" + names + "; bh=AAAA; b=AAAA\n"
	}
	many := author + strings.Repeat("X: y\n", 800) + head + body
	signed := a.crafted("d=evil.test; s=e; h=from"+strings.Repeat(":x", 199), author+head+body)
	field, _, _ := strings.Cut(signed, "\n")
	add("D3 names and fields, well signed", strings.Repeat(field+"\n", 10)+many)
	add("D3 names without end", signature("r", "from"+strings.Repeat(":\n x", 15_000))+author+head+body)
	add("D3 huge keys", strings.Repeat(signature("huge", "from"), 20)+author+head+body)
	add("D3 signatures", strings.Repeat(signature("r", "from"), 900)+author+head+body)
	add("D3 lines of blanks", signature("r", "from")+author+head+"\n"+strings.Repeat(" \t \n", 200_000))
	add("D3 a line of blanks", signature("r", "from")+author+head+"\n"+strings.Repeat(" ", 2<<20)+"x\n")
	var chain strings.Builder
	for i := range 50 {
		fmt.Fprintf(&chain, "ARC-Seal: i=%[1]d; a=rsa-sha256; d=evil.test; s=r; cv=pass; b=AAAA\nARC-Message-Signature: i=%[1]d; a=rsa-sha256; c=relaxed/relaxed; d=evil.test; s=r; h=from%[2]s; bh=AAAA; b=AAAA\nARC-Authentication-Results: i=%[1]d; x\n", i+1, strings.Repeat(":x", 190))
	}
	add("D10 a chain of 50", chain.String()+author+head+body)
	add("H4 fields without end", author+strings.Repeat("X-A: b\n", 200_000)+head+body)
	add("H4 a line of 5 MB", author+"X-A: "+strings.Repeat("x", 5<<20)+"\n"+head+body)
	add("H4 folded 5 MB", author+"X-A: x\n"+strings.Repeat(" "+strings.Repeat("x", 900)+"\n", 5500)+head+body)
	add("H4 addresses in To", author+"To: "+strings.Repeat("a@b.test,\n ", 100_000)+"x@b.test\n"+head+body)
	add("H4 addresses in To, within limits", author+"To: "+strings.Repeat("a@b.test,\n ", 4000)+"x@b.test\n"+head+body)
	add("H4 Received", strings.Repeat("Received: from a by b; Fri, 20 Nov 2026 10:00:00 +0000\n", 100_000)+author+head+body)
	add("H4 From fields", strings.Repeat(author, 900)+head+body)
	add("H4 comments in From", "From: "+strings.Repeat("(", 30_000)+"x@evil.test\n"+head+body)
	add("H5 broken encoded words", "From: "+strings.Repeat("=?utf-8?b?", 5000)+"<x@evil.test>\nSubject: "+strings.Repeat("=?x?q?=", 8000)+"\n"+body)
	add("H5 phrases", "From: "+strings.Repeat("\"a\" b.", 8000)+" <x@[127.0.0.1"+strings.Repeat("\\", 5000)+"]>\n"+head+body)
	return all
}

// partBombs are about MIME.
func partBombs() (all []bomb) {
	const top = "From: x@evil.test\r\nMIME-Version: 1.0\r\n"
	const mixed = top + "Content-Type: multipart/mixed; boundary=b\r\n\r\n"
	add := func(name, text string, over bool) { all = append(all, bomb{name, []byte(text), over}) }
	var deep, readings strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&deep, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
	}
	for i := range 200 {
		fmt.Fprintf(&readings, "Content-Type: multipart/mixed; boundary=c%d; boundary=d%d\r\n", i, i)
	}
	encoded := "Content-Type: text/plain\r\n\r\nhello\r\n"
	for range 20 {
		encoded = "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.StdEncoding.EncodeToString([]byte(encoded)) + "\r\n"
	}
	add("M10 10000 multiparts deep", top+deep.String()+"\r\nend\r\n", true)
	add("M10 100000 empty parts", mixed+strings.Repeat("--b\r\n\r\n", 100_000)+"--b--\r\n", true)
	add("M10 1000 messages deep", top+strings.Repeat("Content-Type: message/rfc822\r\n\r\n", 1000)+"Subject: x\r\n\r\nhello\r\n", true)
	add("M10 alternating", top+strings.Repeat("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n", 1000), true)
	add("M10 encoded messages", top+encoded, true)
	add("M1 200 types", top+readings.String()+"\r\n"+strings.Repeat("--c1\r\nx: y\r\n \r\nz\r\n--d1 x\r\n", 5000), true)
	add("M3 sections", top+"Content-Disposition: attachment"+strings.Repeat(";\r\n filename*1=a", 3000)+"\r\n\r\nx\r\n", false)
	add("M4 encoded words", top+"Content-Disposition: attachment; filename=\""+strings.Repeat("=?utf-8?b?", 6000)+"\"\r\n\r\nx\r\n", false)
	add("M7 equal signs", top+"Content-Transfer-Encoding: quoted-printable\r\n\r\n"+strings.Repeat(strings.Repeat("=", 500)+"\r\n", 1000), false)
	add("M8 lines of dashes", mixed+strings.Repeat("--\r\n", 1<<19), false)
	add("M12 uuencoded files", top+"\r\n"+strings.Repeat("begin 644 a\r\n_\r\nend\r\n", 10_000), true)
	add("M12 5 MB of tags", top+"Content-Type: text/html\r\n\r\n"+strings.Repeat("<a href=http://a.example/>\r\n", 200_000), false)
	add("10 MB of base64", top+"Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n"+strings.Repeat(strings.Repeat("QUJD", 19)+"\r\n", 130_000), false)
	return all
}

// archiveBombs are about archives (M11).
func archiveBombs(t *testing.T) (all []bomb) {
	t.Helper()
	add := func(name, file string, content []byte) {
		all = append(all, bomb{"M11 " + name, testkit.WithAttachment("bomb", "bomb", file, content), true})
	}
	zeros := strings.Repeat("\x00", 64<<20)
	inner := zipOf(t, "0", zeros)
	for range 5 {
		var files []string
		for i := range 16 {
			files = append(files, fmt.Sprintf("%d.zip", i), string(inner))
		}
		inner = zipOf(t, files...)
	}
	add("42.zip", "42.zip", inner)
	add("overlapping", "x.zip", overlapping(zipOf(t, "0", zeros), 60_000))
	var tiny []string
	for i := range 60_000 {
		tiny = append(tiny, strconv.Itoa(i), "")
	}
	add("60000 files", "x.zip", zipOf(t, tiny...))
	nested := []byte("text")
	for range 20 {
		nested = zipOf(t, "x.zip", string(nested))
	}
	add("twenty in each other", "x.zip", nested)
	var gz bytes.Buffer
	w := gzip.NewWriter(&gz)
	for range 8 {
		_, _ = io.WriteString(w, zeros)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	add("512 MB in gz", "x.gz", gz.Bytes())
	add("512 MB in gz in zip", "x.zip", zipOf(t, "x.gz", gz.String()))
	add("4 GB in zst", "x.zst", longZstd(4<<30))
	add("64 MB in xz", "x.xz", testkit.Pack(t, "xz-utils", "0", []byte(zeros), "", "xz", "-kc", "0"))
	add("64 MB in 7z", "x.7z", testkit.Pack(t, "p7zip-full", "0", []byte(zeros), "x.7z", "7z", "a", "-bd", "x.7z", "0"))
	add("zst that wants 2 GB", "x.zst", []byte("\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00"))
	add("lzma that wants 2 GB", "x.lzma", append([]byte("\x5d\x00\x00\x00\x80\xff\xff\xff\xff\xff\xff\xff\xff\x00"), make([]byte, 100)...))
	return all
}

// overlapping has the one file of an archive n times in its directory, as David
// Fifield's zbsm.
func overlapping(b []byte, n int) []byte {
	at, end := bytes.LastIndex(b, []byte("PK\x01\x02")), bytes.LastIndex(b, []byte("PK\x05\x06"))
	head := bytes.Clone(b[at:end])
	var directory bytes.Buffer
	for i := range n {
		head[46] = byte(i)
		directory.Write(head)
	}
	last := bytes.Clone(b[end:])
	binary.LittleEndian.PutUint16(last[8:], uint16(n))
	binary.LittleEndian.PutUint16(last[10:], uint16(n))
	binary.LittleEndian.PutUint32(last[12:], uint32(directory.Len()))
	return slices.Concat(b[:at], directory.Bytes(), last)
}

// longZstd is n zeros, in blocks that each say a byte and how often.
func longZstd(n int) []byte {
	b := []byte("\x28\xb5\x2f\xfd\x00\x40") // a window of 256 KB
	for range n >> 17 {
		b = append(b, 0x02, 0x00, 0x10, 0)
	}
	return append(b, 0x01, 0x00, 0x00)
}

// usage is what a process has used.
type usage struct {
	cpu       time.Duration
	now, peak int64 // kB in memory
}

// used reads it, and forgets the peak.
func used(t *testing.T, pid int) (u usage) {
	t.Helper()
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	for _, n := range strings.Fields(rest)[11:13] { // utime and stime, in ticks of 10 ms
		ticks, err := strconv.Atoi(n)
		if err != nil {
			t.Fatal(err)
		}
		u.cpu += time.Duration(ticks) * 10 * time.Millisecond
	}
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		_, _ = fmt.Sscanf(line, "VmHWM: %d kB", &u.peak)
		_, _ = fmt.Sscanf(line, "VmRSS: %d kB", &u.now)
	}
	// Where the kernel can't, the peak is that of all bombs so far.
	_ = os.WriteFile(filepath.Join(dir, "clear_refs"), []byte("5"), 0)
	return u
}

// What a bomb costs a running gateway. Each should cost less than 1 s and 64 MB;
// the bounds have room for a slow machine, and for what the collector has not got
// to. The figures are printed.
func TestWhatBombsCost(t *testing.T) {
	a := newAuthors(t)
	clamd := testkit.Up(t, testkit.NewClamd(testkit.Dir(t)))
	sink := testkit.Up(t, testkit.NewSink())
	g := newGateway(t, binaries.plain, sink.Addr)
	g.UseClamd("unix:"+clamd.Socket, "tempfail")
	g.Config.Set("filter.clamav", "timeout", `"120s"`)
	g.Config.Set("dns", "servers", fmt.Sprintf("[%q]", a.zone.Addr))
	g.Config.Set("filter.auth", "check_ours", "true")
	g.Config.Set("filter.attachments", "deny", `[{name="programs", standard=true}]`)
	testkit.Up(t, g)
	sendWant(t, g.Addr, letter(testkit.WithAttachment("warm", "warm", "a.zip", testkit.Zip("a.txt", []byte("hello")))), testkit.Dot, 250)
	idle := used(t, g.PID())
	for i, b := range slices.Concat(authorBombs(a), partBombs(), archiveBombs(t)) {
		t.Run(b.name, func(t *testing.T) {
			before := used(t, g.PID())
			from := fmt.Sprintf("bomb%d@sender.test", i)
			start := time.Now()
			res := testkit.Send(g.Addr, testkit.Letter{From: from, To: []string{"u@example.com"}, Data: b.data})
			after := used(t, g.PID())
			cost, grown := after.cpu-before.cpu, (after.peak-idle.now)>>10
			t.Logf("%d kB: %v of CPU, %d MB more than idle (%d MB before), after %v: %.90s", len(b.data)>>10, cost, grown, (before.now-idle.now)>>10, time.Since(start).Round(time.Millisecond), res)
			if res.Err != nil || res.Code/100 == 4 {
				t.Errorf("got %v", res)
			}
			if cost > 3*time.Second || grown > 128 {
				t.Errorf("%v of CPU, %d MB", cost, grown)
			}
			if b.over && res.Accepted() && len(heldFrom(t, g, from)) != 1 {
				t.Error("it was taken and is not held")
			}
		})
	}
	sendWant(t, g.Addr, letter(testkit.Message("behind", "behind", "x")), testkit.Dot, 250)
}

func heldFrom(t *testing.T, g *testkit.Gateway, from string) (all []map[string]any) {
	t.Helper()
	for _, m := range inState(t, g, "hold") {
		if strings.Contains(fmt.Sprint(m), from) {
			all = append(all, m)
		}
	}
	return all
}
