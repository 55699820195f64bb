package integration

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// Dovecot answers for each recipient after the dot: what it keeps is kept once,
// what it refuses is told to the sender, what it puts off is tried again for
// that recipient alone. The sender hears of all failures at the end, at once.
func TestLMTPToDovecot(t *testing.T) {
	needRoot(t)
	d := testkit.Up(t, testkit.NewDovecot(testkit.Dir(t), map[string]string{
		"a@example.com": "", "full@example.com": "1k", "b@example.com": "", "away@example.com": "",
	}))
	// A mailbox that can't be written to for now.
	away := d.Maildir("away@example.com")
	if err := os.WriteFile(away, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	senders := testkit.Up(t, testkit.NewSink())
	g := newGateway(t, binaries.race, d.Addr)
	g.Config.Set(`route."example.com"`, "to", `["lmtp://`+d.Addr+`"]`)
	g.Config.Set(`route."sender.test"`, "to", `["smtp://`+senders.Addr+`"]`)
	testkit.Up(t, g)

	msg := testkit.Message("lmtp", "hello", ".dot\r\n"+testkit.Filler(5000)+"\r\ngr\u00fc\u00dfe")
	l := letter(msg)
	l.To = []string{"a@example.com", "full@example.com", "nobody@example.com", "away@example.com", "b@example.com"}
	sendWant(t, g.Addr, l, testkit.Dot, 250)

	testkit.Eventually(t, 60*time.Second, "one recipient that is tried again", func() bool {
		q, err := g.Queue()
		return err == nil && len(q) == 1 && q[0]["attempts"].(float64) >= 2
	})
	if err := os.Remove(away); err != nil {
		t.Fatal(err)
	}
	emptyQueue(t, g)
	dsn := string(waitMails(t, senders, 1)[0].Data)
	for user, status := range map[string]string{"full@example.com": "5.2.2", "nobody@example.com": "5.1.1"} {
		_, part, ok := strings.Cut(dsn, "Final-Recipient: rfc822; "+user+"\r\n")
		part, _, _ = strings.Cut(part, "\r\n\r\n")
		if !ok || !strings.Contains(part, "Action: failed\r\n") || !strings.Contains(part, "Status: "+status+"\r\n") {
			t.Errorf("%s: %q in\n%s", user, part, dsn)
		}
	}
	for _, user := range []string{"a@example.com", "b@example.com", "away@example.com"} {
		if strings.Contains(dsn, "rfc822; "+user) {
			t.Errorf("%s is in the notification", user)
		}
	}
	for _, user := range []string{"a@example.com", "b@example.com", "away@example.com"} {
		all, err := d.Delivered(user)
		if err != nil || len(all) != 1 {
			t.Errorf("%s has %d copies, %v", user, len(all), err)
			continue
		}
		if !bytes.HasSuffix(all[0], bytes.ReplaceAll(msg, []byte("\r\n"), []byte("\n"))) {
			t.Errorf("%s: not as it was sent: %.300q", user, all[0])
		}
	}
	if all, _ := d.Delivered("full@example.com"); len(all) != 0 {
		t.Errorf("%d messages over quota", len(all))
	}
	if n := len(senders.Mails()); n != 1 {
		t.Errorf("%d notifications", n)
	}
}
