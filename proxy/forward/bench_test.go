package forward

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"gatepost/internal/mail"
)

// fastSink answers with as little work as it can, so that what is measured is
// the sender.
func fastSink(b *testing.B) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { defer c.Close(); sinkSession(c) })
		}
	})
	b.Cleanup(func() { ln.Close(); wg.Wait() })
	return ln.Addr().String()
}

func sinkSession(c net.Conn) {
	in := bufio.NewReaderSize(c, 256<<10)
	out := bufio.NewWriter(c)
	out.WriteString("220 sink\r\n")
	for {
		if in.Buffered() == 0 && out.Flush() != nil {
			return
		}
		line, err := in.ReadSlice('\n')
		if err != nil {
			return
		}
		switch string(line[:4]) {
		case "EHLO":
			out.WriteString("250-sink\r\n250-PIPELINING\r\n250-SIZE\r\n250 8BITMIME\r\n")
		case "QUIT":
			out.WriteString("221 bye\r\n")
			out.Flush()
			return
		case "DATA":
			out.WriteString("354 go\r\n")
			out.Flush()
			if skipData(in) != nil {
				return
			}
			out.WriteString("250 queued\r\n")
		default:
			out.WriteString("250 ok\r\n")
		}
	}
}

// skipData reads to the end of the data, by the block.
func skipData(in *bufio.Reader) error {
	end := []byte("\r\n.\r\n")
	for {
		if _, err := in.Peek(1); err != nil {
			return err
		}
		p, _ := in.Peek(in.Buffered())
		if i := bytes.Index(p, end); i >= 0 {
			_, err := in.Discard(i + len(end))
			return err
		}
		if n := len(p) - len(end) + 1; n > 0 {
			_, _ = in.Discard(n)
		} else if _, err := in.Peek(len(p) + 1); err != nil {
			return err
		}
	}
}

func benchMessage(size int) text {
	const line = "The quick brown fox jumps over the lazy dog, and again, and once more.\r\n"
	return text("Subject: bench\r\n\r\n" + strings.Repeat(line, size/len(line)+1)[:size/len(line)*len(line)])
}

var benchSizes = []struct {
	name string
	size int
}{{"5k", 5 << 10}, {"50k", 50 << 10}, {"1m", 1 << 20}}

// cpu is the processor time that this process has used: sender and sink.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func measure(b *testing.B, size int, one func() error) {
	b.SetBytes(int64(size))
	b.ReportAllocs()
	start := cpu()
	for b.Loop() {
		if err := one(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(cpu()-start)/float64(b.N)/1e3, "cpu-µs/op")
}

// BenchmarkForward measures our own sending loop.
func BenchmarkForward(b *testing.B) {
	for _, s := range benchSizes {
		for _, kept := range []bool{true, false} {
			b.Run(fmt.Sprintf("%s/kept=%v", s.name, kept), func(b *testing.B) {
				r := quick("smtp://" + fastSink(b))
				r.MaxMessages = map[bool]int{true: 1 << 30, false: 1}[kept]
				f := newForwarder(b, r)
				env := envelope(b, "a@example.com")
				m := benchMessage(s.size)
				measure(b, s.size, func() error {
					if o := f.Deliver(context.Background(), ".", mail.Facts{ID: "ID"}, env, m)[0]; o.Status != 1 {
						return fmt.Errorf("%v %v", o.Status, o.Reply)
					}
					return nil
				})
			})
		}
	}
}

// BenchmarkLibrary measures go-smtp's client as it is, without a guard: the best
// that deliveries through it could do. It is why the sending loop is ours.
func BenchmarkLibrary(b *testing.B) {
	for _, s := range benchSizes {
		for _, kept := range []bool{true, false} {
			b.Run(fmt.Sprintf("%s/kept=%v", s.name, kept), func(b *testing.B) {
				addr := fastSink(b)
				m := benchMessage(s.size)
				var c *smtp.Client
				measure(b, s.size, func() error {
					if c == nil {
						conn, err := net.Dial("tcp", addr)
						if err != nil {
							return err
						}
						c = smtp.NewClient(conn)
						if err := c.Hello("mx.example.net"); err != nil {
							return err
						}
					}
					if err := librarySend(c, m); err != nil {
						return err
					}
					if kept {
						return nil
					}
					err := c.Quit()
					c = nil
					return err
				})
				if c != nil {
					c.Close()
				}
			})
		}
	}
}

func librarySend(c *smtp.Client, m text) error {
	if err := c.Mail("sender@example.org", &smtp.MailOptions{Size: m.Size()}); err != nil {
		return err
	}
	if err := c.Rcpt("a@example.com", nil); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := m.WriteTo(w); err != nil {
		return err
	}
	return w.Close()
}

func BenchmarkDotWriter(b *testing.B) {
	m := benchMessage(1 << 20)
	buf := make([]byte, 0, bufferSize)
	b.SetBytes(m.Size())
	data := []byte(m)
	for b.Loop() {
		w := dotWriter{w: io.Discard, dots: true, buf: buf}
		_, _ = w.Write(data)
		_ = w.end()
	}
}
