package queue

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gmail "gatepost/internal/mail"
	"gatepost/proxy/spool"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// memory is content that lies in memory.
type memory struct{ *bytes.Reader }

func newMemory(s string) memory { return memory{bytes.NewReader([]byte(s))} }

func (m memory) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, io.NewSectionReader(m.Reader, 0, m.Reader.Size()))
}

// broken is content that the disk gives back no more.
type broken struct{}

func (broken) ReadAt([]byte, int64) (int, error) { return 0, errors.New("EIO") }
func (broken) WriteTo(io.Writer) (int64, error)  { return 0, errors.New("EIO") }
func (broken) Size() int64                       { return 100 }
func address(t testing.TB, s string) gmail.Address {
	t.Helper()
	a, err := gmail.ParseAddress(s, true)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func path(t testing.TB, s string, args ...string) gmail.Path {
	t.Helper()
	return gmail.Path{Address: address(t, s), Args: args}
}

const original = "Received: from client.example by mx1.example.com\r\n" +
	"From: Alice <alice@sender.example>\r\n" +
	"To: bob@example.com\r\n" +
	"Subject: lunch\r\n" +
	"Message-ID: <lunch@sender.example>\r\n" +
	"\r\n" +
	"At noon?\r\n"

var (
	received = time.Date(2026, 3, 2, 9, 15, 0, 0, time.UTC)
	reportAt = time.Date(2026, 3, 2, 9, 15, 2, 0, time.UTC)
)

// sample is a report about one recipient that was refused.
func sample(t testing.TB) *report {
	m := &spool.Message{Entry: spool.Entry{
		ID: "0000000000BBBBBBBBBBBB", Received: received, Origin: spool.FromSMTP,
		Envelope: gmail.Envelope{Sender: path(t, "alice@sender.example"), Recipients: []gmail.Path{path(t, "bob@example.com")}},
	}}
	m.Recipients = []spool.Recipient{{
		Status: gmail.Failed, Attempts: 1, Last: reportAt, Remote: "exchange1.example.com[192.0.2.7]:25",
		Reply: gmail.Reply{Code: 550, Detail: "1.1", Text: "<bob@example.com>: user unknown"},
	}}
	return &report{
		id: "0000000000CCCCCCCCCCCC", hostname: "mx1.example.com", now: reportAt, msg: m,
		notice: notice{failed: []int{0}}, content: newMemory(original), fullSize: 50_000,
	}
}

// reports are the cases of the golden files.
var reports = []struct {
	name   string
	change func(t testing.TB, r *report)
}{
	{"refused", func(t testing.TB, r *report) {}},
	{"expired", func(t testing.TB, r *report) {
		r.now = received.Add(5 * 24 * time.Hour)
		r.msg.Recipients[0].Reply = gmail.Reply{Code: 451, Detail: "4.7", Text: "delivery time expired; last answer: 452 4.2.2 mailbox full"}
	}},
	{"no-route", func(t testing.TB, r *report) {
		r.msg.Recipients[0] = spool.Recipient{Status: gmail.Failed, Reply: noRoute, Attempts: 1, Last: reportAt}
	}},
	{"arguments", func(t testing.TB, r *report) {
		r.msg.Envelope.Sender.Args = []string{"RET=HDRS", "ENVID=QQ+2B314"}
		r.msg.Envelope.Recipients[0].Args = []string{"NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;bob+2Blunch@example.com"}
	}},
	{"relayed", func(t testing.TB, r *report) {
		r.failed, r.relayed = nil, []int{0}
		r.msg.Recipients[0].Status = gmail.Delivered
		r.msg.Recipients[0].Reply = gmail.Reply{Code: 250, Detail: "0.0", Text: "queued as 1234"}
	}},
	{"delayed", func(t testing.TB, r *report) {
		r.now, r.until = received.Add(4*time.Hour), received.Add(5*24*time.Hour)
		r.msg.Envelope.Recipients = append(r.msg.Envelope.Recipients, path(t, "carol@example.net"))
		r.msg.Recipients = []spool.Recipient{
			{Attempts: 7, Last: r.now, Remote: "exchange1.example.com[192.0.2.7]:25", Reply: gmail.Reply{Code: 452, Detail: "2.2", Text: "mailbox full"}},
			{Attempts: 7, Last: r.now, Reply: gmail.Reply{Code: 451, Detail: "4.1", Text: "connect to mx.example.net[192.0.2.9]:25: connection refused"}},
		}
		r.failed, r.delayed = nil, []int{0, 1}
	}},
	{"mixed", func(t testing.TB, r *report) {
		r.msg.Envelope.Recipients = append(r.msg.Envelope.Recipients, path(t, "carol@example.net"), path(t, "dave@example.org"))
		r.msg.Recipients = append(r.msg.Recipients,
			spool.Recipient{Status: gmail.Failed, Remote: "[2001:db8::1]:25", Last: reportAt, Reply: gmail.Reply{Code: 552, Detail: "3.4", Text: "too big\nsee https://example.net/limits"}},
			spool.Recipient{Status: gmail.Delivered, Relayed: true, Remote: "mx.example.org[192.0.2.9]:25", Last: reportAt, Reply: gmail.Reply{Code: 250, Text: "ok"}})
		r.failed, r.relayed = []int{0, 1}, []int{2}
	}},
	{"utf8", func(t testing.TB, r *report) {
		r.msg.Envelope.Sender = path(t, "jörg@bücher.example", "SMTPUTF8")
		r.msg.Envelope.Recipients[0] = path(t, "用户@example.com", "ORCPT=utf-8;用户@example.com")
		r.content = newMemory("From: jörg@bücher.example\r\nSubject: Grüße\r\n\r\nHallo\r\n")
	}},
	{"8bit-header-only", func(t testing.TB, r *report) {
		r.content, r.fullSize = newMemory("From: a@b.example\r\nSubject: Gr\xfc\xdfe\r\n\r\nHallo\r\n"), 10
	}},
	{"content-lost", func(t testing.TB, r *report) { r.content = nil }},
}

func write(t testing.TB, r *report) []byte {
	t.Helper()
	var body bytes.Buffer
	if err := r.writeTo(&body); err != nil {
		t.Fatal(err)
	}
	return append(append(r.header().Bytes(), "\r\n"...), body.Bytes()...)
}

func TestReportGolden(t *testing.T) {
	for _, tt := range reports {
		t.Run(tt.name, func(t *testing.T) {
			r := sample(t)
			tt.change(t, r)
			got := write(t, r)
			file := filepath.Join("testdata", "dsn", tt.name+".eml")
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("differs from %s; got:\n%s", file, got)
			}
		})
	}
}

// parsed is a notification as a mail program sees it.
type parsed struct {
	header     mail.Header
	text       string
	perMessage textproto.MIMEHeader
	recipients []textproto.MIMEHeader
	kind       string // type of the third part
	original   string
}

func parse(t testing.TB, b []byte) parsed {
	t.Helper()
	for i, line := range bytes.Split(b, []byte("\r\n")) {
		if len(line) > 998 || bytes.ContainsAny(line, "\r\n\x00") {
			t.Fatalf("line %d: %.80q of %d bytes", i, line, len(line))
		}
	}
	m, err := mail.ReadMessage(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/report" || params["report-type"] != "delivery-status" {
		t.Fatalf("Content-Type = %q, %v", m.Header.Get("Content-Type"), err)
	}
	p := parsed{header: m.Header}
	parts := multipart.NewReader(m.Body, params["boundary"])
	for n := 0; ; n++ {
		part, err := parts.NextPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(part)
		if err != nil {
			t.Fatal(err)
		}
		kind, _, err := mime.ParseMediaType(part.Header.Get("Content-Type"))
		if err != nil {
			t.Fatal(err)
		}
		switch n {
		case 0:
			p.text = string(body)
		case 1:
			if kind != "message/delivery-status" || !is7Bit(string(body)) {
				t.Errorf("second part is %s, 7-bit %v", kind, is7Bit(string(body)))
			}
			p.perMessage, p.recipients = parseStatus(t, string(body))
		case 2:
			p.kind, p.original = kind, string(body)
		default:
			t.Errorf("part %d", n)
		}
	}
	return p
}

func parseStatus(t testing.TB, s string) (textproto.MIMEHeader, []textproto.MIMEHeader) {
	t.Helper()
	var groups []textproto.MIMEHeader
	for _, block := range strings.Split(strings.TrimSuffix(s, "\r\n"), "\r\n\r\n") {
		h, err := mail.ReadMessage(strings.NewReader(block + "\r\n\r\n"))
		if err != nil {
			t.Fatalf("group %q: %v", block, err)
		}
		groups = append(groups, textproto.MIMEHeader(h.Header))
	}
	return groups[0], groups[1:]
}

func TestReportParses(t *testing.T) {
	for _, tt := range reports {
		t.Run(tt.name, func(t *testing.T) {
			r := sample(t)
			tt.change(t, r)
			p := parse(t, write(t, r))
			for name, want := range map[string]string{
				"From": "Mail Delivery System <MAILER-DAEMON@mx1.example.com>", "Auto-Submitted": "auto-replied", "Mime-Version": "1.0",
				"To": r.msg.Envelope.Sender.Path(), "Message-Id": "<0000000000CCCCCCCCCCCC@mx1.example.com>",
			} {
				if got := p.header.Get(name); got != want {
					t.Errorf("%s = %q, want %q", name, got, want)
				}
			}
			if _, err := p.header.Date(); err != nil {
				t.Error(err)
			}
			if got := p.perMessage.Get("Reporting-Mta"); got != "dns; mx1.example.com" {
				t.Errorf("Reporting-MTA = %q", got)
			}
			if len(p.recipients) != len(r.failed)+len(r.relayed)+len(r.delayed) {
				t.Fatalf("%d recipients", len(p.recipients))
			}
			for _, rcpt := range p.recipients {
				for _, name := range []string{"Final-Recipient", "Action", "Status", "Diagnostic-Code"} {
					if rcpt.Get(name) == "" {
						t.Errorf("no %s in %v", name, rcpt)
					}
				}
			}
		})
	}
}

// NOTIFY, RET, ENVID and ORCPT as RFC 3461 wants them.
func TestReportArguments(t *testing.T) {
	large := original + strings.Repeat("A long line of nothing much.\r\n", 3000)
	tests := []struct {
		name     string
		sender   []string
		rcpt     []string
		content  string
		kind     string
		envid    string
		original string // Original-Recipient
	}{
		{name: "none", content: original, kind: "message/rfc822"},
		{name: "RET=FULL", sender: []string{"RET=FULL"}, content: original, kind: "message/rfc822"},
		{name: "RET=HDRS", sender: []string{"RET=HDRS"}, content: original, kind: "text/rfc822-headers"},
		{name: "REQUIRETLS", sender: []string{"REQUIRETLS", "RET=FULL"}, content: original, kind: "text/rfc822-headers"},
		{name: "ret=hdrs in lower case", sender: []string{"ret=hdrs"}, content: original, kind: "text/rfc822-headers"},
		{name: "large", content: large, kind: "text/rfc822-headers"},
		{name: "large with RET=FULL", sender: []string{"RET=FULL"}, content: large, kind: "text/rfc822-headers"},
		{name: "UTF-8", sender: []string{"SMTPUTF8"}, content: original, kind: "message/global"},
		{name: "UTF-8, header", sender: []string{"SMTPUTF8", "RET=HDRS"}, content: original, kind: "message/global-headers"},
		{name: "ENVID", sender: []string{"ENVID=a+2Bb+3Dc"}, content: original, kind: "message/rfc822", envid: "a+b=c"},
		{name: "ENVID with a line break in it", sender: []string{"ENVID=a+0D+0AX-Evil:+201"}, content: original, kind: "message/rfc822"},
		{name: "ENVID malformed", sender: []string{"ENVID=a+"}, content: original, kind: "message/rfc822"},
		{name: "ORCPT", rcpt: []string{"ORCPT=rfc822;b+2Bx@example.com"}, content: original, kind: "message/rfc822", original: "rfc822; b+x@example.com"},
		{name: "ORCPT without a type", rcpt: []string{"ORCPT=bob@example.com"}, content: original, kind: "message/rfc822"},
		{name: "ORCPT with controls", rcpt: []string{"ORCPT=rfc822;a+0Ab"}, content: original, kind: "message/rfc822"},
		{name: "ORCPT utf-8", rcpt: []string{"ORCPT=utf-8;jörg@example.com"}, content: original, kind: "message/rfc822", original: `utf-8; j\x{F6}rg@example.com`},
		{name: "ORCPT utf-8 in ASCII", rcpt: []string{`ORCPT=utf-8;j\x{F6}rg@example.com`}, content: original, kind: "message/rfc822", original: `utf-8; j\x{F6}rg@example.com`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := sample(t)
			r.msg.Envelope.Sender.Args, r.msg.Envelope.Recipients[0].Args = tt.sender, tt.rcpt
			r.content = newMemory(tt.content)
			p := parse(t, write(t, r))
			if p.kind != tt.kind {
				t.Errorf("third part is %s, want %s", p.kind, tt.kind)
			}
			if got := p.perMessage.Get("Original-Envelope-Id"); got != tt.envid {
				t.Errorf("Original-Envelope-Id = %q, want %q", got, tt.envid)
			}
			if got := p.recipients[0].Get("Original-Recipient"); got != tt.original {
				t.Errorf("Original-Recipient = %q, want %q", got, tt.original)
			}
			if !strings.Contains(p.original, "Subject: lunch") || strings.Contains(p.original, "At noon?") != strings.HasSuffix(tt.kind, "rfc822") && !strings.HasSuffix(tt.kind, "global") {
				t.Errorf("returned %q", p.original)
			}
		})
	}
}

// H1: a next hop's words must not become fields, parts or lines of their own.
func TestReportHostileReply(t *testing.T) {
	texts := map[string]string{
		"new field":      "no\r\nX-Evil: 1",
		"new group":      "no\r\n\r\nFinal-Recipient: rfc822; evil@example.com\r\nAction: delivered",
		"boundary":       "no\r\n--=_0000000000CCCCCCCCCCCC\r\nContent-Type: text/html\r\n\r\n<script>",
		"bare CR and LF": "a\rX-Evil: 1\nX-Evil: 2",
		"controls":       "\x1b]0;title\x07\x00",
		"not UTF-8":      "\xff\xfe",
		"line separator": "a\u2028X-Evil: 1",
		"one long word":  strings.Repeat("x", 100_000),
		"long UTF-8":     strings.Repeat("ü", 100_000),
	}
	for name, text := range texts {
		t.Run(name, func(t *testing.T) {
			r := sample(t)
			r.msg.Recipients[0].Reply.Text = text
			r.msg.Recipients[0].Remote = text
			b := write(t, r)
			p := parse(t, b)
			if len(p.recipients) != 1 || p.recipients[0].Get("X-Evil") != "" || p.recipients[0].Get("Action") != "failed" {
				t.Errorf("recipients: %v", p.recipients)
			}
			if p.kind != "message/rfc822" {
				t.Errorf("third part is %q", p.kind)
			}
			if len(b) > 20_000 {
				t.Errorf("%d bytes", len(b))
			}
		})
	}
}

// A notification stays small however many recipients failed.
func TestReportManyRecipients(t *testing.T) {
	r := sample(t)
	r.failed, r.msg.Envelope.Recipients, r.msg.Recipients = nil, nil, nil
	for i := range 1000 {
		r.msg.Envelope.Recipients = append(r.msg.Envelope.Recipients, path(t, fmt.Sprintf("user%d@example.com", i)))
		r.msg.Recipients = append(r.msg.Recipients, spool.Recipient{
			Status: gmail.Failed, Remote: "mx[192.0.2.1]:25", Reply: gmail.Reply{Code: 550, Detail: "1.1", Text: strings.Repeat("no such user ", 1000)},
		})
		r.failed = append(r.failed, i)
	}
	b := write(t, r)
	p := parse(t, b)
	if len(p.recipients) != 1000 {
		t.Errorf("%d recipients", len(p.recipients))
	}
	if !strings.Contains(p.text, "<user999@example.com>") {
		t.Error("the last recipient is not in the text")
	}
	if got := p.header.Get("Subject"); got != "Your mail to 1000 recipients could not be delivered" {
		t.Errorf("Subject = %q", got)
	}
	if len(b) > 1<<20 {
		t.Errorf("%d bytes", len(b))
	}
}

func TestReportEnvelope(t *testing.T) {
	tests := []struct {
		name    string
		sender  string
		content string
		want    []string
	}{
		{"ASCII", "alice@sender.example", original, nil},
		{"8-bit body", "alice@sender.example", original + "\xfc\r\n", []string{"BODY=8BITMIME"}},
		{"UTF-8 sender", "jörg@bücher.example", original, []string{"SMTPUTF8"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := sample(t)
			r.msg.Envelope.Sender = path(t, tt.sender, "RET=FULL", "ENVID=x")
			r.content = newMemory(tt.content)
			b := string(write(t, r))
			env := r.envelope()
			if !env.Sender.IsNull() || fmt.Sprint(env.Sender.Args) != fmt.Sprint(tt.want) {
				t.Errorf("sender %q %v, want null and %v", env.Sender.Address, env.Sender.Args, tt.want)
			}
			if len(env.Recipients) != 1 || env.Recipients[0].String() != tt.sender || env.Recipients[0].Args != nil {
				t.Errorf("recipients %v", env.Recipients)
			}
			if got, want := strings.Contains(b, "Content-Transfer-Encoding: 8bit"), strings.Contains(fmt.Sprint(tt.want), "8BIT"); got != want {
				t.Errorf("8bit = %v, want %v", got, want)
			}
		})
	}
}

func TestReportOfUnreadableContent(t *testing.T) {
	r := sample(t)
	r.content = broken{}
	p := parse(t, write(t, r))
	if len(p.recipients) != 1 || p.original != "" {
		t.Errorf("recipients %d, original %q", len(p.recipients), p.original)
	}
}

func TestReportCutsHugeHeader(t *testing.T) {
	r := sample(t)
	r.content = newMemory("Subject: first\r\n" + strings.Repeat("X-Filler: "+strings.Repeat("x", 900)+"\r\n", 200) + "\r\nbody\r\n")
	p := parse(t, write(t, r))
	if p.kind != "text/rfc822-headers" || len(p.original) > longestHeader || !strings.HasPrefix(p.original, "Subject: first\r\n") {
		t.Errorf("%s of %d bytes", p.kind, len(p.original))
	}
	for _, line := range strings.Split(strings.TrimSuffix(p.original, "\r\n"), "\r\n")[1:] {
		if len(line) != 910 {
			t.Fatalf("a cut field: %.40q of %d bytes", line, len(line))
		}
	}
}

func TestNotify(t *testing.T) {
	failed := spool.Recipient{Status: gmail.Failed}
	delivered := spool.Recipient{Status: gmail.Delivered}
	relayed := spool.Recipient{Status: gmail.Delivered, Relayed: true}
	tests := []struct {
		name            string
		args            []string
		how             spool.Recipient
		failed, relayed int
	}{
		{"no NOTIFY, failed", nil, failed, 1, 0},
		{"no NOTIFY, delivered", nil, relayed, 0, 0},
		{"NEVER, failed", []string{"NOTIFY=NEVER"}, failed, 0, 0},
		{"NEVER, delivered", []string{"NOTIFY=NEVER"}, relayed, 0, 0},
		{"FAILURE, failed", []string{"NOTIFY=FAILURE"}, failed, 1, 0},
		{"FAILURE, delivered", []string{"NOTIFY=FAILURE"}, relayed, 0, 0},
		{"SUCCESS, failed", []string{"NOTIFY=SUCCESS"}, failed, 0, 0},
		{"SUCCESS, delivered to a next hop that tells", []string{"NOTIFY=SUCCESS"}, delivered, 0, 0},
		{"SUCCESS, delivered to one that does not", []string{"NOTIFY=SUCCESS"}, relayed, 0, 1},
		{"DELAY, failed", []string{"NOTIFY=DELAY"}, failed, 0, 0},
		{"all, failed", []string{"notify=success,failure,delay"}, failed, 1, 0},
		{"all, delivered", []string{"NOTIFY=DELAY,SUCCESS,FAILURE"}, relayed, 0, 1},
		{"still put off", []string{"NOTIFY=SUCCESS,FAILURE"}, spool.Recipient{}, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := &spool.Message{Entry: spool.Entry{Envelope: gmail.Envelope{Recipients: []gmail.Path{path(t, "bob@example.com", tt.args...)}}}}
			m.Recipients = []spool.Recipient{tt.how}
			n := toReport(m)
			f, r := n.failed, n.relayed
			if len(f) != tt.failed || len(r) != tt.relayed {
				t.Errorf("failed %v, relayed %v; want %d, %d", f, r, tt.failed, tt.relayed)
			}
		})
	}
}

func TestRemoteName(t *testing.T) {
	tests := []struct{ in, want string }{
		{"", ""},
		{"mx.example.com[192.0.2.1]:25", "mx.example.com"},
		{"[192.0.2.1]:25", "[192.0.2.1]"},
		{"unknown[192.0.2.1]:25", "[192.0.2.1]"},
		{"[2001:db8::1]:25", "[IPv6:2001:db8::1]"},
		{"mx.example.com", "mx.example.com"},
		{"[", "[]"},
	}
	for _, tt := range tests {
		if got := remoteName(tt.in); got != tt.want {
			t.Errorf("remoteName(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestSpoken(t *testing.T) {
	tests := []struct {
		in   time.Duration
		want string
	}{
		{-time.Hour, "less than a minute"},
		{time.Second, "less than a minute"},
		{time.Minute, "1 minute"},
		{119 * time.Minute, "119 minutes"},
		{5 * time.Hour, "5 hours"},
		{5*24*time.Hour + time.Hour, "5 days"},
	}
	for _, tt := range tests {
		if got := spoken(tt.in); got != tt.want {
			t.Errorf("spoken(%v) = %q, want %q", tt.in, got, tt.want)
		}
	}
}
