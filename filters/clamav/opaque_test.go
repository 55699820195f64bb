package clamav

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
)

// Made by Info-ZIP 3.0 and 7-Zip 26.02 of a line of text; the password is
// "secret".
const (
	zipEncryptedFile   = "UEsDBAoACQAAAORidV14jaimJAAAABgAAAAFABwAbi50eHRVVAkAAyyNAWssjQFrdXgLAAEEAAAAAAQAAAAAtcM6r/eUzXpwtkuB3caVBylpSw8vkBkkJ0cxETjlXSN7Eb7wUEsHCHiNqKYkAAAAGAAAAFBLAQIeAwoACQAAAORidV14jaimJAAAABgAAAAFABgAAAAAAAEAAACkgQAAAABuLnR4dFVUBQADLI0Ba3V4CwABBAAAAAAEAAAAAFBLBQYAAAAAAQABAEsAAABzAAAAAAA="
	sevenZipFile       = "N3q8ryccAAROjgfMHAAAAAAAAABSAAAAAAAAAGDxp+IBABdub3RoaW5nIHNwZWNpYWwgaW4gaGVyZQoAAQQGAAEJHAAHCwEAASEhAQAMGAAICgF4jaimAAAFARkMAAAAAAAAAAAAAAAAEQ0AbgAuAHQAeAB0AAAAFAoBAL+S6xCzed0BFQYBACCApIEAAA=="
	sevenZipEncrypted  = "N3q8ryccAAQJud3XIAAAAAAAAABiAAAAAAAAAIjGfKJLSclnSiCmOsrt8eHmfMgdfF7W8ujJxk8AZ68hZujsfQEEBgABCSAABwsBAAIkBvEHARJTD+8cHPhVHG7LpzEXAVBBBvghIQEAAQAMHBgACAoBeI2opgAABQEZAQARDQBuAC4AdAB4AHQAAAAUCgEAv5LrELN53QEVBgEAIICkgQAA"
	sevenZipHeadHidden = "N3q8ryccAAQaOZbWkAAAAAAAAAAuAAAAAAAAAPZj65QChvckql6+aTvuMUdI29RbLm53VFMJVVwYuuHV84gtSQKiSWS4rPWYeOF06ikCofXNgVgvD0i1I2hp6PBBVml/p53/UZK6ao4mFs7A55cmwI+e5c5EqfmFeXN/u2n9BQ8fNS3o81wkbatKVE53iuCvv0Poicf0F+q4Y8a3DRMMHoWBHXovhC5rrjAFLk3IW+wXBiABCXAABwsBAAEkBvEHARJTD7J708MHb8OwB29DAUeLfTMMYgoBbOqAygAA"
)

func unbase64(t *testing.T, s string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// lines is base64 as mail has it.
func lines(b []byte) string {
	var out strings.Builder
	for s := base64.StdEncoding.EncodeToString(b); s != ""; {
		n := min(76, len(s))
		out.WriteString(s[:n] + "\r\n")
		s = s[n:]
	}
	return out.String()
}

// part is a body with one attachment.
func part(encoding, content string) string {
	return "--b\r\nContent-Type: text/plain\r\n\r\nsee there\r\n--b\r\nContent-Type: application/octet-stream\r\n" +
		"Content-Transfer-Encoding: " + encoding + "\r\n\r\n" + content + "\r\n--b--\r\n"
}

func zipped(t *testing.T, n int) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, err := z.Create("a.txt")
	if err != nil {
		t.Fatal(err)
	}
	noise := rand.NewChaCha8([32]byte{1})
	if _, err := io.CopyN(w, noise, int64(n)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// with sets bytes at an offset behind the last occurrence of mark.
func with(b []byte, mark string, off int, set ...byte) []byte {
	b = bytes.Clone(b)
	copy(b[bytes.LastIndex(b, []byte(mark))+off:], set)
	return b
}

// rar4 is a RAR archive up to its first file.
func rar4(mainFlags, fileFlags uint16) []byte {
	block := func(kind byte, flags uint16, size int) []byte {
		b := make([]byte, size)
		b[2] = kind
		binary.LittleEndian.PutUint16(b[3:], flags)
		binary.LittleEndian.PutUint16(b[5:], uint16(size))
		return b
	}
	b := append([]byte("Rar!\x1a\x07\x00"), block(0x73, mainFlags, 13)...)
	b = append(b, block(0x75, 0, 20)...) // a comment
	return append(b, block(0x74, fileFlags, 40)...)
}

// rar5 is a RAR 5 archive of these headers.
func rar5(headers ...[]byte) []byte {
	b := []byte("Rar!\x1a\x07\x01\x00")
	for _, h := range headers {
		sized := append(binary.AppendUvarint(nil, uint64(len(h))), h...)
		b = binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(sized))
		b = append(b, sized...)
	}
	return append(b, make([]byte, 64)...)
}

func TestOpaque(t *testing.T) {
	locked := unbase64(t, zipEncryptedFile)
	plain := zipped(t, 1000)
	big := zipped(t, 300_000)
	rar5Main := []byte{1, 0, 0}
	rar5File := []byte{2, 3, 4, 0, 0, 24, 0, 0, 1, 'a', 3, 1, 0, 0} // extra area of 4: size 3, type 1
	rar5Open := []byte{2, 3, 4, 0, 0, 24, 0, 0, 1, 'a', 3, 3, 0, 0} // type 3: a time
	tests := []struct {
		name, body, want string
	}{
		{name: "empty", body: ""},
		{name: "text", body: "hello\r\n"},
		{name: "plain zip", body: part("base64", lines(plain))},
		{name: "large plain zip", body: part("base64", lines(big))},
		{name: "encrypted zip", body: part("base64", lines(locked)), want: "encrypted zip"},
		{name: "encrypted zip, no MIME at all", body: lines(locked), want: "encrypted zip"},
		{name: "encrypted zip, 8bit", body: part("8bit", string(locked)), want: "encrypted zip"},
		{name: "encrypted zip behind much", body: part("base64", lines(big)) + part("base64", lines(append(big, locked...))), want: "encrypted zip"},
		{name: "encrypted zip stored in a zip", body: part("base64", lines(append(append([]byte("PK\x03\x04\x14\x00\x00\x00\x00\x00"), make([]byte, 33)...), locked...))), want: "encrypted zip"},
		{name: "line ends that are none", body: part("base64", strings.ReplaceAll(lines(locked), "\r\n", "\n")), want: "encrypted zip"},
		{name: "one long line", body: part("base64", strings.ReplaceAll(lines(append(big, locked...)), "\r\n", "")), want: "encrypted zip"},
		{name: "blanks and noise in the base64", body: part("base64", strings.ReplaceAll(lines(locked), "A", "A !\t")), want: "encrypted zip"},
		{name: "short lines", body: part("base64", strings.Join(strings.SplitAfter(strings.ReplaceAll(lines(locked), "\r\n", ""), "E"), "\r\n")), want: "encrypted zip"},
		{name: "text before the part that is not of whole groups", body: "--b\r\n\r\nhello\r\n" + part("base64", lines(locked)), want: "encrypted zip"},
		{name: "flag in the directory alone", body: part("base64", lines(with(plain, "PK\x01\x02", 8, 1))), want: "encrypted zip"},
		{name: "flag in the local header alone", body: part("base64", lines(with(plain, "PK\x03\x04", 6, 1))), want: "encrypted zip"},
		{name: "AES", body: part("base64", lines(with(plain, "PK\x03\x04", 8, 99))), want: "encrypted zip"},
		{name: "masked headers", body: part("base64", lines(with(plain, "PK\x03\x04", 7, 0x20))), want: "encrypted zip"},
		{name: "mark without a header", body: part("base64", lines([]byte("PK\x03\x04")))},
		{name: "mark with nonsense behind", body: part("8bit", "PK\x03\x04\xff\xff\xff\xff\xff\xff\xff\xff")},

		{name: "7z", body: part("base64", lines(unbase64(t, sevenZipFile)))},
		{name: "7z, encrypted file", body: part("base64", lines(unbase64(t, sevenZipEncrypted))), want: "encrypted 7z"},
		{name: "7z, encrypted header", body: part("base64", lines(unbase64(t, sevenZipHeadHidden))), want: "encrypted 7z"},
		{name: "the coder without a 7z", body: part("8bit", sevenZipAES)},

		{name: "rar4", body: part("base64", lines(rar4(0, 0x8000)))},
		{name: "rar4, encrypted file", body: part("base64", lines(rar4(0, 0x8004))), want: "encrypted rar"},
		{name: "rar4, encrypted header", body: part("base64", lines(rar4(0x80, 0))), want: "encrypted rar"},
		{name: "rar4, cut", body: part("base64", lines(rar4(0, 4)[:22]))},
		{name: "rar5", body: part("base64", lines(rar5(rar5Main, rar5Open)))},
		{name: "rar5, encrypted file", body: part("base64", lines(rar5(rar5Main, rar5File))), want: "encrypted rar"},
		{name: "rar5, encrypted header", body: part("base64", lines(rar5([]byte{4, 0, 0}))), want: "encrypted rar"},
		{name: "rar5, cut", body: part("base64", lines(rar5(rar5Main)[:12]))},

		{name: "Office with a password", body: part("base64", lines([]byte("\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1...E\x00n\x00c\x00r\x00y\x00p\x00t\x00e\x00d\x00P\x00a\x00c\x00k\x00a\x00g\x00e\x00"))), want: "encrypted document"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			readers := map[string]io.Reader{"whole": strings.NewReader(tt.body), "with EOF": iotest.DataErrReader(strings.NewReader(tt.body))}
			if len(tt.body) < 10_000 {
				readers["byte by byte"] = iotest.OneByteReader(strings.NewReader(tt.body))
			}
			for name, r := range readers {
				if got, err := opaque(r); got != tt.want || err != nil {
					t.Errorf("%s: %q, %v, want %q", name, got, err, tt.want)
				}
			}
		})
	}
}

func TestOpaqueReadError(t *testing.T) {
	if got, err := opaque(iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader("hello")))); err == nil {
		t.Errorf("got %q without an error", got)
	}
}

// clamd's OK is doubted, its FOUND is not.
func TestOpaqueMessage(t *testing.T) {
	text := "From: a\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" + part("base64", lines(unbase64(t, zipEncryptedFile)))
	ok := (&fakeClamd{reply: "stream: OK\x00"}).start(t, "tcp")
	if got := check(t, scanner(t, Config{}, ok.address), text); got != "not-scanned encrypted zip" {
		t.Errorf("OK: %s", got)
	}
	found := (&fakeClamd{reply: "stream: Eicar FOUND\x00"}).start(t, "tcp")
	if got := check(t, scanner(t, Config{}, found.address), text); got != "virus Eicar" {
		t.Errorf("FOUND: %s", got)
	}
}

func FuzzOpaque(f *testing.F) {
	for _, s := range []string{zipEncryptedFile, sevenZipEncrypted, sevenZipFile, "", "--b\r\n", "A=\r\n=="} {
		f.Add([]byte(s))
	}
	f.Add(rar4(0, 4))
	f.Add(rar5([]byte{1, 0, 0}, []byte{2, 3, 4, 0, 0, 24, 0, 0, 1, 'a', 3, 1, 0, 0}))
	f.Fuzz(func(t *testing.T, body []byte) {
		want, err := opaque(bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := opaque(iotest.HalfReader(bytes.NewReader(body))); got != want || err != nil {
			t.Errorf("in other pieces: %q, %v, want %q", got, err, want)
		}
	})
}

func BenchmarkOpaque(b *testing.B) {
	noise := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(noise)
	body := part("base64", lines(noise))
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if what, err := opaque(strings.NewReader(body)); what != "" || err != nil {
			b.Fatal(what, err)
		}
	}
}
