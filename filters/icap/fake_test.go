package icap

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/filters/filtertest"
	"gatepost/internal/mail"
)

// fakeServer speaks ICAP and says what it is told to say.
type fakeServer struct {
	options  string // the answer to OPTIONS; "": an ordinary one
	reply    string // to the content; "": by what is in it
	preview  string // to a preview; "": 100 Continue, or the reply when that was all
	early    int    // answer after so many octets, and read no more
	silent   bool   // take connections and say nothing
	closing  bool   // close the connection behind each answer, without a word
	requests int    // close it behind so many

	address  string
	mu       sync.Mutex
	heads    []string
	contents []string
	dialled  int
}

const ordinary = "ICAP/1.0 200 OK\r\nMethods: RESPMOD, REQMOD\r\nISTag: \"t-1\"\r\nAllow: 204\r\nPreview: 16\r\nOptions-TTL: 3600\r\nEncapsulated: null-body=0\r\n\r\n"

const no204 = "ICAP/1.0 204 No Content\r\nISTag: \"t-1\"\r\nEncapsulated: null-body=0\r\n\r\n"

// infectedReply is what c-icap's virus_scan says.
const infectedReply = "ICAP/1.0 200 OK\r\nISTag: \"t-1\"\r\nX-Infection-Found: Type=0; Resolution=2; Threat=Eicar-Test;\r\n" +
	"X-Violations-Found: 1\r\n\t-\r\n\tEicar-Test\r\n\t0\r\n\t0\r\nEncapsulated: res-hdr=0, res-body=46\r\n\r\n" +
	"HTTP/1.0 403 Forbidden\r\nServer: C-ICAP 1.0\r\n\r\n" + "5\r\nnope!\r\n0\r\n\r\n"

func (f *fakeServer) start(t *testing.T) *fakeServer {
	t.Helper()
	f.address = filtertest.Serve(t, "tcp", func(c net.Conn) {
		f.mu.Lock()
		f.dialled++
		f.mu.Unlock()
		f.serve(c)
	})
	return f
}

func (f *fakeServer) serve(c net.Conn) {
	if f.silent {
		return
	}
	defer c.Close()
	r := bufio.NewReader(c)
	for n := 1; ; n++ {
		head, err := textproto.NewReader(r).ReadLine()
		if err != nil {
			return
		}
		fields, err := textproto.NewReader(r).ReadMIMEHeader()
		if err != nil {
			return
		}
		f.note(head + "|" + fields.Get("Encapsulated") + "|" + fields.Get("Preview"))
		answer := f.options
		if answer == "" {
			answer = ordinary
		}
		if !strings.HasPrefix(head, "OPTIONS") {
			var ok bool
			if answer, ok = f.content(c, r, fields); !ok {
				return
			}
		}
		if _, err := io.WriteString(c, answer); err != nil || f.closing || n == f.requests || answer == "" {
			return
		}
	}
}

func (f *fakeServer) note(head string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.heads = append(f.heads, head)
}

// content reads what is to be looked at and returns the answer.
func (f *fakeServer) content(c net.Conn, r *bufio.Reader, fields textproto.MIMEHeader) (string, bool) {
	for range strings.Count(fields.Get("Encapsulated"), "-hdr") {
		if _, err := textproto.NewReader(r).ReadLine(); err != nil {
			return "", false
		}
		if _, err := textproto.NewReader(r).ReadMIMEHeader(); err != nil {
			return "", false
		}
	}
	var b strings.Builder
	if fields.Get("Preview") != "" {
		all, err := f.takePreview(r, &b)
		if err != nil {
			return "", false
		}
		switch {
		case all && f.preview == "":
			return f.answer(b.String()), true
		case f.preview != "":
			return f.preview, true
		}
		if _, err := io.WriteString(c, "ICAP/1.0 100 Continue\r\n\r\n"); err != nil {
			return "", false
		}
	}
	if f.early > 0 {
		_, _ = io.CopyN(&b, r, int64(f.early))
		_, _ = io.WriteString(c, f.answer(b.String()))
		_, _ = io.Copy(io.Discard, blocked64(c)) // until the client goes
		return "", false
	}
	if _, err := io.Copy(&b, httputil.NewChunkedReader(r)); err != nil {
		return "", false
	}
	_, _ = r.ReadString('\n')
	return f.answer(b.String()), true
}

// blocked64 reads nothing more until the connection is closed.
func blocked64(c net.Conn) io.Reader {
	return readerFunc(func([]byte) (int, error) {
		for {
			if _, err := c.Write(nil); err != nil {
				return 0, io.EOF
			}
			if err := c.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
				return 0, io.EOF
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
}

type readerFunc func([]byte) (int, error)

func (r readerFunc) Read(p []byte) (int, error) { return r(p) }

// takePreview reads one, and whether it was all.
func (f *fakeServer) takePreview(r *bufio.Reader, b *strings.Builder) (all bool, err error) {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return false, err
		}
		var n int64
		if _, err := fmt.Sscanf(line, "%x", &n); err != nil {
			return false, err
		}
		if _, err := io.CopyN(b, r, n); err != nil {
			return false, err
		}
		if _, err := r.ReadString('\n'); err != nil {
			return false, err
		}
		if n == 0 {
			return strings.Contains(line, "ieof"), nil
		}
	}
}

func (f *fakeServer) answer(content string) string {
	f.mu.Lock()
	f.contents = append(f.contents, content)
	f.mu.Unlock()
	switch {
	case f.reply == "(none)":
		return ""
	case f.reply == "echo":
		return fmt.Sprintf("ICAP/1.0 200 OK\r\nISTag: \"t-1\"\r\nEncapsulated: res-hdr=0, res-body=19\r\n\r\nHTTP/1.1 200 OK\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(content), content)
	case f.reply != "":
		return f.reply
	case strings.Contains(content, "EICAR"):
		return infectedReply
	}
	return no204
}

func (f *fakeServer) asked() (heads, contents []string, dialled int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.heads...), append([]string(nil), f.contents...), f.dialled
}

// scanner is the filter for these addresses.
func scanner(t *testing.T, cfg Config, addresses ...string) *Filter {
	t.Helper()
	cfg.Address = addresses
	if cfg.Service == "" {
		cfg.Service = "scan"
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 30 * time.Second
	}
	f, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// verdictOf is what a check came to, in one line.
func verdictOf(r filters.Report, err error) string {
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
	tx := filtertest.Transaction(t, text)
	tx.Inside = &mail.Inside{}
	r, err := f.Check(t.Context(), tx)
	if err != nil {
		t.Log(err)
	}
	return verdictOf(r, err)
}
