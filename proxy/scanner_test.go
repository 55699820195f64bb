package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// result is what a scan of a whole stream gives.
type result struct {
	text  string
	used  int
	done  bool
	fault error
}

// model is the scanner written for the eye, a byte at a time.
func model(stream []byte) result {
	var r result
	var text []byte
	line := 0 // where the current line begins
	end := func() bool {
		return bytes.HasPrefix(stream[line:], []byte(".\r\n"))
	}
	var nul, lf bool
	crs, pairs := 0, 0
	take := func(i int) {
		c := stream[i]
		text = append(text, c)
		switch {
		case c == 0:
			nul = true
		case c == '\r':
			crs++
		case c == '\n' && i > 0 && stream[i-1] == '\r':
			pairs++
		case c == '\n':
			lf = true
		}
	}
	for i := 0; i < len(stream); i++ {
		if i == line {
			if end() {
				r.done, r.used = true, i+3
				break
			}
			if stream[i] == '.' {
				continue
			}
		}
		take(i)
		if stream[i] == '\n' && i > 0 && stream[i-1] == '\r' {
			line = i + 1
		}
	}
	r.text = string(text)
	switch {
	case nul:
		r.fault = errNUL
	case lf:
		r.fault = errBareLF
	case crs != pairs:
		r.fault = errBareCR
	}
	return r
}

// scanPieces feeds a scanner as a socket would: what it leaves comes again in
// front of the next piece.
func scanPieces(pieces [][]byte) result {
	s := scanner{dots: true}
	var r result
	var rest []byte
	var text bytes.Buffer
	for _, p := range pieces {
		b := append(bytes.Clone(rest), p...)
		for len(b) > 0 && !r.done {
			out, n, done := s.scan(b)
			text.Write(out)
			r.used += n
			r.done = done
			b = b[n:]
			if n == 0 || done {
				break
			}
		}
		if len(b) > 2 && !r.done {
			panic(fmt.Sprintf("scan left %d bytes", len(b)))
		}
		rest = b
		if r.done {
			break
		}
	}
	s.finish()
	r.text, r.fault = text.String(), s.fault()
	return r
}

// checkSplit compares the scanner with the model. The text of a stream without
// end is not compared: the scanner may hold its last bytes back.
func checkSplit(t *testing.T, stream []byte, pieces [][]byte) {
	t.Helper()
	want, got := model(stream), scanPieces(pieces)
	if got.done != want.done {
		t.Fatalf("%q as %q: done = %t, want %t", stream, pieces, got.done, want.done)
	}
	if want.done && (got.text != want.text || got.used != want.used || !errors.Is(got.fault, want.fault)) {
		t.Fatalf("%q as %q:\ngot  %+v\nwant %+v", stream, pieces, got, want)
	}
}

func cut(stream []byte, at ...int) [][]byte {
	var pieces [][]byte
	from := 0
	for _, i := range at {
		pieces = append(pieces, stream[from:i])
		from = i
	}
	return append(pieces, stream[from:])
}

var streams = []string{
	".\r\n",
	"a\r\n.\r\nNEXT",
	"..\r\n.\r\n",
	"...\r\n..x\r\n.x\r\n.\r\nNEXT\r\n",
	"\r\n.\r\n",
	"\r\n..\r\n.\r\n",
	"a\r\r\n.\r\n",
	"a\r\n.\r\r\n.\r\n",
	"a\n.\n.\r\nb\r\n.\r\n",
	"a\r.\r\n\r\n.\r\n",
	"a\r\n.\rX\r\n.\r\n",
	"a\r\n.\x00\r\n.\r\n",
	"a\r\n.\n\r\n.\r\n",
	"\r\r\r\n\n\n\r\n.\r\n",
	"no end\r\n.\r",
}

func TestEveryTwoWaySplit(t *testing.T) {
	for _, s := range streams {
		for i := range len(s) + 1 {
			for j := i; j <= len(s); j++ {
				checkSplit(t, []byte(s), cut([]byte(s), i, j))
			}
		}
	}
}

func TestOneByteWrites(t *testing.T) {
	for _, s := range streams {
		var pieces [][]byte
		for i := range len(s) {
			pieces = append(pieces, []byte(s[i:i+1]))
		}
		checkSplit(t, []byte(s), pieces)
	}
}

func TestRandomSplits(t *testing.T) {
	const alphabet = "\r\n.\r\n.ax\x00"
	for seed := range uint64(20_000) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		stream := make([]byte, rnd.IntN(40))
		for i := range stream {
			stream[i] = alphabet[rnd.IntN(len(alphabet))]
		}
		stream = append(stream, "\r\n.\r\n"...)
		var pieces [][]byte
		for rest := stream; len(rest) > 0; {
			n := 1 + rnd.IntN(len(rest))
			pieces, rest = append(pieces, rest[:n]), rest[n:]
		}
		checkSplit(t, stream, pieces)
	}
}

// Around the sizes of the buffers, with each tricky end on the edge.
func TestBufferBoundaries(t *testing.T) {
	for _, size := range []int{512, 2048, 4096, 8192, bigBuffer} {
		for _, tail := range []string{"\r\n.\r\n", "\r\n..\r\n.\r\n", "\r.\r\n\r\n.\r\n", "\r\n.x\r\n.\r\n"} {
			for shift := -len(tail) - 2; shift <= 2; shift++ {
				stream := []byte(strings.Repeat("x", size+shift) + tail + "NEXT")
				checkSplit(t, stream, cut(stream, size))
			}
		}
	}
}

// The same over a socket, where the server's own buffers divide the stream.
func TestSplitsOverSocket(t *testing.T) {
	g := start(t, nil)
	c := g.envelope()
	want := 0
	message := func(text string, pieces [][]byte) {
		c.do("DATA", "354")
		for _, p := range pieces {
			c.send(string(p))
		}
		c.expect("250")
		want++
		kept := g.store.messages()
		if len(kept) != want {
			t.Fatalf("%d messages, want %d", len(kept), want)
		}
		if got := kept[want-1].text(t); got != text {
			t.Fatalf("pieces %.80q: text %.80q, want %.80q", pieces, got, text)
		}
		c.do("MAIL FROM:<s@a.example>", "250")
		c.do("RCPT TO:<u@b.example>", "250")
	}
	const wire = "A: b\r\n\r\nx\r\n..\r\n..x\r\n.\r\n"
	const text = "A: b\r\n\r\nx\r\n.\r\n.x\r\n"
	for i := range len(wire) {
		message(text, cut([]byte(wire), i))
	}
	var bytewise [][]byte
	for i := range len(wire) {
		bytewise = append(bytewise, []byte(wire[i:i+1]))
	}
	message(text, bytewise)
	for _, size := range []int{2048, 4096, 8192, bigBuffer, 2 * bigBuffer} {
		for shift := -4; shift <= 4; shift++ {
			body := "A: b\r\n\r\n" + strings.Repeat("x", size+shift-8) + "\r\n"
			message(body, cut([]byte(body+".\r\n"), size))
		}
	}
}

func FuzzScanner(f *testing.F) {
	for i, s := range streams {
		f.Add([]byte(s), uint64(i))
	}
	f.Fuzz(func(t *testing.T, stream []byte, seed uint64) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		var pieces [][]byte
		for rest := stream; len(rest) > 0; {
			n := 1 + rnd.IntN(len(rest))
			pieces, rest = append(pieces, rest[:n]), rest[n:]
		}
		checkSplit(t, stream, pieces)
		checkSplit(t, stream, [][]byte{stream})
	})
}

func BenchmarkDataReader(b *testing.B) {
	for _, size := range []int{5 << 10, 1 << 20} {
		line := strings.Repeat("x", 76) + "\r\n"
		stream := []byte(strings.Repeat(line, size/len(line)) + ".\r\n")
		block := make([]byte, bigBuffer)
		b.Run(fmt.Sprintf("%dkB", size>>10), func(b *testing.B) {
			b.SetBytes(int64(len(stream)))
			b.ReportAllocs()
			for b.Loop() {
				s := scanner{dots: true}
				for rest := stream; len(rest) > 0; {
					m := copy(block, rest)
					_, n, _ := s.scan(block[:m])
					rest = rest[n:]
				}
				if s.fault() != nil {
					b.Fatal(s.fault())
				}
			}
		})
	}
}
