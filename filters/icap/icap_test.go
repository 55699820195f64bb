package icap

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/filters/filtertest"
	"gatepost/internal/mail"
)

const mailOf = mailMark + filtertest.Plain

// with204 is an answer with more fields.
func with204(fields ...string) string {
	return "ICAP/1.0 204 No Content\r\nISTag: \"t-1\"\r\n" + strings.Join(append(fields, ""), "\r\n") + "\r\n"
}

func with200(http, body string, fields ...string) string {
	return "ICAP/1.0 200 OK\r\nISTag: \"t-1\"\r\n" + strings.Join(append(fields, ""), "\r\n") +
		"Encapsulated: res-hdr=0, res-body=" + itoa(len(http)) + "\r\n\r\n" + http + body
}

func itoa(n int) string { // three digits do
	return string([]byte{byte('0' + n/100), byte('0' + n/10%10), byte('0' + n%10)})
}

// P1 for ICAP: whatever the server says, only 204 or the same octets are clean.
func TestReplies(t *testing.T) {
	const ok, forbidden, chunks = "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 403 Forbidden\r\n\r\n", "3\r\nabc\r\n0\r\n\r\n"
	tests := []struct{ name, reply, want string }{
		{"clean", no204, "clean"},
		{"the same octets", "echo", "clean"},
		{"other octets", with200(ok, chunks), "virus ICAP.Blocked"},
		{"a page in its place", with200(forbidden, chunks), "virus ICAP.Blocked"},
		{"no body in its place", "ICAP/1.0 200 OK\r\nEncapsulated: res-hdr=0, null-body=019\r\n\r\n" + ok, "virus ICAP.Blocked"},
		{"as virus_scan says it", infectedReply, "virus Eicar-Test"},
		{"X-Infection-Found", with200(forbidden, chunks, "X-Infection-Found: Type=0; Resolution=2; Threat=Eicar;"), "virus Eicar"},
		{"X-Infection-Found with 204", with204("X-Infection-Found: Type=0; Resolution=1; Threat=Eicar;"), "virus Eicar"},
		{"a violation of policy", with200(forbidden, chunks, "X-Infection-Found: Type=1; Resolution=2; Threat=Macro;"), "suspicious Macro"},
		{"a container", with200(forbidden, chunks, "X-Infection-Found: Type=2; Resolution=2; Threat=Encrypted.Zip;"), "not-scanned Encrypted.Zip"},
		{"no threat is named", with200(forbidden, chunks, "X-Infection-Found: Type=0"), "virus unknown"},
		{"X-Virus-ID", with200(forbidden, chunks, "X-Virus-ID: Eicar"), "virus Eicar"},
		{"X-Virus-ID of nothing", with204("X-Virus-ID: no threats"), "clean"},
		{"X-Violations-Found", with200(forbidden, chunks, "X-Violations-Found: 1\r\n\ta.exe\r\n\tEicar\r\n\t11\r\n\t2"), "virus Eicar"},
		{"X-Violations-Found: 0", with204("X-Violations-Found: 0"), "clean"},
		{"a name with controls", with204("X-Virus-ID: a\x1b[2J\x01b"), "virus a [2J b"},
		{"blocked, and no content", "ICAP/1.0 200 OK\r\nISTag: \"t-1\"\r\n\r\n", "error"},

		{"no reply", "(none)", "error"},
		{"cut in the status", "ICAP/1.0 20", "error"},
		{"cut in the header", "ICAP/1.0 204 No Content\r\nISTag: x\r\n", "error"},
		{"cut in the body", with200(ok, "5\r\nab"), "error"},
		{"a body without an end", with200(ok, "3\r\nabc\r\n"), "error"},
		{"bad chunk", with200(ok, "zz\r\nabc\r\n0\r\n\r\n"), "error"},
		{"negative chunk", with200(ok, "-3\r\nabc\r\n0\r\n\r\n"), "error"},
		{"huge chunk", with200(ok, "7fffffff\r\nabc"), "error"},
		{"chunk that overflows", with200(ok, "ffffffffffffffff\r\nabc"), "error"},
		{"HTTP", "HTTP/1.1 204 No Content\r\n\r\n", "error"},
		{"another version", strings.Replace(no204, "1.0", "2.0", 1), "error"},
		{"no code", "ICAP/1.0 OK\r\n\r\n", "error"},
		{"code of four digits", "ICAP/1.0 2040 No\r\n\r\n", "error"},
		{"100 to the whole", "ICAP/1.0 100 Continue\r\n\r\n", "error"},
		{"206", "ICAP/1.0 206 Partial Content\r\nEncapsulated: res-hdr=0, res-body=019\r\n\r\n" + ok + chunks, "error"},
		{"201", "ICAP/1.0 201 Created\r\n\r\n", "error"},
		{"404", "ICAP/1.0 404 ICAP Service not found\r\n\r\n", "error"},
		{"500", "ICAP/1.0 500 Internal Server error\r\n\r\n", "error"},
		{"503", "ICAP/1.0 503 Service overloaded\r\n\r\n", "error"},
		{"a header without colon", "ICAP/1.0 204 No Content\r\nnonsense\r\n\r\n", "error"},
		{"folded before any field", "ICAP/1.0 204 No Content\r\n nonsense\r\n\r\n", "error"},
		{"offsets that go back", "ICAP/1.0 200 OK\r\nEncapsulated: res-hdr=20, res-body=3\r\n\r\n" + ok + chunks, "error"},
		{"offset beyond all", "ICAP/1.0 200 OK\r\nEncapsulated: res-hdr=0, res-body=999999\r\n\r\n" + ok + chunks, "error"},
		{"offsets of letters", "ICAP/1.0 200 OK\r\nEncapsulated: res-hdr=x\r\n\r\n", "error"},
		{"no body in the list", "ICAP/1.0 200 OK\r\nEncapsulated: res-hdr=0\r\n\r\n" + ok, "error"},
		{"two lists", "ICAP/1.0 204 OK\r\nEncapsulated: null-body=0\r\nEncapsulated: null-body=0\r\n\r\n", "error"},
		{"offset within the header", "ICAP/1.0 200 OK\r\nEncapsulated: res-hdr=0, res-body=10\r\n\r\n" + ok + chunks, "error"},
		{"many fields", "ICAP/1.0 204 No Content\r\n" + strings.Repeat("X: y\r\n", 100_000) + "\r\n", "error"},
		{"endless line", "ICAP/1.0 204 " + strings.Repeat("x", 10<<20), "error"},
		{"empty lines", strings.Repeat("\r\n", 100), "error"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := &fakeServer{reply: tt.reply, requests: 2}
			f.start(t)
			if got := check(t, scanner(t, Config{}, f.address), filtertest.Plain); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// What OPTIONS must say, or nobody is asked.
func TestOptions(t *testing.T) {
	for name, tt := range map[string]struct{ options, want string }{
		"ordinary":        {"", "clean"},
		"closes":          {strings.Replace(ordinary, "Allow:", "Connection: close\r\nAllow:", 1), "clean"},
		"another method":  {strings.Replace(ordinary, "RESPMOD, REQMOD", "REQMOD", 1), "error"},
		"no methods":      {strings.Replace(ordinary, "Methods", "X", 1), "error"},
		"404":             {"ICAP/1.0 404 Not found\r\n\r\n", "error"},
		"nonsense":        {"\x00\x01\x02\r\n\r\n", "error"},
		"hangs up behind": {"", "clean"},
		"with a body":     {strings.Replace(ordinary, "null-body=0\r\n\r\n", "opt-body=0\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 1), "clean"},
		"endless body":    {strings.Replace(ordinary, "null-body=0\r\n\r\n", "opt-body=0\r\n\r\n"+strings.Repeat("fff\r\n"+strings.Repeat("x", 0xfff)+"\r\n", 300), 1), "error"},
	} {
		t.Run(name, func(t *testing.T) {
			f := (&fakeServer{options: tt.options, closing: name == "hangs up behind"}).start(t)
			if got := check(t, scanner(t, Config{}, f.address), filtertest.Plain); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// What the server gets, to the octet.
func TestRequest(t *testing.T) {
	for name, tt := range map[string]struct {
		cfg  Config
		head string
	}{
		"respmod":             {Config{}, "RESPMOD icap://ADDR/scan ICAP/1.0|req-hdr=0, res-hdr=64, res-body=141|"},
		"reqmod":              {Config{Method: ReqMod}, "REQMOD icap://ADDR/scan ICAP/1.0|req-hdr=0, req-body=123|"},
		"preview":             {Config{Preview: 10}, "RESPMOD icap://ADDR/scan ICAP/1.0|req-hdr=0, res-hdr=64, res-body=141|10"},
		"preview, server's":   {Config{Preview: 4096}, "RESPMOD icap://ADDR/scan ICAP/1.0|req-hdr=0, res-hdr=64, res-body=141|16"},
		"service with a path": {Config{Service: "av/scan?x=1"}, "RESPMOD icap://ADDR/av/scan?x=1 ICAP/1.0|req-hdr=0, res-hdr=64, res-body=141|"},
	} {
		t.Run(name, func(t *testing.T) {
			f := (&fakeServer{}).start(t)
			if got := check(t, scanner(t, tt.cfg, f.address), filtertest.Plain); got != "clean" {
				t.Errorf("got %s", got)
			}
			heads, contents, _ := f.asked()
			want := strings.Replace(tt.head, "ADDR", strings.TrimPrefix(f.address, "tcp:"), 1)
			if len(heads) != 2 || heads[1] != want {
				t.Errorf("asked %q, want %q", heads, want)
			}
			if len(contents) != 1 || contents[0] != mailOf {
				t.Errorf("content %q", contents)
			}
		})
	}
}

// A preview: the whole message in it, a bad word, a good word that is not
// enough.
func TestPreview(t *testing.T) {
	for name, tt := range map[string]struct {
		fake *fakeServer
		want string
	}{
		"goes on":         {&fakeServer{}, "clean"},
		"all of it":       {&fakeServer{options: strings.Replace(ordinary, "Preview: 16", "Preview: 60000", 1)}, "clean"},
		"bad at once":     {&fakeServer{preview: infectedReply}, "virus Eicar-Test"},
		"enough":          {&fakeServer{preview: no204}, "not-scanned preview only"},
		"an error":        {&fakeServer{preview: "ICAP/1.0 500 x\r\n\r\n"}, "error"},
		"wants none":      {&fakeServer{options: strings.Replace(ordinary, "Preview: 16\r\n", "", 1)}, "clean"},
		"bad in the rest": {&fakeServer{reply: infectedReply}, "virus Eicar-Test"},
		"of zero octets":  {&fakeServer{options: strings.Replace(ordinary, "Preview: 16", "Preview: 0", 1)}, "clean"},
	} {
		t.Run(name, func(t *testing.T) {
			f := tt.fake
			f.start(t)
			if got := check(t, scanner(t, Config{Preview: 32 << 10}, f.address), filtertest.Plain); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			if _, contents, _ := f.asked(); tt.want == "clean" && (len(contents) != 1 || contents[0] != mailOf) {
				t.Errorf("content %q", contents)
			}
		})
	}
}

// A good word before the end is no good word; a bad one is believed.
func TestAnswersEarly(t *testing.T) {
	big := filtertest.Plain + strings.Repeat("The quick brown fox.\r\n", 1_000_000)
	for reply, want := range map[string]string{no204: "error", infectedReply: "virus Eicar-Test"} {
		f := (&fakeServer{early: 1000, reply: reply}).start(t)
		if got := check(t, scanner(t, Config{Timeout: 2 * time.Second}, f.address), big); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// The server sends back while it receives, more than any buffer holds.
func TestEchoOfALargeMessage(t *testing.T) {
	f := (&fakeServer{reply: "echo"}).start(t)
	big := filtertest.Plain + strings.Repeat("The quick brown fox.\r\n", 500_000)
	if got := check(t, scanner(t, Config{}, f.address), big); got != "clean" {
		t.Errorf("got %s", got)
	}
}

func TestTooLarge(t *testing.T) {
	f := scanner(t, Config{MaxSize: 100}, "tcp:127.0.0.1:1")
	if got := check(t, f, filtertest.Plain); got != "not-scanned too large" {
		t.Errorf("got %s", got)
	}
}

// running keeps connections for the length of the test.
func running(t *testing.T, f *Filter) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var over sync.WaitGroup
	over.Go(func() { _ = f.Run(ctx) })
	t.Cleanup(func() { cancel(); over.Wait() })
	for !f.idle.wanted() {
		time.Sleep(time.Millisecond)
	}
}

// Connections are used again, and one that the server closed meanwhile costs
// nothing.
func TestConnectionsAreKept(t *testing.T) {
	for name, tt := range map[string]struct {
		fake    *fakeServer
		run     bool
		dialled int
	}{
		"kept":                   {&fakeServer{}, true, 1},
		"nobody would close it":  {&fakeServer{}, false, 10},
		"closed behind":          {&fakeServer{reply: strings.Replace(no204, "ISTag", "Connection: close\r\nISTag", 1)}, true, 10},
		"closed without a word":  {&fakeServer{requests: 2}, true, 10},
		"something is left over": {&fakeServer{reply: no204 + no204}, true, 10},
	} {
		t.Run(name, func(t *testing.T) {
			f := tt.fake
			f.start(t)
			s := scanner(t, Config{}, f.address)
			if tt.run {
				running(t, s)
			}
			for range 10 {
				if got := check(t, s, filtertest.Plain); got != "clean" {
					t.Errorf("got %s", got)
				}
			}
			if _, _, dialled := f.asked(); dialled > tt.dialled || tt.dialled == 10 && dialled < 5 {
				t.Errorf("%d connections, want %d", dialled, tt.dialled)
			}
		})
	}
}

// A new tag means a new version: its options are asked for again.
func TestNewTag(t *testing.T) {
	f := (&fakeServer{reply: strings.Replace(no204, "t-1", "t-2", 1)}).start(t)
	s := scanner(t, Config{}, f.address)
	for range 2 {
		if got := check(t, s, filtertest.Plain); got != "clean" {
			t.Errorf("got %s", got)
		}
	}
	if heads, _, _ := f.asked(); len(heads) != 4 || !strings.HasPrefix(heads[2], "OPTIONS") {
		t.Errorf("asked %q", heads)
	}
	if s.Version() != "t-1" {
		t.Errorf("version %q", s.Version())
	}
}

func TestFailOver(t *testing.T) {
	bad := (&fakeServer{reply: "ICAP/1.0 500 x\r\n\r\n"}).start(t)
	good := (&fakeServer{}).start(t)
	s := scanner(t, Config{}, "unix:/nonexistent/icap", bad.address, good.address)
	for range 2 {
		if got := check(t, s, filtertest.Plain); got != "clean" {
			t.Errorf("got %s", got)
		}
	}
}

// A decoded part is sent beside the message: the scanner knows files, not mail.
func TestParts(t *testing.T) {
	f := (&fakeServer{}).start(t)
	text := "From: a@b.example\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" +
		"--b\r\nContent-Type: text/plain\r\n\r\nsee\r\n--b\r\nContent-Type: application/octet-stream; name=a.com\r\n" +
		"Content-Transfer-Encoding: base64\r\n\r\nRUlDQVI=\r\n--b--\r\n"
	tx := filtertest.Transaction(t, text)
	r, err := scanner(t, Config{}, f.address).Check(t.Context(), tx)
	if got := verdictOf(r, err); got != "virus Eicar-Test" {
		t.Errorf("got %s, %v", got, err)
	}
	_, contents, _ := f.asked()
	if len(contents) < 2 || contents[0] != mailMark+text || contents[len(contents)-1] != "EICAR" {
		t.Errorf("sent %q", contents)
	}
}

func TestContract(t *testing.T) {
	with := func(make func() *fakeServer) func(t *testing.T) filters.Step {
		return func(t *testing.T) filters.Step {
			f := make()
			f.start(t)
			s := scanner(t, Config{}, f.address)
			running(t, s)
			return s.Step()
		}
	}
	filtertest.Run(t, filtertest.Subject{
		New:    with(func() *fakeServer { return &fakeServer{} }),
		Silent: with(func() *fakeServer { return &fakeServer{silent: true} }),
		Broken: map[string]func(t *testing.T) filters.Step{
			"nobody there": func(t *testing.T) filters.Step { return scanner(t, Config{}, "tcp:127.0.0.1:1").Step() },
			"hangs up":     with(func() *fakeServer { return &fakeServer{reply: "ICAP/1.0 20", closing: true} }),
			"nonsense":     with(func() *fakeServer { return &fakeServer{reply: "stream: OK\x00\r\n\r\n"} }),
			"overloaded":   with(func() *fakeServer { return &fakeServer{reply: "ICAP/1.0 503 Service overloaded\r\n\r\n"} }),
		},
		Prepare: func(tx *mail.Transaction) { tx.Inside = &mail.Inside{} },
	})
}

func TestConfig(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Service = "avscan"
	f, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if s := f.Step(); s.Name != "icap" || s.Timeout != time.Minute || s.OnError != filters.TempFail || s.MaxConcurrent != 10 || s.Modifies {
		t.Errorf("step = %+v", s)
	}
	for _, tt := range []struct {
		change func(*Config)
		want   string
	}{
		{func(c *Config) { c.Service = "" }, "service: is missing"},
		{func(c *Config) { c.Service = "a b" }, "is no name of a service"},
		{func(c *Config) { c.Service = "a\r\nX: y" }, "is no name of a service"},
		{func(c *Config) { c.Method = "options" }, "is not one of respmod, reqmod"},
		{func(c *Config) { c.Address = []string{"icap://x"} }, "address[0]: "},
		{func(c *Config) { c.Preview = 1 << 20 }, "preview: is not between"},
		{func(c *Config) { c.Timeout = -1 }, "timeout: is negative"},
		{func(c *Config) { c.MaxSize = -1 }, "max_size: is negative"},
		{func(c *Config) { c.MaxConcurrent = -1 }, "max_concurrent: is negative"},
		{func(c *Config) { c.OnError = "later" }, "is not one of"},
	} {
		c := cfg
		tt.change(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v, want %q", err, tt.want)
		}
	}
}
