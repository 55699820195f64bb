package clamav

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/baruwa-enterprise/clamd"

	"gatepost/filters"
	"gatepost/internal/mail"
)

// P1: whatever clamd says, only a whole OK is clean. The column theirs is what
// a caller of the library's client takes the same bytes for when it goes by
// "no error and nothing found", as its documentation has it.
func TestReplies(t *testing.T) {
	tests := []struct {
		name, reply, want string
		theirs            string
	}{
		{name: "clean", reply: "stream: OK\x00", want: "clean"},
		{name: "infected", reply: "stream: Eicar-Test-Signature FOUND\x00", want: "virus Eicar-Test-Signature"},
		{name: "local signature", reply: "stream: Eicar.UNOFFICIAL FOUND\x00", want: "virus Eicar.UNOFFICIAL"},
		{name: "name with a colon", reply: "stream: a:b FOUND\x00", want: "virus a:b"},
		{name: "name with controls", reply: "stream: a\r\nX-Evil:\x1b1 FOUND\x00", want: "virus 1"},
		{name: "name of blanks", reply: "stream: \t FOUND\x00", want: "virus unknown"},
		{name: "A-1 hangs up without a reply", reply: "", want: "error", theirs: "clean"},
		{name: "A-1 FOUND without terminator", reply: "stream: Eicar FOUND", want: "error", theirs: "clean"},
		{name: "A-1 OK without terminator", reply: "stream: OK", want: "error", theirs: "clean"},
		{name: "A-2 status ERROR is an error", reply: "stream: Can't allocate memory ERROR\x00", want: "error"},
		{name: "A-2 ERROR as a line", reply: "stream: Can't allocate memory ERROR\n", want: "error", theirs: "clean"},
		{name: "terminator of the other framing", reply: "stream: OK\n", want: "error", theirs: "clean"},
		{name: "CRLF", reply: "stream: OK\r\n", want: "error"},
		{name: "two replies", reply: "stream: OK\x00stream: Eicar FOUND\x00", want: "error"},
		{name: "two replies in one", reply: "stream: OK\nstream: Eicar FOUND\x00", want: "virus Eicar"},
		{name: "found and then clean", reply: "stream: Eicar FOUND\x00stream: OK\x00", want: "error"},
		{name: "numbered", reply: "1: stream: OK\x00", want: "error"},
		{name: "of a descriptor", reply: "fd[10]: OK\x00", want: "error"},
		{name: "of a file", reply: "/etc/passwd: OK\x00", want: "error"},
		{name: "without an object", reply: "OK\x00", want: "error"},
		{name: "upper case", reply: "STREAM: OK\x00", want: "error"},
		{name: "OK and more", reply: "stream: OK \x00", want: "error"},
		{name: "no name", reply: "stream:  FOUND\x00", want: "error"},
		{name: "unknown command", reply: "UNKNOWN COMMAND\x00", want: "error"},
		{name: "read timed out", reply: "COMMAND READ TIMED OUT\x00", want: "error"},
		{name: "garbage", reply: "garbage\x00", want: "error"},
		{name: "only a terminator", reply: "\x00", want: "error"},
		{name: "a long line", reply: strings.Repeat("x", 10<<20), want: "error"},
		{name: "size limit", reply: "INSTREAM size limit exceeded. ERROR\x00", want: "not-scanned too large"},
		{name: "other size limit", reply: "size limit exceeded. ERROR\x00", want: "error"},

		{name: "limits", reply: "stream: Heuristics.Limits.Exceeded.MaxFileSize FOUND\x00", want: "not-scanned Heuristics.Limits.Exceeded.MaxFileSize"},
		{name: "limits of old", reply: "stream: Heuristics.Limits.Exceeded FOUND\x00", want: "not-scanned Heuristics.Limits.Exceeded"},
		{name: "encrypted zip", reply: "stream: Heuristics.Encrypted.Zip FOUND\x00", want: "not-scanned Heuristics.Encrypted.Zip"},
		{name: "macros", reply: "stream: Heuristics.OLE2.ContainsMacros.VBA FOUND\x00", want: "suspicious Heuristics.OLE2.ContainsMacros.VBA"},
		{name: "card numbers", reply: "stream: Heuristics.Structured.CreditCardNumber FOUND\x00", want: "suspicious Heuristics.Structured.CreditCardNumber"},
		{name: "unwanted", reply: "stream: PUA.Win.Packer.Upx-48 FOUND\x00", want: "suspicious PUA.Win.Packer.Upx-48"},
		{name: "broken", reply: "stream: Heuristics.Broken.Executable FOUND\x00", want: "suspicious Heuristics.Broken.Executable"},
		{name: "phishing", reply: "stream: Heuristics.Phishing.Email.SpoofedDomain FOUND\x00", want: "virus Heuristics.Phishing.Email.SpoofedDomain"},
		{name: "another heuristic", reply: "stream: Heuristics.Exploit.CVE_2012_0158 FOUND\x00", want: "virus Heuristics.Exploit.CVE_2012_0158"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			stream := (&fakeClamd{reply: tt.reply}).start(t, "tcp")
			if got := check(t, scanner(t, Config{}, stream.address), plain); got != tt.want {
				t.Errorf("stream: %s, want %s", got, tt.want)
			}
			if !strings.Contains(tt.name, "descriptor") && !strings.Contains(tt.name, "size limit") {
				file := (&fakeClamd{reply: strings.ReplaceAll(tt.reply, "stream:", "fd[10]:")}).start(t, "unix")
				if got := check(t, scanner(t, Config{}, file.address), plain); got != tt.want {
					t.Errorf("descriptor: %s, want %s", got, tt.want)
				}
			}
			if tt.theirs != "" {
				if got := library(t, stream.address, strings.NewReader(plain)); got != tt.theirs {
					t.Logf("the library now takes it for %s, not %s: it was repaired", got, tt.theirs)
				}
			}
		})
	}
}

// library asks with the library's own client.
func library(t *testing.T, address string, r io.Reader) string {
	t.Helper()
	c, err := clamd.NewClient("tcp", strings.TrimPrefix(address, "tcp:"))
	if err != nil {
		t.Fatal(err)
	}
	c.SetCmdTimeout(5 * time.Second)
	replies, err := c.ScanReader(t.Context(), r)
	if err != nil {
		return "error"
	}
	for _, r := range replies {
		if r.Status == "FOUND" {
			return "virus " + r.Signature
		}
	}
	return "clean"
}

// Descriptors have their own object.
func TestRepliesToADescriptor(t *testing.T) {
	for reply, want := range map[string]string{
		"fd[10]: OK\x00":                             "clean",
		"fd[0]: Eicar FOUND\x00":                     "virus Eicar",
		"fd: OK\x00":                                 "error",
		"fd[x]: OK\x00":                              "error",
		"fd[]: OK\x00":                               "error",
		"fd[10] : OK\x00":                            "error",
		"stream: OK\x00":                             "error",
		"fd[10]: Not a regular file. ERROR":          "error",
		"INSTREAM size limit exceeded. ERROR\x00":    "error",
		"No file descriptor received. ERROR\x00":     "error",
		"fd[10]: Not supported file type. ERROR\x00": "error",
	} {
		f := (&fakeClamd{reply: reply}).start(t, "unix")
		if got := check(t, scanner(t, Config{}, f.address), plain); got != want {
			t.Errorf("%q: %s, want %s", reply, got, want)
		}
	}
}

func TestContentArrivesWhole(t *testing.T) {
	for _, size := range []int{0, 1, chunkSize - 1, chunkSize, 3*chunkSize + 1, inMemory + 1} {
		text := "From: a@example.com\r\n\r\n" + strings.Repeat("0123456789abcde\n", size/16+1)[:size]
		for _, network := range []string{"tcp", "unix"} {
			reply := map[string]string{"tcp": "stream: OK\x00", "unix": "fd[9]: OK\x00"}[network]
			fake := (&fakeClamd{reply: reply}).start(t, network)
			if got := check(t, scanner(t, Config{}, fake.address), text); got != "clean" {
				t.Errorf("%s, %d bytes: %s", network, size, got)
			}
			if fake.got() != mailMark+text {
				t.Errorf("%s, %d bytes: clamd got %d bytes", network, size, len(fake.got()))
			}
		}
	}
}

// the library sends nothing of a reader that returns its last bytes
// together with io.EOF, and hears that nothing is clean.
func TestA3LastBytesComeWithEOF(t *testing.T) {
	fake := (&fakeClamd{reply: "stream: OK\x00"}).start(t, "tcp")
	tx := message(t, plain)
	body := "the body"
	tx.Message = mail.NewMessage(tx.Message.Header, eofReader(body), int64(len(body)))
	f := scanner(t, Config{}, fake.address)
	if r, err := f.Check(t.Context(), tx); verdict(r, err) != "clean" {
		t.Error(verdict(r, err))
	}
	if !strings.HasSuffix(fake.got(), "\r\n\r\nthe body") {
		t.Errorf("clamd got %q", fake.got())
	}
}

// eofReader is an io.ReaderAt that is as eager to tell the end as it may be.
type eofReader string

func (r eofReader) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(r)) {
		return 0, io.EOF
	}
	n := copy(p, r[off:])
	if int(off)+n == len(r) {
		return n, io.EOF
	}
	return n, nil
}

// A message that can't be read is no clean one.
func TestBrokenMessage(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		fake := (&fakeClamd{reply: "stream: OK\x00"}).start(t, network)
		tx := message(t, plain)
		tx.Message = mail.NewMessage(tx.Message.Header, eofReader("short"), 100)
		if r, err := scanner(t, Config{}, fake.address).Check(t.Context(), tx); err == nil {
			t.Errorf("%s: %s, want an error", network, verdict(r, err))
		}
	}
}

// clamd hangs up while we still send; its reply is there all the same.
func TestA4SizeLimitWhileSending(t *testing.T) {
	fake := (&fakeClamd{reply: "INSTREAM size limit exceeded. ERROR\x00", early: 100 << 10}).start(t, "tcp")
	text := "From: a\r\n\r\n" + strings.Repeat("x", 20<<20)
	if got := check(t, scanner(t, Config{}, fake.address), text); got != "not-scanned too large" {
		t.Errorf("got %s", got)
	}
	// What clamd says when it did not read to the end is not believed.
	lying := (&fakeClamd{reply: "stream: OK\x00", early: 100 << 10}).start(t, "tcp")
	if got := check(t, scanner(t, Config{}, lying.address), text); got != "error" {
		t.Errorf("OK before the end: %s, want error", got)
	}
}

// the library uses a context only to connect.
func TestA5ContextEndsTheScan(t *testing.T) {
	tests := []struct {
		name string
		fake *fakeClamd
		text string
	}{
		{name: "never answers", fake: &fakeClamd{linger: true}, text: plain},
		{name: "answers and stays", fake: &fakeClamd{reply: "stream: OK\x00", linger: true}, text: plain},
		{name: "stops reading", fake: &fakeClamd{silent: true}, text: "From: a\r\n\r\n" + strings.Repeat("x", 20<<20)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := scanner(t, Config{Timeout: time.Minute}, tt.fake.start(t, "tcp").address)
			start := time.Now()
			r, err := f.Check(short(t, 200*time.Millisecond), message(t, tt.text))
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s, %v; want deadline exceeded", verdict(r, err), err)
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
	t.Run("own timeout", func(t *testing.T) {
		f := scanner(t, Config{Timeout: 200 * time.Millisecond}, (&fakeClamd{linger: true}).start(t, "tcp").address)
		if got := check(t, f, plain); got != "error" {
			t.Errorf("got %s", got)
		}
	})
}

func TestMaxSize(t *testing.T) {
	fake := (&fakeClamd{reply: "stream: OK\x00"}).start(t, "tcp")
	f := scanner(t, Config{MaxSize: int64(len(mailMark) + len(plain))}, fake.address)
	if got := check(t, f, plain); got != "clean" {
		t.Errorf("of just max_size: %s", got)
	}
	if got := check(t, f, plain+"x"); got != "not-scanned too large" {
		t.Errorf("one byte more: %s", got)
	}
	if fake.asked() != "zINSTREAM" {
		t.Errorf("clamd was asked %q", fake.asked())
	}
}

func TestFailOver(t *testing.T) {
	down := "unix:/nonexistent/clamd"
	broken := (&fakeClamd{reply: "stream: Can't allocate memory ERROR\x00"}).start(t, "tcp")
	good := (&fakeClamd{reply: "stream: Eicar FOUND\x00"}).start(t, "tcp")
	f := scanner(t, Config{}, down, broken.address, good.address)
	for range 2 {
		if got := check(t, f, plain); got != "virus Eicar" {
			t.Errorf("got %s", got)
		}
	}
	if broken.asked() != "zINSTREAM" {
		t.Errorf("the broken one was asked %q, want once", broken.asked())
	}
	if err := f.Ping(t.Context()); err != nil {
		t.Errorf("ping: %v", err)
	}
}

// Debian's AppArmor profile does not let clamd take a memfd: it hangs up.
func TestDescriptorNotTaken(t *testing.T) {
	fake := (&fakeClamd{reply: "stream: Eicar FOUND\x00", denied: true}).start(t, "unix")
	f := scanner(t, Config{}, fake.address)
	for range 2 {
		if got := check(t, f, plain); got != "virus Eicar" {
			t.Errorf("got %s", got)
		}
	}
	if got, want := fake.asked(), "zFILDES zINSTREAM zINSTREAM"; got != want {
		t.Errorf("asked %q, want %q", got, want)
	}
}

func TestPing(t *testing.T) {
	for pong, want := range map[string]bool{"PONG\x00": true, "PONG\n": false, "PONG": false, "PONG\x00PONG\x00": false, "BUSY\x00": false} {
		fake := (&fakeClamd{pong: pong}).start(t, "tcp")
		if err := scanner(t, Config{}, fake.address).Ping(t.Context()); (err == nil) != want {
			t.Errorf("%q: %v", pong, err)
		}
	}
	// the library reads on for ever.
	flood := (&fakeClamd{pong: strings.Repeat("PONG\n", 1<<20)}).start(t, "tcp")
	if err := scanner(t, Config{}, flood.address).Ping(t.Context()); err == nil {
		t.Error("a flood was taken for a pong")
	}
	silent := (&fakeClamd{silent: true}).start(t, "tcp")
	if err := scanner(t, Config{}, silent.address).Ping(short(t, 50*time.Millisecond)); err == nil {
		t.Error("silence was taken for a pong")
	}
}

// The library's client takes our fake for a clamd: so the fake speaks the
// protocol, and what we refuse above is not our own misreading.
func TestLibraryUnderstandsTheFake(t *testing.T) {
	fake := (&fakeClamd{reply: "stream: Eicar FOUND\n", pong: "PONG\n"}).start(t, "tcp")
	if got := library(t, fake.address, strings.NewReader(plain)); got != "virus Eicar" {
		t.Errorf("got %s", got)
	}
	c, err := clamd.NewClient("tcp", strings.TrimPrefix(fake.address, "tcp:"))
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := c.Ping(t.Context()); !ok || err != nil {
		t.Errorf("ping: %t, %v", ok, err)
	}
	if fake.got() != plain {
		t.Errorf("content %q", fake.got())
	}
}

// Scans leave no file behind.
func TestNoFilesAreLeft(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	before := openFiles(t)
	fake := (&fakeClamd{reply: "fd[9]: OK\x00"}).start(t, "unix")
	f := scanner(t, Config{}, fake.address)
	for range 5 {
		check(t, f, plain)
		check(t, f, plain+strings.Repeat("x", inMemory))
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("%v left in the temporary directory (%v)", left, err)
	}
	deadline := time.Now().Add(60 * time.Second)
	for openFiles(t) > before+2 && time.Now().Before(deadline) { // the fake's listener
		time.Sleep(time.Millisecond)
	}
	if n := openFiles(t); n > before+2 {
		t.Errorf("%d open files, %d before", n, before)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	return len(list)
}

func TestConfig(t *testing.T) {
	if _, err := New(Config{}); err != nil {
		t.Errorf("the zero Config: %v", err)
	}
	f, err := New(DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	s := f.Step()
	if s.Name != "clamav" || s.Timeout != time.Minute || s.OnError != filters.TempFail || s.MaxConcurrent != 10 || s.Modifies {
		t.Errorf("step = %+v", s)
	}
	for _, tt := range []struct {
		name string
		cfg  Config
		want string
	}{
		{name: "scheme", cfg: Config{Address: []string{"unix:/a", "tls:host:1"}}, want: `clamav: address[1]: "tls:host:1" has no scheme known here`},
		{name: "on_error", cfg: Config{OnError: "later"}, want: "is not one of"},
		{name: "timeout", cfg: Config{Timeout: -1}, want: "timeout: is negative"},
		{name: "max_size", cfg: Config{MaxSize: -1}, want: "max_size: is negative"},
		{name: "max_concurrent", cfg: Config{MaxConcurrent: -1}, want: "max_concurrent: is negative"},
	} {
		if _, err := New(tt.cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

func FuzzReply(f *testing.F) {
	for _, s := range []string{"stream: OK\x00", "stream: a FOUND\x00", "fd[1]: OK\x00", "stream: OK", "INSTREAM size limit exceeded. ERROR\x00", "", "\x00", "stream: OK\x00\x00", "stream:  FOUND\x00"} {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	f.Fuzz(func(t *testing.T, reply []byte, streamed bool) {
		object := descriptor
		if streamed {
			object = stream
		}
		a, err := parseReply(reply, object)
		switch {
		case err != nil:
			if a != (answer{}) {
				t.Errorf("%q: error and %+v", reply, a)
			}
		case a.result == clean:
			if s := string(reply); s != "stream: OK\x00" && !(strings.HasPrefix(s, "fd") && strings.HasSuffix(s, ": OK\x00")) {
				t.Errorf("%q is taken for clean", reply)
			}
		case a.result == infected:
			if a.signature == "" || strings.ContainsAny(a.signature, "\r\n\x00 ") {
				t.Errorf("%q: signature %q", reply, a.signature)
			}
		}
	})
}
