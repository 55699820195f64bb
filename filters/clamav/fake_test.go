package clamav

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gatepost/filters"
	"gatepost/internal/mail"

	"gatepost/filters/filtertest"
)

// fakeClamd speaks clamd's protocol and says what it is told to say.
type fakeClamd struct {
	reply    string                             // to a scan
	pong     string                             // to a ping; "": PONG
	early    int                                // reply and hang up after so many bytes of a stream
	silent   bool                               // read nothing, say nothing
	linger   bool                               // don't hang up after the reply
	denied   bool                               // hang up over a descriptor
	version  string                             // to VERSION
	numbered func(n int, content string) string // answers within a session

	address  string
	mu       sync.Mutex
	commands []string
	content  bytes.Buffer
}

// start listens on "unix" or "tcp".
func (f *fakeClamd) start(t *testing.T, network string) *fakeClamd {
	t.Helper()
	f.address = filtertest.Serve(t, network, f.serve)
	return f
}

func (f *fakeClamd) serve(c net.Conn) {
	if f.silent {
		return
	}
	if !f.linger {
		defer c.Close()
	}
	// Byte by byte: what follows may be a descriptor.
	var command []byte
	for b := make([]byte, 1); ; {
		if _, err := c.Read(b); err != nil {
			return
		}
		if b[0] == 0 || b[0] == '\n' {
			break
		}
		command = append(command, b[0])
	}
	f.mu.Lock()
	f.commands = append(f.commands, string(command))
	f.mu.Unlock()
	switch strings.TrimLeft(string(command), "zn") {
	case "PING":
		if f.pong == "" {
			f.pong = "PONG\x00"
		}
		_, _ = io.WriteString(c, f.pong)
	case "VERSION":
		_, _ = io.WriteString(c, f.version)
	case "IDSESSION":
		f.session(bufio.NewReader(c), c)
	case "INSTREAM":
		if f.stream(bufio.NewReader(c)) {
			_, _ = io.WriteString(c, f.reply)
		}
	case "FILDES":
		if !f.denied && f.descriptor(c.(*net.UnixConn)) {
			_, _ = io.WriteString(c, f.reply)
		}
	}
}

// session answers streams by number, until END.
func (f *fakeClamd) session(r *bufio.Reader, c net.Conn) {
	for n := 1; ; n++ {
		command, err := r.ReadString(0)
		f.mu.Lock()
		f.commands = append(f.commands, strings.TrimSuffix(command, "\x00"))
		f.content.Reset()
		f.mu.Unlock()
		if err != nil || command != "zINSTREAM\x00" || !f.stream(r) {
			return
		}
		if _, err := io.WriteString(c, f.numbered(n, f.got())); err != nil {
			return
		}
	}
}

func (f *fakeClamd) stream(r io.Reader) bool {
	for total := 0; ; {
		var size uint32
		if err := binary.Read(r, binary.BigEndian, &size); err != nil {
			return false
		}
		if size == 0 {
			return true
		}
		chunk := make([]byte, size)
		if _, err := io.ReadFull(r, chunk); err != nil {
			return false
		}
		f.mu.Lock()
		f.content.Write(chunk)
		f.mu.Unlock()
		if total += int(size); f.early > 0 && total > f.early {
			return true
		}
	}
}

func (f *fakeClamd) descriptor(c *net.UnixConn) bool {
	oob := make([]byte, 64)
	_, n, _, _, err := c.ReadMsgUnix(make([]byte, 1), oob)
	if err != nil {
		return false
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		return false
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return false
	}
	file := os.NewFile(uintptr(fds[0]), "received")
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return false // as the real one says: Not a regular file
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err = io.Copy(&f.content, file)
	return err == nil
}

func (f *fakeClamd) got() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.content.String()
}

func (f *fakeClamd) asked() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.commands, " ")
}

// scanner is the filter for these addresses.
func scanner(t *testing.T, cfg Config, addresses ...string) *Filter {
	t.Helper()
	cfg.Address = addresses
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	f, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

const plain = "From: a@example.com\r\nSubject: x\r\n\r\nhello\r\n"

func message(t *testing.T, text string) *mail.Transaction {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	return &mail.Transaction{Stage: mail.StageMessage, Message: m, Inside: &mail.Inside{}} // plain
}

// verdict is what a check came to, in one line.
func verdict(r filters.Report, err error) string {
	if err != nil {
		return "error"
	}
	var s []string
	for _, f := range r.Findings {
		s = append(s, strings.TrimSpace(f.Name+" "+f.Value))
	}
	return strings.Join(s, ", ")
}

func check(t *testing.T, f *Filter, text string) string {
	t.Helper()
	r, err := f.Check(t.Context(), message(t, text))
	if err != nil {
		t.Log(err)
	}
	return verdict(r, err)
}

func short(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
