package clamav

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestParseVersion(t *testing.T) {
	for reply, want := range map[string]Version{
		"ClamAV 1.4.3/27431/Wed Nov 19 08:41:15 2025\x00": {"ClamAV 1.4.3/27431", time.Date(2025, 11, 19, 8, 41, 15, 0, time.Local)},
		"ClamAV 1.4.3/27431/Sat Nov  1 08:41:15 2025\x00": {"ClamAV 1.4.3/27431", time.Date(2025, 11, 1, 8, 41, 15, 0, time.Local)},
		"ClamAV 1.4.6\x00": {Text: "ClamAV 1.4.6"},
		"ClamAV 1.5.0-rc+git/1/Wed Nov 19 08:41:15 2025\x00":      {"ClamAV 1.5.0-rc+git/1", time.Date(2025, 11, 19, 8, 41, 15, 0, time.Local)},
		"ClamAV 1.4.3/27431/Wed Nov 19 08:41:15 2025":             {},
		"ClamAV 1.4.3/27431/Wed Nov 99 08:41:15 2025\x00":         {},
		"UNKNOWN COMMAND\x00":                                     {},
		"ClamAV \x1b[2J/1/Wed Nov 19 08:41:15 2025\x00":           {},
		"ClamAV 1.4.3/27431/Wed Nov 19 08:41:15 2025\x00more\x00": {},
		"ClamAV " + strings.Repeat("1", 100) + "\x00":             {},
		"": {},
	} {
		got, err := parseVersion(reply)
		if (err != nil) != (want.Text == "") || err == nil && (got.Text != want.Text || !got.Made.Equal(want.Made)) {
			t.Errorf("%q: %v, %v; want %v", reply, got, err, want)
		}
	}
}

// heard remembers what was counted.
type heard struct {
	mu   sync.Mutex
	said []string
}

func (h *heard) Signatures(filter, version string, made time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.said = append(h.said, filter+" "+version+" "+made.UTC().Format(time.DateOnly))
}

func (h *heard) all() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.said, ", ")
}

// That freshclam is late is logged, counted, and found with each message.
func TestOldSignatures(t *testing.T) {
	for name, tt := range map[string]struct {
		age  time.Duration
		late bool
	}{"late": {9 * 24 * time.Hour, true}, "in time": {time.Hour, false}} {
		t.Run(name, func(t *testing.T) {
			made := time.Now().Add(-tt.age).Truncate(time.Second)
			fake := (&fakeClamd{reply: "stream: OK\x00", version: "ClamAV 1.4.3/27431/" + made.Format(time.ANSIC) + "\x00"}).start(t, "tcp")
			var log bytes.Buffer
			stats := &heard{}
			f := scanner(t, Config{Stats: stats, Log: slog.New(slog.NewTextHandler(&log, nil)), Name: "av"}, fake.address)
			if got := check(t, f, plain); got != "clean" {
				t.Errorf("before it was asked: %s", got)
			}
			ctx, cancel := context.WithCancel(t.Context())
			var over sync.WaitGroup
			over.Go(func() { _ = f.Run(ctx) })
			for deadline := time.Now().Add(60 * time.Second); stats.all() == "" && time.Now().Before(deadline); {
				time.Sleep(time.Millisecond)
			}
			cancel()
			over.Wait()
			if want := "av ClamAV 1.4.3/27431 " + made.UTC().Format(time.DateOnly); stats.all() != want {
				t.Errorf("counted %q, want %q", stats.all(), want)
			}
			want := "clean"
			if tt.late {
				want = "outdated " + made.UTC().Format(time.DateOnly) + ", clean"
			}
			if got := check(t, f, plain); got != want {
				t.Errorf("%s, want %s", got, want)
			}
			if logged := strings.Contains(log.String(), "signatures are old"); logged != tt.late {
				t.Errorf("log: %s", log.String())
			}
			if v, late, ok := f.Signatures(); !ok || late != tt.late || v.Text != "ClamAV 1.4.3/27431" {
				t.Errorf("signatures %v, %t, %t", v, late, ok)
			}
		})
	}
}
