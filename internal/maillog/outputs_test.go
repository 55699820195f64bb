package maillog

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// hostile is what a stranger would like to stand in a log.
var hostile = []string{
	"a\nGATEPOST forged line", "a\r\n<34>1 forged", "\x1b]0;title\x07", "line\u2028separator", "\xff\xfe", `back\slash "quoted"`,
	`] [evil@1 x="y"]`, "a|b|c", "k=v act=accept", "", " ", "\x00", "ü😀", strings.Repeat("x", 1<<20),
}

// parsers take a line of each format apart again.
var parsers = map[Format]func(t *testing.T, line, key string) string{
	Logfmt: func(t *testing.T, line, key string) string { return unquoted(t, line, key) },
	JSON: func(t *testing.T, line, key string) string {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		s, _ := m[key].(string)
		return s
	},
	Syslog: func(t *testing.T, line, key string) string {
		m := regexp.MustCompile(`^<\d+>1 \S+ \S+ gatepost \d+ \S+ \[gatepost@32473( \S+="(?:[^"\\\]]|\\.)*")+\] `).FindString(line)
		if m == "" {
			t.Fatalf("no line of RFC 5424: %.200q", line)
		}
		v := regexp.MustCompile(` ` + key + `="((?:[^"\\\]]|\\.)*)"`).FindStringSubmatch(m)
		return regexp.MustCompile(`\\(["\\\]])`).ReplaceAllString(v[1], "$1")
	},
	CEF: func(t *testing.T, line, key string) string {
		if n := len(regexp.MustCompile(`(^|[^\\])\|`).FindAllString(line[:strings.Index(line, "rt=")], -1)); n != 7 {
			t.Fatalf("%d bars in %.200q", n, line)
		}
		names := map[string]string{"from": "suser", "reason": "reason"}
		v := regexp.MustCompile(` ` + names[key] + `=((?:[^=\\]|\\.)*?)( [A-Za-z]+=|$)`).FindStringSubmatch(line)
		if v == nil {
			t.Fatalf("no %s in %.200q", key, line)
		}
		return regexp.MustCompile(`\\([=\\])`).ReplaceAllString(v[1], "$1")
	},
}

// unquoted finds a value of logfmt.
func unquoted(t *testing.T, line, key string) string {
	_, rest, ok := strings.Cut(line, " "+key+"=")
	if !ok {
		t.Fatalf("no %s in %.200q", key, line)
	}
	if !strings.HasPrefix(rest, `"`) {
		v, _, _ := strings.Cut(rest, " ")
		return v
	}
	q, err := strconv.QuotedPrefix(rest)
	if err != nil {
		t.Fatalf("%v: %.200q", err, rest)
	}
	v, err := strconv.Unquote(q)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// W1: one event is one line in every format, and its values are found again as
// far as they are printable.
func TestHostileValues(t *testing.T) {
	for format, parse := range parsers {
		for _, value := range hostile {
			t.Run(string(format), func(t *testing.T) {
				var out bytes.Buffer
				logs, err := Open(Config{To: "stderr", Format: format}, Deps{Stderr: &out, Level: slog.LevelInfo, Hostname: "mx1.example.com", Version: "1|2"})
				if err != nil {
					t.Fatal(err)
				}
				logs.Info("message", "id", "0ABC", "from", value, "reason", value, "action", "reject", value, value)
				line, ok := strings.CutSuffix(out.String(), "\n")
				if !ok || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0x2028 || r == utf8.RuneError }) && format != JSON {
					t.Fatalf("not one printable line: %.300q", line)
				}
				if format == JSON && strings.ContainsAny(line, "\n\r\x1b") {
					t.Fatalf("not one line: %.300q", line)
				}
				if len(line) > 10*maxValue {
					t.Errorf("%d bytes", len(line))
				}
				got := parse(t, line, "from")
				if printable := !needsQuotes(value, false) && len(value) < maxValue; printable && got != value {
					t.Errorf("got %q, want %q", got, value)
				}
				if strings.Contains(value, "\n") && strings.Contains(got, "\n") && (format == Syslog || format == CEF) {
					t.Errorf("%q has a line end", got)
				}
			})
		}
	}
}

// A log host gets every line, whatever it is reached by.
func TestSenders(t *testing.T) {
	dir := t.TempDir()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	gram, err := net.ListenPacket("unixgram", filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer gram.Close()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	logs, err := Open(Config{
		To: Target("syslog:udp:" + udp.LocalAddr().String()), Format: CEF,
		Also: map[string]Output{"unix": {To: Target("syslog:unix:" + filepath.Join(dir, "log"))}, "tcp": {To: Target("syslog:tcp:" + tcp.Addr().String()), Format: JSON}},
	}, Deps{Stderr: os.Stderr, Level: slog.LevelInfo, Hostname: "mx1", Version: "1"})
	if err != nil {
		t.Fatal(err)
	}
	defer logs.Close()
	logs.Info("message", "id", "0ABC", "action", "accept")
	for name, want := range map[net.PacketConn]string{udp: "CEF:0|Gatepost|", gram: "0ABC: message: action=accept"} {
		b := make([]byte, 4096)
		_ = name.SetReadDeadline(time.Now().Add(30 * time.Second))
		n, _, err := name.ReadFrom(b)
		if err != nil || !strings.HasPrefix(string(b[:n]), "<22>1 ") || !strings.Contains(string(b[:n]), want) {
			t.Errorf("%q, %v; want %q", b[:n], err, want)
		}
	}
	c, err := tcp.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
	b := make([]byte, 4096)
	n, err := c.Read(b)
	length, rest, _ := strings.Cut(string(b[:n]), " ")
	if err != nil || length != strconv.Itoa(len(rest)) || !strings.Contains(rest, `"action":"accept"`) {
		t.Errorf("%q, %v", b[:n], err)
	}
}

// A log host that is slow or away costs lines, which are counted, and no time.
func TestSlowHost(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and reads nothing
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	lost := make(chan string, 1)
	logs, err := Open(Config{To: Target("syslog:tcp:" + l.Addr().String())}, Deps{Stderr: os.Stderr, Level: slog.LevelInfo, Lost: func(name string) {
		select {
		case lost <- name:
		default:
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { go logs.Close() }() // it would wait for its time
	text := strings.Repeat("x", 1000)
	for range 50 * waitingLines {
		logs.Info("message", "text", text)
		select {
		case name := <-lost:
			if name != "log" {
				t.Error(name)
			}
			return
		default:
		}
	}
	t.Error("nothing was lost: where did it go?")
}

func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gatepost.log")
	logs, err := Open(Config{To: Target("file:" + path)}, Deps{Level: slog.LevelInfo})
	if err != nil {
		t.Fatal(err)
	}
	defer logs.Close()
	logs.Info("first")
	if err := errors.Join(os.Rename(path, path+".1"), logs.Reopen()); err != nil {
		t.Fatal(err)
	}
	logs.Info("second")
	for name, want := range map[string]string{path + ".1": "first\n", path: "second\n"} {
		b, err := os.ReadFile(name)
		if err != nil || !strings.HasSuffix(string(b), want) || strings.Count(string(b), "\n") != 1 {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
}

func TestTargets(t *testing.T) {
	for target, ok := range map[Target]bool{
		"stderr": true, "journald": true, "file:/x": true, "syslog:unix:/dev/log": true, "syslog:udp:h:514": true, "syslog:tcp:[::1]:601": true,
		"": false, "stdout": false, "file:x": false, "file:": false, "syslog": false, "syslog:udp:h": false, "syslog:unix:x": false, "syslog:tls:h:1": false, "stderr:x": false,
	} {
		if err := target.Validate(); (err == nil) != ok {
			t.Errorf("%q: %v", target, err)
		}
	}
}
