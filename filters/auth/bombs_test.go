package auth

import (
	"encoding/base64"
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"gatepost/internal/dkim"
	"gatepost/internal/mail"
)

// Each bomb costs less than a second of CPU and 64 MB; the bounds here are those
// of a machine ten times slower, with the race detector.
func TestWhatBombsCost(t *testing.T) {
	l := newLab(t, nil)
	huge := make([]byte, 32<<10)
	l.dns.Add(`huge._domainkey.evil.test. 300 IN TXT "v=DKIM1; p=` + base64.StdEncoding.EncodeToString(huge) + `"`)
	signature := func(selector, names string) string {
		return "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed; d=evil.test; s=" + selector + "; h=" + names + "; bh=AAAA; b=AAAA\n"
	}
	chain := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "ARC-Seal: i=%d; a=ed25519-sha256; d=evil.test; s=s; cv=pass; b=AAAA\nARC-Message-Signature: i=%d; a=ed25519-sha256; c=relaxed/relaxed; d=evil.test; s=s; h=from%s; bh=AAAA; b=AAAA\nARC-Authentication-Results: i=%d; x\n", i+1, i+1, strings.Repeat(":x", 190), i+1)
		}
		return b.String()
	}
	tail := "Subject: x\n\n" + strings.Repeat(strings.Repeat("x", 70)+"\n", 1000)
	author := "From: x@evil.test\n"
	for _, tt := range []struct{ name, text string }{
		{"D3 names and fields, well signed", many(t, strings.Repeat("X: y\n", 850)+author+tail)},
		{"D3 names without end", signature("s", "from"+strings.Repeat(":x", 30000)) + author + tail},
		{"D3 a huge key", strings.Repeat(signature("huge", "from"), 20) + author + tail},
		{"D3 signatures", strings.Repeat(signature("s", "from"), 900) + author + tail},
		{"D3 lines of blanks", signature("s", "from") + author + "\n" + strings.Repeat(" \t \n", 200_000)},
		{"D3 one line of blanks", signature("s", "from") + author + "\n" + strings.Repeat(" ", 2<<20) + "x\n"},
		{"D10 a chain of 50", chain(50) + author + tail},
		{"H4 From without end", "From: " + strings.Repeat("(", 30000) + "x@evil.test\n" + tail},
		{"H4 addresses in From", "From: " + strings.Repeat("a@b.test, ", 6000) + "x@evil.test\n" + tail},
		{"H4 From fields", strings.Repeat("From: x@evil.test\n", 990) + tail},
		{"H5 encoded words in From", "From: " + strings.Repeat("=?utf-8?q?=40?= ", 900) + "<x@evil.test>\n" + tail},
		{"H5 broken encoded words", "From: " + strings.Repeat("=?utf-8?b?", 6000) + "<x@evil.test>\n" + tail},
		{"results without end", "ARC-Authentication-Results: i=1; " + strings.Repeat("(((", 20000) + "\n" + chain(1) + author + tail},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := message(t, tt.text)
			tx := &mail.Transaction{Stage: mail.StageMessage, Session: new(mail.Session), Message: m}
			*tx.Session = from("192.0.2.1")
			runtime.GC()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := cpu(t)
			r, err := l.Check(t.Context(), tx)
			if err != nil {
				t.Fatal(err)
			}
			took := cpu(t) - start
			runtime.ReadMemStats(&after)
			allocated := after.TotalAlloc - before.TotalAlloc
			t.Logf("%v of CPU, %d kB: %.200s", took.Round(time.Millisecond), allocated>>10, words(r.Findings))
			if took > 10*time.Second || allocated > 64<<20 {
				t.Errorf("%v of CPU, %d kB", took, allocated>>10)
			}
		})
	}
}

// many has ten good signatures with 200 names each.
func many(t *testing.T, text string) string {
	t.Helper()
	m := message(t, text)
	sum, err := dkim.BodyHash(m.Body(), dkim.Relaxed)
	if err != nil {
		t.Fatal(err)
	}
	names := append([]string{"from"}, strings.Fields(strings.Repeat("x ", 199))...)
	f, err := dkim.Signing{Key: &dkim.Key{Domain: "evil.test", Selector: "s", Private: key()}, Names: names, BodyHash: sum, At: time.Now()}.Sign(m.Header)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Repeat(strings.ReplaceAll(string(f.Raw()), "\r\n", "\n"), 10) + text
}

// cpu is what this process has used.
func cpu(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
