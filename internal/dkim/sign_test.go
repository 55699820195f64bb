package dkim

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	msgauth "github.com/emersion/go-msgauth/dkim"

	"gatepost/internal/mail"
	"gatepost/internal/testkit"
)

// testFields is what the configuration has by default, in short.
var testFields = Fields{
	Over:    []string{"From", "To", "Cc", "Subject", "Date", "Message-ID", "Reply-To", "Content-Type"},
	Present: []string{"References", "List-Id"},
}

// testKeys are one of each kind for example.com, with the records for the DNS.
func testKeys(t *testing.T) (keys []*Key, records map[string]string) {
	t.Helper()
	records = make(map[string]string)
	for selector, kind := range map[string]KeyType{"rsa": RSA, "ed": Ed25519} {
		private, err := Generate(kind, 1024)
		if err != nil {
			t.Fatal(err)
		}
		k := &Key{Domain: "example.com", Selector: selector, Private: private}
		if records[k.Name()], err = k.Record(); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k)
	}
	return keys, records
}

// signed returns the message with a signature of each key.
func signed(t *testing.T, text string, keys ...*Key) string {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	hash, err := BodyHash(m.Body(), Relaxed)
	if err != nil {
		t.Fatal(err)
	}
	out := ""
	for _, k := range keys {
		f, err := Signing{Key: k, Names: testFields.Names(m.Header), BodyHash: hash, At: time.Unix(1700000000, 0)}.Sign(m.Header)
		if err != nil {
			t.Fatal(err)
		}
		out += string(f.Raw())
	}
	return out + text
}

// holds reports whether go-msgauth takes all signatures.
func holds(text string, records map[string]string) error {
	lookUp := func(name string) ([]string, error) { return []string{records[name]}, nil }
	all, err := msgauth.VerifyWithOptions(strings.NewReader(text), &msgauth.VerifyOptions{LookupTXT: lookUp})
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return fmt.Errorf("no signature")
	}
	for _, v := range all {
		if v.Err != nil {
			return v.Err
		}
	}
	return nil
}

var messages = []struct{ name, text string }{
	{"plain", "From: a@example.com\r\nTo: b@example.net\r\nSubject: x\r\nDate: Tue, 1 Jan 2030 00:00:00 +0000\r\n\r\nhello\r\n"},
	{"blank before the colon", "From : a@example.com\r\nSubject: x\r\n\r\nx\r\n"},
	{"folded, odd blanks", "From: =?utf-8?q?A?=\r\n\t<a@example.com> \r\nTo:b@example.net\r\nSUBJECT:\tx \t y\r\n \r\n z\r\n\r\n a \t b \r\n\r\n\r\n"},
	{"8 bit", "From: \xc3\xa9 <a@example.com>\r\nSubject: \xff\xfe\r\n\r\n\xff \r\n"},
	{"several of a kind", "From: a@example.com\r\nReferences: <1@x>\r\nReferences: <2@x>\r\nTo: b@x.test\r\nTo: c@x.test\r\n\r\nx"},
	{"no body", "From: a@example.com\r\nSubject: x\r\n\r\n"},
	{"long h=", "From: a@example.com\r\n" + strings.Repeat("To: b@example.net\r\n", 300) + "\r\nx\r\n"},
	{"long line", "From: a@example.com\r\nSubject: " + strings.Repeat("x ", 400) + "\r\n\r\n" + strings.Repeat("y ", 5000) + "\r\n"},
}

func TestSignatureHoldsForOthers(t *testing.T) {
	keys, records := testKeys(t)
	for _, m := range messages {
		t.Run(m.name, func(t *testing.T) {
			text := signed(t, m.text, keys...)
			if err := holds(text, records); err != nil {
				t.Errorf("go-msgauth: %v\n%s", err, text)
			}
			for line := range strings.SplitSeq(text[:strings.Index(text, "From")], "\r\n") {
				if len(line) > 100 {
					t.Errorf("a line of %d bytes: %.120s", len(line), line)
				}
			}
		})
	}
}

func TestSignatureHoldsForDKIMPy(t *testing.T) {
	py := testkit.NewDKIMPy(t)
	keys, records := testKeys(t)
	for _, m := range messages {
		ok, err := py.Verify([]byte(signed(t, m.text, keys...)), records)
		if m.name == "blank before the colon" { // it finds no From there
			t.Logf("%s: %v, %v", m.name, ok, err)
			continue
		}
		if err != nil || !ok {
			t.Errorf("%s: %v, %v", m.name, ok, err)
		}
	}
}

// Whatever the message is, another reading of the standard agrees.
func TestSignatureHoldsForRandomMessages(t *testing.T) {
	keys, records := testKeys(t)
	random := rand.New(rand.NewPCG(1, 2))
	pieces := []string{" ", "\t", "\r\n", "a", "b:", "\r\n ", "=", ";", "\xc3\xa9", ".", "\r\n\r\n", "x y"}
	some := func(n int, not string) string {
		var b strings.Builder
		for range random.IntN(n) {
			if p := pieces[random.IntN(len(pieces))]; p != not && !strings.HasPrefix(p, not) {
				b.WriteString(p)
			}
		}
		return b.String()
	}
	for i := range 200 {
		value := strings.ReplaceAll(some(30, "\r\n\r\n"), "\r\n", "\r\n ")
		text := "From: a@example.com\r\nSubject: x" + value + "y\r\n\r\n" + some(40, "none")
		if err := holds(signed(t, text, keys[i%2]), records); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
	}
}

// D2: nobody can add, change or remove what is signed.
func TestOverSigned(t *testing.T) {
	keys, records := testKeys(t)
	text := signed(t, messages[0].text, keys...)
	for _, tt := range []struct{ name, old, new string }{
		{"a second Subject", "From: a@", "Subject: buy\r\nFrom: a@"},
		{"a second From", "From: a@", "From: evil@example.org\r\nFrom: a@"},
		{"Reply-To where none was", "From: a@", "Reply-To: evil@example.org\r\nFrom: a@"},
		{"Content-Type where none was", "From: a@", "Content-Type: text/html\r\nFrom: a@"},
		{"another To", "b@example.net", "c@example.net"},
		{"no Date", "Date: Tue, 1 Jan 2030 00:00:00 +0000\r\n", ""},
		{"more body", "hello\r\n", "hello\r\nmore\r\n"},
	} {
		changed := strings.Replace(text, tt.old, tt.new, 1)
		if changed == text {
			t.Fatalf("%s: nothing changed", tt.name)
		}
		if holds(changed, records) == nil {
			t.Errorf("%s: the signature still holds", tt.name)
		}
	}
	moved := strings.Replace(text, "From: a@", "X-Spam: no\r\nReceived: from x\r\nFrom: a@", 1)
	if err := holds(moved, records); err != nil {
		t.Errorf("fields of the way break it: %v", err)
	}
}

func TestKeyFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, mode os.FileMode, text []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	encoded := func(kind KeyType) []byte {
		private, err := Generate(kind, 1024)
		if err != nil {
			t.Fatal(err)
		}
		text, err := EncodeKey(private)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	good := encoded(RSA)
	for _, tt := range []struct {
		name, path, want string
	}{
		{"RSA", write("rsa", 0o600, good), ""},
		{"Ed25519", write("ed", 0o600, encoded(Ed25519)), ""},
		{"for a group", write("group", 0o640, good), ""},
		{"for everybody", write("world", 0o644, good), "lets others"},
		{"a group may write", write("gw", 0o660, good), "lets others"},
		{"no key", write("none", 0o600, []byte("hello")), "PEM"},
		{"not there", filepath.Join(dir, "x"), "no such file"},
		{"a folder", dir, "not a file"},
		{"EC", write("ec", 0o600, []byte("-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgevZzL1gdAFr88hb2\nOF/2NxApJCzGCEDdfSp6VQO30hyhRANCAAQRWz+jn65BtOMvdyHKcvjBeBSDZH2r\n1RTwjmYSi9R/zpBnuQ4EiMnCqfMPWiZqB4QdbAd0E7oH50VpuZ1P087G\n-----END PRIVATE KEY-----\n")), "neither"},
		{"encrypted", write("enc", 0o600, []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")), "passphrase"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ReadKeyFile(tt.path)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error = %v, want %q", err, tt.want)
			}
		})
	}
	if _, err := Generate(RSA, 512); err == nil {
		t.Error("a key of 512 bits")
	}
}

func TestCompare(t *testing.T) {
	keys, records := testKeys(t)
	k, other := keys[0], keys[1]
	record := records[k.Name()]
	for _, tt := range []struct {
		name  string
		texts []string
		want  string
	}{
		{"fits", []string{record}, ""},
		{"none", nil, "no TXT record"},
		{"two", []string{record, record}, "2 TXT records"},
		{"another kind", []string{records[other.Name()]}, "kind"},
		{"revoked", []string{"v=DKIM1; p="}, "revoked"},
		{"rubbish", []string{"v=spf1 -all"}, "can't be read"},
		{"not for mail", []string{strings.Replace(record, "k=", "s=tlsrpt; k=", 1)}, "not for mail"},
		{"sha1 only", []string{strings.Replace(record, "k=", "h=sha1; k=", 1)}, "sha256"},
	} {
		wrong, _ := k.Compare(tt.texts)
		if tt.want == "" && wrong != "" || !strings.Contains(wrong, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, wrong, tt.want)
		}
	}
	if _, hint := k.Compare([]string{strings.Replace(record, "k=", "t=y; k=", 1)}); hint == "" {
		t.Error("nothing said of t=y")
	}
	line, err := k.ZoneLine()
	if err != nil {
		t.Fatal(err)
	}
	joined := ""
	for i, s := range strings.Split(line, `"`) {
		if i%2 == 1 {
			joined += s
			if len(s) > 255 {
				t.Errorf("a string of %d octets", len(s))
			}
		}
	}
	if joined != record {
		t.Errorf("zone line %q is not %q", joined, record)
	}
}

// Signing reads no more of a body than a buffer at a time.
func TestLargeBodyIsNotHeld(t *testing.T) {
	const size = 4 << 20
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := BodyHash(io.NewSectionReader(pattern{}, 0, size), Relaxed); err != nil {
		t.Error(err)
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > size/4 {
		t.Errorf("%d bytes were allocated for a body of %d", used, size)
	}
}

// pattern is a body without end, of one line.
type pattern struct{}

func (pattern) ReadAt(p []byte, _ int64) (int, error) {
	clear(p)
	return len(p), nil
}

func FuzzRecord(f *testing.F) {
	f.Add("v=DKIM1; k=rsa; p=MIIB")
	f.Add("v=DKIM1; p=")
	f.Add("v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRecord(text)
		if err == nil && r.Key != nil && r.Type != RSA && r.Type != Ed25519 {
			t.Errorf("a key of kind %q", r.Type)
		}
	})
}

// The signed form of any field that can be sent is one line.
func FuzzRelaxedField(f *testing.F) {
	f.Add([]byte("A: b\r\n"))
	f.Add([]byte("Subject :\t x \r\n\t y \r\n\r\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		h, _, _ := mail.SplitHeader(text)
		for _, field := range h {
			line, ok := bytes.CutSuffix(Relaxed.Field(field.Raw()), []byte("\r\n"))
			if !ok || bytes.Contains(line, []byte("\r\n")) {
				t.Errorf("%q becomes %q", field.Raw(), line)
			}
		}
	})
}
