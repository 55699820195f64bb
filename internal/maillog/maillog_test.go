package maillog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/slogtest"
	"time"
	"unicode/utf8"
)

// logger writes text to the buffer; lines lose their time and program.
func logger(t testing.TB, w io.Writer, level slog.Level) *slog.Logger {
	t.Helper()
	log, err := New(w, Text, level)
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// body cuts time and program off a line.
func body(t testing.TB, line string) string {
	t.Helper()
	stamp, rest, _ := strings.Cut(line, " ")
	if _, err := time.Parse("2006-01-02T15:04:05.000Z", stamp); err != nil {
		t.Fatalf("line %q: %v", line, err)
	}
	program, rest, ok := strings.Cut(rest, "]: ")
	if !ok || !strings.HasPrefix(program, "gatepost[") {
		t.Fatalf("line %q: no program and pid", line)
	}
	return rest
}

type panicking struct{}

func (panicking) Error() string { panic("no text") }

func TestText(t *testing.T) {
	tests := []struct {
		name string
		log  func(l *slog.Logger)
		want string
	}{
		{"as Postfix", func(l *slog.Logger) {
			l.Info("message", "id", "0PABC", "client", "h[192.0.2.1]", "from", "a@b.example", "to", "c@d.example", "size", 322)
		}, "0PABC: message: client=h[192.0.2.1], from=<a@b.example>, to=<c@d.example>, size=322"},
		{"no id", func(l *slog.Logger) { l.Info("reject", "client", "h[192.0.2.1]") }, "NOQUEUE: reject: client=h[192.0.2.1]"},
		{"empty id", func(l *slog.Logger) { l.Info("closed", "client", "h[192.0.2.1]", "id", "") }, "NOQUEUE: closed: client=h[192.0.2.1]"},
		{"neither", func(l *slog.Logger) { l.Info("started", "version", "1") }, "started: version=1"},
		{"only a message", func(l *slog.Logger) { l.Info("started") }, "started"},
		{"warning", func(l *slog.Logger) { l.Warn("slow", "id", "X") }, "warning: X: slow"},
		{"error", func(l *slog.Logger) { l.Error("broken", "err", errors.New("disk full")) }, `error: broken: err="disk full"`},
		{"debug", func(l *slog.Logger) { l.Debug("x") }, "debug: x"},
		{"above error", func(l *slog.Logger) { l.Log(context.Background(), slog.LevelError+4, "x") }, "error: x"},
		{"id given before", func(l *slog.Logger) { l.With("id", "X", "client", "c").Info("m", "n", 1) }, "X: m: client=c, n=1"},
		{"client given before", func(l *slog.Logger) { l.With("client", "c").Info("m") }, "NOQUEUE: m: client=c"},
		{"the later id stands", func(l *slog.Logger) { l.With("id", "X").Info("m", "id", "Y") }, "Y: m"},
		{"id in a group is none", func(l *slog.Logger) { l.WithGroup("g").Info("m", "id", "X") }, "m: g.id=X"},
		{"hostile id", func(l *slog.Logger) { l.Info("m", "id", "X: y\n") }, `"X: y\n": m`},
		{"groups", func(l *slog.Logger) {
			l.With("a", 1).WithGroup("g").With("b", 2).WithGroup("h").Info("m", "c", 3, slog.Group("i", "d", 4), slog.Group("", "e", 5))
		}, "m: a=1, g.b=2, g.h.c=3, g.h.i.d=4, g.h.e=5"},
		{"empty groups", func(l *slog.Logger) { l.WithGroup("g").Info("m", slog.Group("h")) }, "m"},
		{"null sender", func(l *slog.Logger) { l.Info("m", "from", "") }, "m: from=<>"},
		{"address in brackets already", func(l *slog.Logger) { l.Info("m", "from", "<a@b>") }, "m: from=<a@b>"},
		{"several addresses", func(l *slog.Logger) { l.Info("m", "to", []string{"a@b", "c@d"}) }, "m: to=<a@b>,<c@d>"},
		{"hostile address", func(l *slog.Logger) { l.Info("m", "from", "a@b>, status=sent") }, `m: from="<a@b>, status=sent>"`},
		{"address with a bracket", func(l *slog.Logger) { l.Info("m", "from", "a>b@c") }, `m: from="<a>b@c>"`},
		{"address with quotes", func(l *slog.Logger) { l.Info("m", "from", `"a..b"@c`) }, `m: from="<\"a..b\"@c>"`},
		{"VERP", func(l *slog.Logger) { l.Info("m", "from", "u+a=b.example@c") }, "m: from=<u+a=b.example@c>"},
		{"blank", func(l *slog.Logger) { l.Info("m", "reply", "250 2.0.0 Ok") }, `m: reply="250 2.0.0 Ok"`},
		{"comma", func(l *slog.Logger) { l.Info("m", "k", "a,b=c") }, `m: k="a,b=c"`},
		{"quote", func(l *slog.Logger) { l.Info("m", "k", `a"b`) }, `m: k="a\"b"`},
		{"backslash", func(l *slog.Logger) { l.Info("m", "k", `a\nb`) }, `m: k="a\\nb"`},
		{"empty", func(l *slog.Logger) { l.Info("m", "k", "") }, `m: k=""`},
		{"W1 line feed", func(l *slog.Logger) { l.Info("m", "helo", "x\ngatepost[1]: Y: message") }, `m: helo="x\ngatepost[1]: Y: message"`},
		{"W1 carriage return", func(l *slog.Logger) { l.Info("m", "k", "x\ry") }, `m: k="x\ry"`},
		{"W1 escape", func(l *slog.Logger) { l.Info("m", "k", "\x1b]0;t\a") }, `m: k="\x1b]0;t\a"`},
		{"W1 line separator", func(l *slog.Logger) { l.Info("m", "k", "x\u2028y\u0085") }, `m: k="x\u2028y\u0085"`},
		{"W1 broken UTF-8", func(l *slog.Logger) { l.Info("m", "k", "x\xffy") }, `m: k="x\xffy"`},
		{"W1 direction", func(l *slog.Logger) { l.Info("m", "k", "x\u202eexe.pdf") }, `m: k="x\u202eexe.pdf"`},
		{"letters of the world", func(l *slog.Logger) { l.Info("m", "k", "grüße", "from", "ü@bücher.example") }, "m: k=grüße, from=<ü@bücher.example>"},
		{"hostile key", func(l *slog.Logger) { l.Info("m", "a=b\n", 1) }, `m: "a=b\n"=1`},
		{"hostile message", func(l *slog.Logger) { l.Info("a\nb") }, `"a\nb"`},
		{"durations", func(l *slog.Logger) {
			l.Info("m", "a", 1234567*time.Microsecond, "b", time.Duration(0), "c", -time.Second/2, "d", 400*time.Microsecond, "e", 90*time.Minute)
		}, "m: a=1.235, b=0.000, c=-0.500, d=0.000, e=5400.000"},
		{"kinds", func(l *slog.Logger) {
			l.Info("m", "i", -1, "u", uint8(2), "f", 1.5, "t", true, "ip", netip.MustParseAddr("192.0.2.1"), "nil", nil,
				"at", time.Date(2026, 11, 21, 11, 0, 0, 0, time.FixedZone("", 3600)))
		}, "m: i=-1, u=2, f=1.5, t=true, ip=192.0.2.1, nil=<nil>, at=2026-11-21T10:00:00.000Z"},
		{"error that panics", func(l *slog.Logger) { l.Info("m", "err", panicking{}) }, `m: err="error text panicked: no text"`},
		{"nil pointer error", func(l *slog.Logger) { l.Info("m", "err", (*time.ParseError)(nil)) }, `m: err="error text panicked: runtime error: invalid memory address or nil pointer dereference"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			tt.log(logger(t, &b, slog.LevelDebug))
			line, ok := strings.CutSuffix(b.String(), "\n")
			if !ok || strings.Contains(line, "\n") {
				t.Fatalf("not one line: %q", b.String())
			}
			if got := body(t, line); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestLevels(t *testing.T) {
	var b bytes.Buffer
	level := new(slog.LevelVar)
	log, err := New(&b, Text, level)
	if err != nil {
		t.Fatal(err)
	}
	log.Debug("no")
	level.Set(slog.LevelDebug)
	log.Debug("yes")
	if got := b.String(); strings.Contains(got, "no") || !strings.Contains(got, "yes") {
		t.Errorf("got %q", got)
	}
}

func TestUnknownFormat(t *testing.T) {
	if _, err := New(io.Discard, "xml", slog.LevelInfo); err == nil || err.Error() != `maillog: format "xml" is none of "text", "json"` {
		t.Errorf("error = %v", err)
	}
}

// W1: a megabyte from a stranger costs a kilobyte of log.
func TestValuesAreBounded(t *testing.T) {
	huge := strings.Repeat("ü", 1<<19)
	many := make([]string, 100_000)
	for _, format := range []Format{Text, JSON} {
		var b bytes.Buffer
		log, err := New(&b, format, slog.LevelInfo)
		if err != nil {
			t.Fatal(err)
		}
		log.Info("m", "k", huge)
		if n := b.Len(); n > 2<<10 || !strings.Contains(b.String(), "more bytes)") || !utf8.Valid(b.Bytes()) {
			t.Errorf("%s: %d bytes", format, n)
		}
		b.Reset()
		log.Info("m", "err", errors.New(huge))
		if n := b.Len(); n > 2<<10 {
			t.Errorf("%s: error of %d bytes", format, n)
		}
	}
	var b bytes.Buffer
	log := logger(t, &b, slog.LevelInfo)
	log.Info("m", "to", many, "stack", strings.Repeat("x\n", 1<<20))
	if n := b.Len(); n > 40<<10 || !strings.Contains(b.String(), " more)") {
		t.Errorf("list and stack: %d bytes", n)
	}
	b.Reset()
	log.Info(huge)
	if n := b.Len(); n > 2<<10 {
		t.Errorf("message: %d bytes", n)
	}
}

// parse reads a line back, as far as the format allows.
func parse(t *testing.T, line string) map[string]any {
	m := map[string]any{slog.LevelKey: "INFO"}
	if stamp, rest, ok := strings.Cut(line, " gatepost["); ok {
		m[slog.TimeKey] = stamp
		line = rest
	}
	_, line, _ = strings.Cut(line, "]: ")
	msg, attrs, _ := strings.Cut(line, ": ")
	m[slog.MessageKey] = msg
	for attrs != "" {
		key, rest, ok := strings.Cut(attrs, "=")
		if !ok {
			t.Fatalf("line %q", line)
		}
		value := rest
		attrs = ""
		if strings.HasPrefix(rest, `"`) {
			quoted, err := strconv.QuotedPrefix(rest)
			if err != nil {
				t.Fatalf("line %q: %v", line, err)
			}
			attrs = strings.TrimPrefix(rest[len(quoted):], ", ")
			value, _ = strconv.Unquote(quoted)
		} else if v, more, ok := strings.Cut(rest, ", "); ok {
			value, attrs = v, more
		}
		at := m
		parts := strings.Split(key, ".")
		for _, g := range parts[:len(parts)-1] {
			if at[g] == nil {
				at[g] = map[string]any{}
			}
			at = at[g].(map[string]any)
		}
		at[parts[len(parts)-1]] = value
	}
	return m
}

func TestSlogContract(t *testing.T) {
	var b bytes.Buffer
	slogtest.Run(t, func(t *testing.T) slog.Handler {
		b.Reset()
		return logger(t, &b, slog.LevelInfo).Handler()
	}, func(t *testing.T) map[string]any { return parse(t, strings.TrimSuffix(b.String(), "\n")) })
}

func TestJSON(t *testing.T) {
	var b bytes.Buffer
	log, err := New(&b, JSON, slog.LevelInfo)
	if err != nil {
		t.Fatal(err)
	}
	log.With("id", "X").Warn("message", "took", 1234*time.Millisecond, "helo", "a\n\u2028\xff", "err", errors.New("e"), slog.Group("g", "time", time.Unix(0, 0).UTC()))
	if n := strings.Count(b.String(), "\n"); n != 1 {
		t.Errorf("%d lines", n)
	}
	var m map[string]any
	if err := json.Unmarshal(b.Bytes(), &m); err != nil {
		t.Fatal(err)
	}
	if _, err := time.Parse("2006-01-02T15:04:05.000Z", fmt.Sprint(m["ts"])); err != nil {
		t.Error(err)
	}
	delete(m, "ts")
	if got, want := fmt.Sprint(m), "map[err:e g:map[time:1970-01-01T00:00:00Z] helo:a\n\u2028\ufffd id:X level:WARN msg:message took:1.234]"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if strings.Contains(b.String(), "\u2028") {
		t.Error("a line separator stands in the line as it is")
	}
}

// onlyLines fails when a Write is not exactly one line.
type onlyLines struct {
	t  *testing.T
	mu sync.Mutex
	n  int
}

func (w *onlyLines) Write(p []byte) (int, error) {
	if !w.mu.TryLock() {
		w.t.Error("two writes at a time")
		return len(p), nil
	}
	defer w.mu.Unlock()
	w.n++
	if bytes.Count(p, []byte("\n")) != 1 || p[len(p)-1] != '\n' {
		w.t.Errorf("not one line: %q", p)
	}
	return len(p), nil
}

// All loggers made from one share its writer, one line at a time.
func TestConcurrent(t *testing.T) {
	w := &onlyLines{t: t}
	log := logger(t, w, slog.LevelInfo)
	base := log.With("a", 1, "b", 2)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			mine := base.With("i", i)
			for j := range 200 {
				mine.Info("m", "j", j, "from", "a@b.example")
			}
		})
	}
	wg.Wait()
	if w.n != 1600 {
		t.Errorf("%d lines, want 1600", w.n)
	}
}

// Loggers that begin the same do not write into each other's attributes.
func TestWithIsACopy(t *testing.T) {
	var b bytes.Buffer
	base := logger(t, &b, slog.LevelInfo).With("k", "v", "l", "w")
	one, two := base.With("one", 1), base.With("two", 2)
	one.Info("m")
	two.Info("m")
	lines := strings.Split(b.String(), "\n")
	if got := body(t, lines[0]); got != "m: k=v, l=w, one=1" {
		t.Errorf("got %s", got)
	}
	if got := body(t, lines[1]); got != "m: k=v, l=w, two=2" {
		t.Errorf("got %s", got)
	}
}

// FuzzText: whatever the values hold, an event is one printable line, and the
// values come back.
func FuzzText(f *testing.F) {
	for _, s := range []string{"", "x", "a b", "a\nb", "\x00\x1b[2J", "\u2028", "\xff", `"`, `\`, "a, b=c", "<a@b>", strings.Repeat("é", 600)} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, value, addr string) {
		var b bytes.Buffer
		logger(t, &b, slog.LevelInfo).Info("m", "k", value, "from", addr, "end", 1)
		line, ok := strings.CutSuffix(b.String(), "\n")
		if !ok {
			t.Fatal("no end of line")
		}
		for _, r := range line {
			if !strconv.IsPrint(r) {
				t.Fatalf("unprintable %q in %q", r, line)
			}
		}
		m := parse(t, line)
		if want := cut(value, maxValue); m["k"] != want {
			t.Errorf("value = %q, want %q", m["k"], want)
		}
		if m["end"] != "1" {
			t.Errorf("the last attribute was lost: %q", line)
		}
		if n := len(m); n != 6 {
			t.Errorf("%d entries in %q", n, line)
		}
	})
}

// A decision line as the proxy writes it.
func BenchmarkDecisionLine(b *testing.B) {
	for _, format := range []Format{Text, JSON} {
		b.Run(string(format), func(b *testing.B) {
			log, err := New(io.Discard, format, slog.LevelInfo)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				log.Info("message", "id", "0PZqHjMlDkSfGhJkLwQrTz", "client", "mail.example.org[198.51.100.7]", "helo", "mail.example.org",
					"from", "newsletter@example.org", "to", "user@example.com", "size", 48213, "action", "accept", "score", 2.3,
					"reason", "relay.domains has example.com", "took", 48*time.Millisecond)
			}
		})
	}
}
