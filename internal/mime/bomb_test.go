package mime

import (
	"context"
	"encoding/base64"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	"gatepost/internal/mail"
)

// cpu is what this process has used.
func cpu(t *testing.T) time.Duration {
	t.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		t.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// bombs are messages that are to cost much more than their size. over: it is
// told that not all was seen.
func bombs() []struct {
	name, text string
	over       bool
} {
	const top = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
	deep := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
		}
		return b.String() + "\r\nend\r\n"
	}
	wrapped := func(n int) string {
		s := "Content-Type: text/plain\r\n\r\nhello\r\n"
		for range n {
			s = "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.StdEncoding.EncodeToString([]byte(s)) + "\r\n"
		}
		return s
	}
	var many strings.Builder
	for i := range 200 {
		fmt.Fprintf(&many, "Content-Type: multipart/mixed; boundary=c%d; boundary=d%d\r\n", i, i)
	}
	readings := "MIME-Version: 1.0\r\n" + many.String() + "\r\n" + strings.Repeat("--c1\r\nx: y\r\n \r\nz\r\n--d1 x\r\n", 5000)
	line := strings.Repeat("QUJD", 19) + "\r\n"
	return []struct {
		name, text string
		over       bool
	}{
		{"10000 multiparts deep", deep(10_000), true},
		{"100000 empty parts", top + strings.Repeat("--b\r\n\r\n", 100_000) + "--b--\r\n", true},
		{"1000 messages deep", strings.Repeat("Content-Type: message/rfc822\r\n\r\n", 1000) + "Subject: x\r\n\r\nhello\r\n", true},
		{"20 encoded messages deep", wrapped(20), true},
		{"alternating", strings.Repeat("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n", 1000), true},
		{"2 MB of line ends", top + strings.Repeat("\n", 2<<20), false},
		{"2 MB of dashes", top + strings.Repeat("--\r\n", 1<<19), false},
		{"5 MB in one line", "Content-Type: text/html\r\n\r\n" + strings.Repeat("<", 5<<20), false},
		{"5 MB of tags", "Content-Type: text/html\r\n\r\n" + strings.Repeat("<a href=http://a.example/>", 200_000), false},
		{"equal signs", "Content-Transfer-Encoding: quoted-printable\r\n\r\n" + strings.Repeat("=", 1<<18), false},
		{"blanks in quoted-printable", "Content-Transfer-Encoding: quoted-printable\r\n\r\n" + strings.Repeat(" ", 1<<20), false},
		{"junk in base64", "Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n" + strings.Repeat("-_A=", 1<<18), false},
		{"readings", readings, true},
		{"parameters", "Content-Type: multipart/mixed" + strings.Repeat("; boundary=a", 5000) + "\r\n\r\n--a\r\n\r\nx\r\n", false},
		{"sections", "Content-Disposition: attachment" + strings.Repeat("; filename*1=a", 4000) + "\r\n\r\nx\r\n", false},
		{"comments", "Content-Type: text/plain; name=" + strings.Repeat("(", 60_000) + "\r\n\r\nx\r\n", false},
		{"encoded words", "Content-Disposition: attachment; filename=\"" + strings.Repeat("=?utf-8?b?", 6000) + "\"\r\n\r\nx\r\n", false},
		{"uuencoded lines", "Subject: x\r\n\r\n" + strings.Repeat("begin 644 a\r\n_\r\nend\r\n", 50_000), true},
		{"uuencoded runs", "Subject: x\r\n\r\nbegin 644 a\r\n" + strings.Repeat("_\r\n", 1<<18), false},
		{"BinHex runs", "Subject: x\r\n\r\n(This file must be converted with BinHex 4.0)\r\n:" + strings.Repeat("#3Im\"rr", 1<<17) + "\r\n", false},
		{"many fields in parts", top + strings.Repeat("--b\r\n"+strings.Repeat("A: b\r\n", 1000)+"\r\n", 500), false},
		{"a large header in a part", top + "--b\r\n" + strings.Repeat("A: "+strings.Repeat("x", 900)+"\r\n", 5000), true},
		{"10 MB of ordinary base64", "Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n" + strings.Repeat(line, 130_000), false},
		{"URLs", "Content-Type: text/plain\r\n\r\n" + strings.Repeat("http://é.example/ ", 100_000), false},
		{"UTF-7", "Content-Type: text/plain; charset=utf-7\r\n\r\n" + strings.Repeat("+AGE-", 1<<20), false},
	}
}

// No message costs much time or memory, and what was left out is told. The
// figures have room for the race detector and for a busy machine; without both
// each costs below 1 s.
func TestBombs(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(10)) // what is garbage is not held
	for _, b := range bombs() {
		t.Run(b.name, func(t *testing.T) {
			m, err := mail.ReadMessage(strings.NewReader(b.text), int64(len(b.text)))
			if err != nil {
				t.Fatal(err)
			}
			c := DefaultConfig()
			c.Time = time.Hour // the limit of time is not what helps here
			runtime.GC()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			peak := watchHeap(t, before.HeapInuse)
			start := cpu(t)
			in := Inspect(context.Background(), m, c)
			took := cpu(t) - start
			held := peak()
			runtime.ReadMemStats(&after)
			t.Logf("%d bytes: %v, %d MB at a time, %d MB allocated, %d parts, %q %q", len(b.text), took.Round(time.Millisecond), held>>20, (after.TotalAlloc-before.TotalAlloc)>>20, len(in.Parts), in.Ambiguous, in.Unseen)
			if took > 15*time.Second {
				t.Errorf("took %v of CPU", took)
			}
			if held > 64<<20 {
				t.Errorf("held %d MB", held>>20)
			}
			if b.over && len(in.Unseen) == 0 {
				t.Error("not told that not all was seen")
			}
		})
	}
}

// watchHeap returns a function that tells how far the heap has grown since.
func watchHeap(t *testing.T, from uint64) func() uint64 {
	t.Helper()
	done, result := make(chan struct{}), make(chan uint64)
	go func() {
		var top uint64
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			var s runtime.MemStats
			runtime.ReadMemStats(&s)
			top = max(top, s.HeapInuse)
			select {
			case <-done:
				result <- top - min(top, from)
				return
			case <-tick.C:
			}
		}
	}()
	return func() uint64 { close(done); return <-result }
}
