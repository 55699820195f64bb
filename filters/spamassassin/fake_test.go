package spamassassin

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/internal/mail"

	"gatepost/filters/filtertest"
)

// fakeSpamd speaks spamd's protocol and says what it is told to say.
type fakeSpamd struct {
	reply  string
	early  bool // reply and hang up without reading the message
	silent bool // read nothing, say nothing
	tls    *tls.Config

	address string
	mu      sync.Mutex
	request string // the command and its headers
	content string
	all     []string          // requests
	byUser  map[string]string // replies; else reply
}

func (f *fakeSpamd) start(t *testing.T, network string) *fakeSpamd {
	t.Helper()
	f.address = filtertest.Serve(t, network, func(c net.Conn) {
		if f.tls != nil {
			c = tls.Server(c, f.tls)
		}
		f.serve(c)
	})
	return f
}

func (f *fakeSpamd) serve(c net.Conn) {
	if f.silent {
		return
	}
	defer c.Close()
	r := bufio.NewReader(c)
	var request strings.Builder
	for {
		line, err := r.ReadString('\n')
		request.WriteString(line)
		if err != nil || line == "\r\n" {
			break
		}
	}
	// As spamd does: to the end, not to the length that is told.
	var content []byte
	if !f.early {
		content, _ = io.ReadAll(r)
	}
	f.mu.Lock()
	f.request, f.content = request.String(), string(content)
	f.all = append(f.all, f.request)
	reply := f.reply
	if _, user, ok := strings.Cut(f.request, "User: "); ok && f.byUser != nil {
		user, _, _ = strings.Cut(user, "\r\n")
		reply = f.byUser[user]
	}
	f.mu.Unlock()
	if strings.HasPrefix(request.String(), "PING") && f.byUser == nil && strings.Contains(f.reply, "Spam:") {
		reply = "SPAMD/1.5 0 PONG\r\n"
	}
	_, _ = io.WriteString(c, reply)
}

func (f *fakeSpamd) got() (request, content string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.request, f.content
}

// says is a whole reply with this Spam header and body.
func says(spam, body string) string {
	return "SPAMD/1.1 0 EX_OK\r\nContent-length: " + strconv.Itoa(len(body)) + "\r\nSpam: " + spam + "\r\n\r\n" + body
}

func judge(t *testing.T, cfg Config, addresses ...string) *Filter {
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

const plain = "Received: from c by mx1.example.com; Sat, 21 Nov 2026 10:00:00 +0000\r\nFrom: a@example.com\r\nSubject: x\r\n\r\nhello\r\n"

// message came over the proxy.
func message(t *testing.T, text string) *mail.Transaction {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	return &mail.Transaction{
		ID:    "T1",
		Stage: mail.StageMessage,
		Session: &mail.Session{
			Via: mail.ViaSMTP, Client: netip.MustParseAddrPort("192.0.2.7:4711"), Name: "client.example", Helo: "helo.example", ESMTP: true,
		},
		Envelope: mail.Envelope{Sender: mail.Path{Address: mail.Address{Local: "sender", Domain: "sender.example"}}},
		Message:  m,
		Start:    time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC),
	}
}

func verdict(r filters.Report, err error) string {
	if err != nil {
		return "error"
	}
	var s []string
	for _, f := range r.Findings {
		if f.Name == mail.FindingReport {
			continue
		}
		s = append(s, strings.Join(strings.Fields(f.Name+" "+f.Value+" "+f.Text), " "))
	}
	return strings.Join(s, "; ")
}

func check(t *testing.T, f *Filter, tx *mail.Transaction) string {
	t.Helper()
	r, err := f.Check(t.Context(), tx)
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
