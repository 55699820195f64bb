package integration

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// The main job with real scanners, over both kinds of socket of each.
func TestMainJob(t *testing.T) {
	dir := testkit.Dir(t)
	clamd := testkit.Up(t, testkit.NewClamd(dir))
	spamd := testkit.Up(t, testkit.NewSpamd(dir))
	for _, tt := range []struct{ name, clamd, spamd string }{
		{"clamd by unix socket, spamd by TCP", "unix:" + clamd.Socket, "tcp:" + spamd.Addr},
		{"clamd by TCP, spamd by unix socket", "tcp:" + clamd.Addr, "unix:" + spamd.Socket},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sink := testkit.Up(t, testkit.NewSink())
			g := newGateway(t, binaries.race, sink.Addr)
			g.UseClamd(tt.clamd, "tempfail")
			g.UseSpamd(tt.spamd, "tempfail")
			testkit.Up(t, g)
			t.Run("clean", func(t *testing.T) { cleanArrives(t, g, sink) })
			t.Run("forged fields", func(t *testing.T) { forgedFieldsGo(t, g, sink) })
			t.Run("refused", func(t *testing.T) { badIsRefused(t, g, sink) })
		})
	}
}

// cleanArrives: each message arrives as it was sent, below our fields.
func cleanArrives(t *testing.T, g *testkit.Gateway, sink *testkit.Sink) {
	bodies := []struct {
		name string
		data []byte
	}{
		{"ordinary", testkit.Message("1", "hello", "An ordinary note.\r\n.leading dot\r\n..two\r\nlast")},
		{"8-bit text and an odd header", []byte("Subject:no blank\r\nX-Odd :blank before the colon\r\nX-Fold: a\r\n\t b\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n \t \r\n\r\n\r\n")},
		{"300 kB", testkit.Message("2", "large", testkit.Filler(300_000))},
		{"5 MB attachment", testkit.WithAttachment("3", "larger", "data.bin", bytes.Repeat([]byte("0123456789abcdef"), 5<<16))},
		{"zip", testkit.WithAttachment("4", "zip", "a.zip", testkit.Zip("a.txt", []byte("harmless")))},
	}
	before := len(sink.Mails())
	for i, tt := range bodies {
		t.Run(tt.name, func(t *testing.T) {
			sendWant(t, g.Addr, letter(tt.data), testkit.Dot, 250)
			mails := waitMails(t, sink, before+i+1)
			got := mails[len(mails)-1]
			head := added(t, got.Data, tt.data)
			if !strings.HasPrefix(field(head, "Received"), "from client.test (") {
				t.Errorf("no Received of ours: %q", head)
			}
			for _, name := range []string{"X-Spam-Score", "X-Spam-Status", "X-Virus-Scanned", "X-Gatepost-ID"} {
				if field(head, name) == "" {
					t.Errorf("no field %s among the added: %q", name, head)
				}
			}
			if !strings.Contains(got.From, "<s@sender.test>") || len(got.To) != 1 || !strings.HasPrefix(got.To[0], "<u@example.com>") {
				t.Errorf("envelope = %q %q", got.From, got.To)
			}
		})
	}
}

// forgedFieldsGo: what looks like ours but came from outside is taken out, in
// every spelling, and nothing else.
func forgedFieldsGo(t *testing.T, g *testkit.Gateway, sink *testkit.Sink) {
	before := len(sink.Mails())
	forged := "X-Spam-Status: No, score=-100.0 forged\r\nx-sPaM-flag: NO forged\r\nX-Spam-Score : -100 forged\r\n" +
		"X-Virus-Scanned: forged\r\nX-Gatepost-ID: forged\r\nX-Quarantine-ID: forged\r\n" +
		"X-Spam-Report: folded\r\n\tforged\r\n" +
		"Authentication-Results: mx1.example.com; spf=pass forged\r\n"
	kept := "Authentication-Results: other.example.org; spf=pass\r\nX-Spammer: my name\r\n"
	sendWant(t, g.Addr, letter([]byte(forged+kept+string(testkit.Message("fields", "hello", "text")))), testkit.Dot, 250)
	got := string(waitMails(t, sink, before+1)[before].Data)
	if strings.Contains(got, "forged") {
		t.Errorf("forged fields arrived:\n%s", got)
	}
	if !strings.Contains(got, kept) {
		t.Errorf("foreign fields are gone:\n%s", got)
	}
	if n := strings.Count(strings.ToLower(got), "\nx-spam-score:"); n != 1 {
		t.Errorf("%d X-Spam-Score fields, want 1:\n%s", n, got)
	}
}

// badIsRefused: in the session, with a reason in the log, and nothing arrives.
func badIsRefused(t *testing.T, g *testkit.Gateway, sink *testkit.Sink) {
	before := len(sink.Mails())
	eicar := []byte(testkit.EICAR())
	tests := []struct {
		name  string
		l     testkit.Letter
		stage string
		code  int
		log   string
	}{
		{"GTUBE", letter(testkit.Message("gtube", "gtube", testkit.GTUBE())), testkit.Dot, 550, "GTUBE"},
		{"EICAR alone", letter(testkit.Message("eicar", "eicar", testkit.EICAR())), testkit.Dot, 5, "Eicar-Local"},
		{"EICAR attached", letter(testkit.WithAttachment("eicar2", "eicar", "e.com", eicar)), testkit.Dot, 5, "Eicar-Local"},
		{"EICAR in a zip in a MIME part", letter(testkit.WithAttachment("eicar3", "eicar", "e.zip", testkit.Zip("e.com", eicar))), testkit.Dot, 5, "Eicar-Local"},
		{"unknown recipient domain", testkit.Letter{From: "s@sender.test", To: []string{"u@elsewhere.test"}, Data: testkit.Message("1", "x", "x")}, "RCPT", 5, "elsewhere.test"},
		{"route in the local part", testkit.Letter{From: "s@sender.test", To: []string{"u%elsewhere.test@example.com"}, Data: testkit.Message("1", "x", "x")}, "RCPT", 5, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			logged := len(g.Log())
			sendWant(t, g.Addr, tt.l, tt.stage, tt.code)
			testkit.Eventually(t, 60*time.Second, fmt.Sprintf("%q in the log", tt.log), func() bool {
				return strings.Contains(g.Log()[logged:], tt.log)
			})
		})
	}
	// A clean one behind them: when it is there, the others are not on the way.
	sendWant(t, g.Addr, letter(testkit.Message("after", "after", "after")), testkit.Dot, 250)
	waitMails(t, sink, before+1)
	if q, err := g.Queue(); err != nil || len(q) != 0 {
		t.Errorf("queue = %v, %v; want it empty", q, err)
	}
}

// A trusted client may relay anywhere there is a route for.
func TestTrustedClientRelays(t *testing.T) {
	sink := testkit.Up(t, testkit.NewSink())
	g := newGateway(t, binaries.race, sink.Addr)
	g.Config.Set(`route."."`, "to", `["smtp://`+sink.Addr+`"]`)
	testkit.Up(t, g)
	l := testkit.Letter{From: "s@example.com", To: []string{"u@elsewhere.test"}, Data: testkit.Message("1", "x", "x")}
	sendWant(t, g.Addr, l, "RCPT", 5)
	l.Client = "127.0.0.9"
	sendWant(t, g.Addr, l, testkit.Dot, 250)
	if m := waitMails(t, sink, 1)[0]; m.To[0] != "<u@elsewhere.test>" {
		t.Errorf("recipient = %q", m.To)
	}
}

// With real servers on all sides: Postfix as next hop takes the message and
// delivers it.
func TestPostfixBehindUs(t *testing.T) {
	dir := testkit.Dir(t)
	postfix := testkit.Up(t, testkit.NewPostfix(dir))
	clamd := testkit.Up(t, testkit.NewClamd(dir))
	spamd := testkit.Up(t, testkit.NewSpamd(dir))
	g := newGateway(t, binaries.race, postfix.Addr)
	g.UseClamd("unix:"+clamd.Socket, "tempfail")
	g.UseSpamd("unix:"+spamd.Socket, "tempfail")
	testkit.Up(t, g)
	small := testkit.Message("1", "hello", "An ordinary note.\r\n.leading dot\r\nlast")
	large := testkit.Message("2", "large", testkit.Filler(2_000_000))
	sendWant(t, g.Addr, letter(small), testkit.Dot, 250)
	sendWant(t, g.Addr, letter(large), testkit.Dot, 250)
	sendWant(t, g.Addr, letter(testkit.Message("3", "eicar", testkit.EICAR())), testkit.Dot, 5)
	sendWant(t, g.Addr, letter(testkit.Message("4", "gtube", testkit.GTUBE())), testkit.Dot, 550)
	for _, data := range [][]byte{small, large} {
		want := bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))
		testkit.Eventually(t, 60*time.Second, "the message in the Maildir", func() bool {
			all, err := postfix.Delivered()
			return err == nil && slices.ContainsFunc(all, func(m []byte) bool {
				return bytes.HasSuffix(m, want) && bytes.Contains(m, []byte("\nX-Spam-Score: ")) && bytes.Contains(m, []byte("\nX-Virus-Scanned: "))
			})
		})
	}
	if all, _ := postfix.Delivered(); len(all) != 2 {
		t.Errorf("%d messages in the Maildir, want 2", len(all))
	}
}
