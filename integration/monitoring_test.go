package integration

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"gatepost/internal/testkit"
)

// traceSink is a collector of OpenTelemetry: it counts spans by name.
type traceSink struct {
	mu    sync.Mutex
	spans map[string]int
	bad   string
}

func (c *traceSink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var req collector.ExportTraceServiceRequest
	z, err := gzip.NewReader(r.Body)
	if err == nil {
		var b []byte
		if b, err = io.ReadAll(z); err == nil {
			err = proto.Unmarshal(b, &req)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.bad = err.Error()
	}
	for _, resource := range req.GetResourceSpans() {
		for _, scope := range resource.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				c.spans[s.GetName()]++
			}
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

func (c *traceSink) has(names ...string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !slices.ContainsFunc(names, func(n string) bool { return c.spans[n] == 0 })
}

// watched is a gateway that everything looks at which looks at gateways.
type watched struct {
	*testkit.Gateway
	sink   *testkit.Sink
	traces *traceSink
	log    string // file
}

func newWatched(t *testing.T) *watched {
	names, err := testkit.NewDNS(
		"mx1.example.com. A 127.0.0.1", "1.0.0.127.in-addr.arpa. PTR mx1.example.com.", "2.0.0.127.dnsbl.test. A 127.0.0.2",
	)
	testkit.Need(t, err)
	testkit.Up(t, names)
	sink := testkit.Up(t, testkit.NewSink())
	g := newGateway(t, binaries.race, sink.Addr)
	w := &watched{Gateway: g, sink: sink, traces: &traceSink{spans: make(map[string]int)}, log: filepath.Join(g.Dir, "mail.log")}
	otlp := httptest.NewServer(w.traces)
	t.Cleanup(otlp.Close)
	certificate, err := testkit.NewCertificate(g.Dir, "mx1.example.com")
	testkit.Need(t, err)
	for _, set := range [][3]string{
		{"dns", "servers", `["` + names.Addr + `"]`},
		{"listener.mx", "tls_cert", `"` + certificate.Cert + `"`},
		{"listener.mx", "tls_key", `"` + certificate.Key + `"`},
		{"filter.attachments", "timeout", `"30s"`},
		{`filter.dnsbl.list."dnsbl.test"`, "answers", `["127.0.0.2"]`},
		{`filter.dnsbl.list."dnsbl.test"`, "score", "1.0"},
		{"milter.main", "socket", `"unix:` + filepath.Join(g.Dir, "milter.sock") + `"`},
		{"telemetry", "otlp", `"` + otlp.URL + `"`},
		{"log.also.file", "to", `"file:` + w.log + `"`},
	} {
		g.Config.Set(set[0], set[1], set[2])
	}
	testkit.Up(t, g)
	return w
}

// traffic is a message that passes, and a relay that is refused.
func (w *watched) traffic(t *testing.T) {
	sendWant(t, w.Addr, letter(testkit.Message("1", "hello", "An ordinary note.")), testkit.Dot, 250)
	abroad := letter(testkit.Message("2", "relay", "To somebody else."))
	abroad.To = []string{"u@elsewhere.test"}
	sendWant(t, w.Addr, abroad, "RCPT", 550)
	waitMails(t, w.sink, 1)
}

// What watches a gateway sees what happens.
func TestMonitoring(t *testing.T) {
	w := newWatched(t)
	lines := tailed(t, w.Gateway)
	w.traffic(t)
	t.Run("tail", func(t *testing.T) { seenLive(t, lines) })
	t.Run("prometheus", func(t *testing.T) { dashboardHasData(t, w) })
	t.Run("traces", func(t *testing.T) {
		testkit.Eventually(t, time.Minute, "spans of the transaction", func() bool {
			return w.traces.has("transaction", "filter attachments", "filter dnsbl", "delivery")
		})
		w.traces.mu.Lock()
		defer w.traces.mu.Unlock()
		if w.traces.bad != "" {
			t.Error(w.traces.bad)
		}
	})
	t.Run("status", func(t *testing.T) { nagios(t, w.Gateway) })
	t.Run("milter", func(t *testing.T) {
		command(t, w.Gateway, 0, "milter", "test", "--to", "unix:"+filepath.Join(w.Dir, "milter.sock"), "--rcpt", "u@example.com")
		_, body, err := w.Get("/metrics")
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{
			`gatepost_milter_replies_total\{milter="main",reply="(continue|accept)",stage="message"\} 1`, `gatepost_messages_total\{action="(continue|accept)",listener="main",reason="policy"\} 1`,
			`gatepost_connections_total\{listener="main",result="accepted"\} \d`, `gatepost_quarantine_messages\{kind="virus"\} 0`,
		} {
			if !regexp.MustCompile(want).MatchString(body) {
				t.Errorf("no %s in %q", want, regexp.MustCompile(`gatepost_.*(main|quarantine).*`).FindAllString(body, -1))
			}
		}
	})
	t.Run("top", func(t *testing.T) {
		out := command(t, w.Gateway, 0, "top", "-n", "2", "-d", "100ms").Stdout
		for _, want := range []string{"MESSAGES", "attachments", "dnsbl", "retry"} {
			if strings.Count(out, want) < 2 {
				t.Errorf("%q is not in both pictures: %s", want, out)
			}
		}
		if strings.Contains(out, "\x1b") {
			t.Errorf("escapes in a pipe: %q", out)
		}
	})
	t.Run("doctor", func(t *testing.T) { examined(t, w) })
	t.Run("fail2ban", func(t *testing.T) { banned(t, w) })
}

// liveLine is a line of "tail --json".
type liveLine struct {
	Decision *struct {
		Action string `json:"action"`
	} `json:"decision"`
	Event *struct {
		What   string `json:"what"`
		Status string `json:"status"`
	} `json:"event"`
}

// tailed starts "tail", and returns when it misses nothing any more.
func tailed(t *testing.T, g *testkit.Gateway) <-chan liveLine {
	t.Helper()
	cmd := exec.Command(g.Binary, "tail", "--json", "-c", g.File)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	told, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan liveLine, 100)
	var reading sync.WaitGroup
	reading.Go(func() {
		for all := bufio.NewScanner(out); all.Scan(); {
			var l liveLine
			if err := json.Unmarshal(all.Bytes(), &l); err == nil {
				lines <- l
			}
		}
	})
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		reading.Wait()
		_ = cmd.Wait()
	})
	begun := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(told).ReadString('\n')
		begun <- line
	}()
	select {
	case line := <-begun:
		if !strings.HasPrefix(line, "waiting") {
			t.Fatalf("tail says %q", line)
		}
	case <-time.After(time.Minute):
		t.Fatal("tail does not begin")
	}
	return lines
}

func seenLive(t *testing.T, lines <-chan liveLine) {
	want := map[string]bool{"reject": true, "sent": true, "queued": true}
	for deadline := time.After(time.Minute); len(want) > 0; {
		select {
		case l := <-lines:
			if l.Decision != nil {
				delete(want, l.Decision.Action)
			}
			if l.Event != nil {
				delete(want, l.Event.What)
				delete(want, l.Event.Status)
			}
		case <-deadline:
			t.Fatalf("not seen: %v", want)
		}
	}
}

// without are panels that show something only when something is wrong, or after a
// notification.
func without() []string { return []string{"Errors of the store", "Notifications"} }

// dashboardHasData asks a real Prometheus what the dashboard asks.
func dashboardHasData(t *testing.T, w *watched) {
	p, err := testkit.NewPrometheus(w.Dir, w.Console)
	testkit.Need(t, err)
	testkit.Up(t, p)
	b, err := os.ReadFile("../packaging/grafana/gatepost.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			Type, Title string
			Targets     []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(b, &board); err != nil {
		t.Fatal(err)
	}
	asked := 0
	for _, panel := range board.Panels {
		for _, target := range panel.Targets {
			asked++
			expr := strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*").Replace(target.Expr)
			if slices.Contains(without(), panel.Title) {
				if _, err := p.Query(expr); err != nil {
					t.Error(err)
				}
				continue
			}
			testkit.Eventually(t, time.Minute, panel.Title, func() bool {
				n, err := p.Query(expr)
				return err == nil && n > 0
			})
		}
	}
	if asked < 15 {
		t.Errorf("only %d queries", asked)
	}
}

// nagios asks as a plugin does: the certificate of the test ends tomorrow.
func nagios(t *testing.T, g *testkit.Gateway) {
	out := command(t, g, 2, "status", "--check").Stdout
	text, figures, _ := strings.Cut(out, "|")
	if !strings.HasPrefix(text, "GATEPOST CRITICAL - the certificate of mx ends on ") || strings.Count(out, "\n") != 1 {
		t.Errorf("got %q", out)
	}
	for _, want := range []string{"queue=0;1000;5000;0", "filters_down=0;;;0;2", "spool_free="} {
		if !strings.Contains(figures, want) {
			t.Errorf("%q lacks %q", figures, want)
		}
	}
	command(t, g, 3, "status", "--check", "-w", "10", "--critical", "5")
}

// examined lets the doctor look.
func examined(t *testing.T, w *watched) {
	// The test itself may keep its mail where others can look.
	if err := os.Chmod(w.Spool, 0o700); err != nil {
		t.Fatal(err)
	}
	res, err := w.Run("doctor", "--json")
	if err != nil {
		t.Fatal(err)
	}
	type checkup struct{ Mark, What, Text, Do string }
	seen := make(map[string]string)
	for dec := json.NewDecoder(strings.NewReader(res.Stdout)); ; {
		var c checkup
		if err := dec.Decode(&c); err != nil {
			break
		}
		if c.Mark == "FAIL" {
			t.Errorf("failed: %+v", c)
		}
		if c.Mark != "OK" && c.Do == "" {
			t.Errorf("nothing to do: %+v", c)
		}
		seen[c.What] += c.Mark + " " + c.Text + "\n"
	}
	if res.Code != 0 {
		t.Errorf("exit code %d: %s", res.Code, res.Stderr)
	}
	for what, want := range map[string]string{
		"gateway": "takes mail", "spool": "OK", "disk": "free", "limits": "may open", "certificate": "it ends on", "dns": "OK", "name": "OK mx1.example.com is 127.0.0.1",
		"list": "OK dnsbl.test", "filter": "OK attachments", "store": "OK", "next hop": "OK", "relay": "mx tells a stranger: 550 5.7.1",
	} {
		if !strings.Contains(seen[what], want) {
			t.Errorf("%s: %q, want %q", what, seen[what], want)
		}
	}
}

// banned shows fail2ban the log of the gateway, and lines that strangers would
// like to be read otherwise.
func banned(t *testing.T, w *watched) {
	program := testkit.Program(t, "fail2ban-regex", "fail2ban")
	hostile := letter(testkit.Message("3", "x", "x"))
	hostile.Helo = "x],client=unknown[203.0.113.9],cause=too"
	hostile.To = []string{`"client=unknown[203.0.113.8], result=failed"@elsewhere.test`}
	_ = testkit.Send(w.Addr, hostile)
	testkit.Eventually(t, time.Minute, "the refusal in the log", func() bool {
		b, err := os.ReadFile(w.log)
		return err == nil && bytes.Contains(b, []byte("Relaying denied"))
	})
	cmd := exec.Command(program, "-o", "ip", w.log, "../packaging/fail2ban/gatepost.conf[mode=aggressive]")
	var told bytes.Buffer
	cmd.Stderr = &told
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, told.String())
	}
	found := strings.Fields(string(out))
	if !slices.Contains(found, "127.0.0.1") || slices.ContainsFunc(found, func(ip string) bool { return ip != "127.0.0.1" }) {
		t.Errorf("found %q, want 127.0.0.1 only", found)
	}
}
