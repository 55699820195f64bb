package clamav

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// attachment is a message with one, in base64.
func attachment(name string, content []byte) string {
	return string(testkit.WithAttachment("1", "test", name, content))
}

// What a real clamd says, over both sockets, with its own defaults and with the
// lines that the package comment recommends.
func TestRealClamd(t *testing.T) {
	if testing.Short() {
		t.Skip("starts clamd")
	}
	eicar := []byte(testkit.EICAR())
	locked, err := base64.StdEncoding.DecodeString(zipEncryptedFile)
	if err != nil {
		t.Fatal(err)
	}
	bounce := "--b\r\nContent-Type: text/plain\r\n\r\nsee\r\n\r\nFrom x@example.com Mon Jan  1 00:00:00 2024\r\n\r\nthere\r\n" +
		"--b\r\nContent-Type: application/zip\r\nContent-Transfer-Encoding: base64\r\n\r\n" + lines(testkit.Zip("a.com", eicar)) + "\r\n--b--\r\n"
	tests := []struct {
		name, text string
		want       string // with clamd's defaults
		told       string // with AlertEncrypted and AlertExceedsMax
	}{
		{name: "clean", text: string(testkit.Message("1", "hello", "hello")), want: "clean"},
		{name: "EICAR in the text", text: string(testkit.Message("1", "hello", testkit.EICAR())), want: "virus Eicar-Local.UNOFFICIAL"},
		{name: "EICAR in a part", text: attachment("eicar.com", eicar), want: "virus Eicar-Local.UNOFFICIAL"},
		{name: "EICAR in a zip in a part", text: attachment("eicar.zip", testkit.Zip("eicar.com", eicar)), want: "virus Eicar-Local.UNOFFICIAL"},
		{name: "no header that libclamav knows", text: "GIF89a: 1\r\n" + attachment("eicar.zip", testkit.Zip("eicar.com", eicar)), want: "virus Eicar-Local.UNOFFICIAL"},
		{name: "mbox line before the part", text: "Content-Type: multipart/mixed; boundary=b\r\nMIME-Version: 1.0\r\n\r\n" + bounce, want: "virus Eicar-Local.UNOFFICIAL"},
		{name: "encrypted zip", text: attachment("a.zip", locked), want: "not-scanned encrypted zip", told: "not-scanned Heuristics.Encrypted.Zip"},
		{name: "encrypted 7z", text: attachment("a.7z", unbase64(t, sevenZipEncrypted)), want: "not-scanned encrypted 7z", told: "not-scanned Heuristics.Encrypted.7Zip"},
		{name: "clean zip", text: attachment("a.zip", zipped(t, 1000)), want: "clean"},
		{name: "two megabytes", text: string(testkit.Message("1", "big", testkit.Filler(2<<20))), want: "clean", told: "not-scanned Heuristics.Limits.Exceeded"},
	}
	silent := testkit.Up(t, testkit.NewClamd(testkit.Dir(t)))
	telling := testkit.Up(t, testkit.NewClamd(testkit.Dir(t), "AlertEncrypted yes", "AlertExceedsMax yes", "MaxFileSize 1M", "MaxScanSize 1M"))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, address := range []string{"unix:" + silent.Socket, "tcp:" + silent.Addr} {
				if got := check(t, scanner(t, Config{Timeout: time.Minute}, address), tt.text); got != tt.want {
					t.Errorf("%s: %s, want %s", address, got, tt.want)
				}
			}
			told := tt.told
			if told == "" {
				told = tt.want
			}
			for _, address := range []string{"unix:" + telling.Socket, "tcp:" + telling.Addr} {
				if got := check(t, scanner(t, Config{Timeout: time.Minute}, address), tt.text); !strings.HasPrefix(got, told) {
					t.Errorf("%s with alerts: %s, want %s", address, got, told)
				}
			}
		})
	}
	f := scanner(t, Config{}, "unix:"+silent.Socket)
	if err := f.Ping(t.Context()); err != nil {
		t.Errorf("ping: %v", err)
	}
	if err := silent.Stop(); err != nil {
		t.Fatal(err)
	}
	if got := check(t, f, string(testkit.Message("1", "hello", "hello"))); got != "error" {
		t.Errorf("clamd away: %s", got)
	}
	if err := f.Ping(t.Context()); err == nil {
		t.Error("clamd away: ping is answered")
	}
}

// What clamd says when a stream is over its StreamMaxLength.
func TestRealClamdStreamLimit(t *testing.T) {
	if testing.Short() {
		t.Skip("starts clamd")
	}
	d := testkit.Up(t, testkit.NewClamd(testkit.Dir(t), "StreamMaxLength 1M"))
	f := scanner(t, Config{Timeout: time.Minute}, "tcp:"+d.Addr)
	if got := check(t, f, string(testkit.Message("1", "big", testkit.Filler(20<<20)))); got != "not-scanned too large" {
		t.Errorf("got %s", got)
	}
}
