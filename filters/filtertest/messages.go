package filtertest

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"gatepost/internal/mail"
)

// Plain is an ordinary message.
const Plain = "From: Sender <sender@sender.example>\r\nTo: u@example.com\r\nSubject: hello\r\nMessage-ID: <1@sender.example>\r\n" +
	"Date: Sat, 21 Nov 2026 10:00:00 +0000\r\n\r\nhello\r\n"

// Messages are those that a filter must be able to look at: small, large and
// hostile ones, by what they are.
func Messages() map[string]string {
	deep := strings.Builder{}
	deep.WriteString("From: a@b.example\r\nMIME-Version: 1.0\r\n")
	for i := range 200 {
		fmt.Fprintf(&deep, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
	}
	return map[string]string{
		"plain":                     Plain,
		"empty":                     "",
		"no header":                 "\r\nonly text\r\n",
		"no body":                   "From: a@b.example\r\n\r\n",
		"no end of the header":      "From: a@b.example\r\nthis is no field\r\n\r\ntext\r\n",
		"no line end at the end":    "From: a@b.example\r\n\r\ntext",
		"three million bytes":       Plain + strings.Repeat("The quick brown fox jumps over the lazy dog.\r\n", 65_000),
		"one line of a million":     Plain + strings.Repeat("x", 1_000_000) + "\r\n",
		"every octet":               Plain + octets() + "\r\n",
		"octets in the header":      "From: \xff\xfe <a@b.example>\r\nSubject: \x1b[2J\x07\x00\xc0\xaf\r\nX\x01Y: z\r\n\r\ntext\r\n",
		"bare CR and LF":            "From: a@b.example\r\n\r\none\rtwo\nthree\r\n.\rfour\n.\nfive\r\n",
		"a thousand fields":         strings.Repeat("X-Field: value\r\n", mail.MaxHeaderCount-1) + "\r\ntext\r\n",
		"a field of 60 kB":          "From: a@b.example\r\nX-Long:" + strings.Repeat(" word", 12_000) + "\r\n\r\ntext\r\n",
		"many From fields":          strings.Repeat("From: a@b.example\r\n", 50) + "\r\ntext\r\n",
		"multiparts 200 deep":       deep.String(),
		"multipart without an end":  "From: a@b.example\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\ntext",
		"multipart without a start": "From: a@b.example\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed\r\n\r\n--b\r\n\r\n--b--\r\n",
		"broken base64":             "From: a@b.example\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: base64\r\n\r\n!!=====\r\nAAA\r\n=\r\n",
		"words of protocols": "From: a@b.example\r\n\r\nSPAMD/1.1 0 EX_OK\r\n\r\nstream: OK\x00\r\nICAP/1.0 204 No Content\r\n\r\n" +
			"0\r\n\r\nnEND\nzPING\x00\r\n.\r\nQUIT\r\n",
	}
}

func octets() string {
	b := make([]byte, 0, 1024)
	for i := range 1024 {
		b = append(b, byte(i))
	}
	return string(b)
}

// Transaction is a message from a stranger, at the end of DATA.
func Transaction(t *testing.T, text string) *mail.Transaction {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	address := func(s string) mail.Path {
		a, err := mail.ParseAddress(s, false)
		if err != nil {
			t.Fatal(err)
		}
		return mail.Path{Address: a}
	}
	return &mail.Transaction{
		ID: "4bWxLpKNrz0001", Stage: mail.StageMessage, Message: m, Start: time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC),
		Session: &mail.Session{
			ID: "s1", Listener: "mx", Via: mail.ViaSMTP, Client: netip.MustParseAddrPort("192.0.2.7:2525"), Name: "mail.sender.example",
			PTR: "mail.sender.example", Helo: "mail.sender.example", ESMTP: true, Resolve: mail.ResolveOK, Role: "mx",
		},
		Envelope: mail.Envelope{Sender: address("sender@sender.example"), Recipients: []mail.Path{address("u@example.com")}},
	}
}

// snapshot is all of a transaction that a filter may read.
func snapshot(t *testing.T, tx *mail.Transaction) string {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "%s %v %+v %+v %+v %v %+v\n", tx.ID, tx.Stage, *tx.Session, tx.Envelope, tx.Findings, tx.Start, tx.Asked)
	if tx.Message != nil {
		if _, err := io.Copy(&b, tx.Message.Reader()); err != nil {
			t.Error(err)
		}
	}
	return b.String()
}
