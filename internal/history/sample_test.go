package history

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatepost/internal/mail"
)

var epoch = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

func parsed(t testing.TB, s string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(s, true)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// sample is a message as it comes, the n-th; it differs in all that is
// searched for.
func sample(t testing.TB, n int) (*mail.Transaction, mail.Verdict, mail.Answer) {
	t.Helper()
	sender := parsed(t, fmt.Sprintf("sender%d@host%d.example.org", n%1000, n%100))
	header := fmt.Sprintf("Received: from mail%d.example.org (mail%d.example.org [192.0.2.%d])\r\n\tby mx1.example.com (Gatepost) with ESMTPS id %d\r\n"+
		"DKIM-Signature: v=1; a=rsa-sha256; d=example.org; s=sel; h=from:to:subject; bh=%x; b=%x\r\n"+
		"From: =?utf-8?q?Andr=C3=A9?= <author%d@example.net>\r\nTo: rcpt%d@example.com\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= invoice number %d\r\nMessage-ID: <mid.%d@example.org>\r\nMIME-Version: 1.0\r\n\r\n",
		n, n, n%250, n, sha256.Sum256([]byte{byte(n)}), bytes.Repeat([]byte{byte(n), byte(n >> 8)}, 64), n, n%50, n, n)
	h, _, err := mail.SplitHeader([]byte(header))
	if err != nil {
		t.Fatal(err)
	}
	at := epoch.Add(time.Duration(n) * 7 * time.Second)
	sum := sha256.Sum256(fmt.Append(nil, n%500))
	tx := &mail.Transaction{
		ID: mail.NewID(at), Stage: mail.StageMessage, Start: at,
		Session: &mail.Session{
			ID: mail.NewID(at), Listener: "mx", Via: mail.ViaSMTP, Client: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, byte(n >> 8 % 4), byte(n)}), 4000),
			Name: "mail.example.org", PTR: "mail.example.org", Resolve: mail.ResolveOK, Helo: "mail.example.org", ESMTP: true, Role: "mx",
			TLS: &mail.TLS{Version: "TLSv1.3", Cipher: "TLS_AES_128_GCM_SHA256"}, Start: at, Macros: map[string]string{"j": "mx1"},
		},
		Message: mail.NewMessage(h, strings.NewReader("body\r\n"), 6),
		Inside: &mail.Inside{
			Text:  "Dear reader",
			Parts: []mail.Part{{Path: "1", Declared: "text/plain", Detected: "text/plain"}, {Path: "2", Names: []string{"invoice.zip"}, Archive: "zip", Size: 100, SHA256: hex.EncodeToString(sum[:])}},
			URLs:  []mail.URL{{Host: fmt.Sprintf("www%d.example.net", n%300), Text: "http://www.example.net/"}},
		},
		Findings: []mail.Finding{{Filter: "clamav", Name: mail.FindingClean}, {Filter: "spamassassin", Name: mail.FindingSpamRule, Value: "HTML_MESSAGE", Score: 0.5, Text: "0.5"}},
		Asked:    []mail.Asked{{Filter: "clamav", Stage: mail.StageMessage, Result: "ok", Start: at.Add(time.Millisecond), Took: 3 * time.Millisecond}},
	}
	tx.Envelope = mail.Envelope{Sender: mail.Path{Address: sender, Args: []string{"SIZE=1000"}}, Recipients: []mail.Path{{Address: parsed(t, fmt.Sprintf("rcpt%d@example.com", n%50))}}}
	v := mail.Verdict{Action: mail.Accept, Reason: "relay.domains has example.com", Edits: []mail.Edit{mail.InsertHeader{Field: mail.NewField("X-Virus-Scanned", "ClamAV")}}}
	a := mail.Answer{Stage: mail.StageMessage, Action: mail.Accept, Reply: mail.Reply{Code: 250, Detail: "0.0", Text: "queued"}, Reason: v.Reason}
	if n%10 == 0 {
		v.Action, a.Action, a.Reply = mail.Reject, mail.Reject, mail.Reply{Code: 550, Detail: "7.1", Text: "no"}
		v.Rules = []mail.RuleHit{{Rule: fmt.Sprintf("rule-%d", n%40), Where: "/etc/rules.toml:7", Did: "reject"}}
	}
	if n%100 == 0 {
		tx.Findings = append(tx.Findings, mail.Finding{Filter: "clamav", Name: mail.FindingVirus, Value: "Eicar-Test"})
	}
	return tx, v, a
}

func sampleRecord(t testing.TB, n int) Record {
	tx, v, a := sample(t, n)
	return Make(tx, v, a, nil, tx.Start.Add(50*time.Millisecond))
}

// started is a store that runs; stop ends it and waits.
type started struct {
	*Store
	stop func()
}

func start(t testing.TB, cfg Config, o Options) started {
	t.Helper()
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if cfg.Path == "" {
		cfg.Path = filepath.Join(t.TempDir(), "history.db")
	}
	s, err := Open(cfg, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stopped := false
	stop := func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return started{s, stop}
}

// eventually polls.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not within a minute: %s", what)
}

func sampleHash(n int) string {
	sum := sha256.Sum256(fmt.Append(nil, n))
	return hex.EncodeToString(sum[:])
}
