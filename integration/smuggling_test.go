package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// The oracle of all SMTP tests: the next hop receives as many messages as the
// client saw 250s after a dot, and nothing that the client did not address.
func TestNoSmuggling(t *testing.T) {
	sink := testkit.Up(t, testkit.NewSink())
	g := testkit.Up(t, newGateway(t, binaries.race, sink.Addr))
	const smuggled = "MAIL FROM:<smug@sender.test>\r\nRCPT TO:<smug@example.com>\r\nDATA\r\nSubject: smuggled\r\n\r\nx"
	sent := 0
	for _, end := range []string{
		"\n.\n", "\n.\r\n", "\n.\r", "\r.\n", "\r.\r", "\r.\r\n", "\n\n.\r\n",
		"\r\n.\n", "\r\n.\r", "\r\n.\rX", "\r\n.\x00\r\n", "\r\n\x00.\r\n", "\r\r\n.\r\r\n",
	} {
		t.Run(fmt.Sprintf("%q", end), func(t *testing.T) {
			d := testkit.Connect(t, g.Addr)
			d.Do("EHLO client.test", 250)
			d.Do("MAIL FROM:<s@sender.test>", 250)
			d.Do("RCPT TO:<u@example.com>", 250)
			d.Do("DATA", 354)
			d.Send("Subject: outer\r\n\r\na" + end + smuggled + "\r\n.\r\nRSET\r\n")
			d.Timeout = 10 * time.Second
			r, err := d.Read()
			if err != nil {
				return // closed: nothing was accepted
			}
			if r.Code == 250 {
				sent++
			} else if r.Code/100 != 5 {
				t.Errorf("got %v, want 250 or 5xx", r)
			}
			if r, err := d.Read(); err == nil && r.Code/100 == 3 {
				t.Errorf("DATA in the body was taken as a command: %v", r)
			}
		})
	}
	sendWant(t, g.Addr, letter(testkit.Message("after", "after", "x")), testkit.Dot, 250)
	for _, m := range waitMails(t, sink, sent+1) {
		if strings.Contains(m.From, "smug") || strings.Contains(strings.Join(m.To, ""), "smug") {
			t.Errorf("smuggled: %q to %q", m.From, m.To)
		}
	}
}

// A pipelining client that sends everything in one segment gets all its
// answers, in order.
func TestPipelining(t *testing.T) {
	sink := testkit.Up(t, testkit.NewSink())
	g := testkit.Up(t, newGateway(t, binaries.race, sink.Addr))
	d := testkit.Connect(t, g.Addr)
	if r := d.Do("EHLO client.test", 250); !strings.Contains(r.Text(), "PIPELINING") {
		t.Fatalf("no PIPELINING: %v", r)
	}
	for i := range 3 {
		d.Send("MAIL FROM:<s@sender.test>\r\nRCPT TO:<u@example.com>\r\nRCPT TO:<u@elsewhere.test>\r\nRCPT TO:<v@example.com>\r\nDATA\r\n")
		for _, code := range []int{250, 250, 5, 250, 354} {
			d.Expect(code)
		}
		d.Send(fmt.Sprintf("Subject: %d\r\n\r\n..x\r\n.\r\nNOOP\r\n", i))
		d.Expect(250)
		d.Expect(250)
	}
	var bodies []string
	for _, m := range waitMails(t, sink, 3) {
		if len(m.To) != 2 {
			t.Errorf("recipients = %q", m.To)
		}
		_, body, _ := strings.Cut(string(m.Data), "\r\nSubject: ")
		bodies = append(bodies, body)
	}
	slices.Sort(bodies) // several are delivered at a time
	if want := []string{"0\r\n\r\n.x\r\n", "1\r\n\r\n.x\r\n", "2\r\n\r\n.x\r\n"}; !slices.Equal(bodies, want) {
		t.Errorf("arrived: %q, want %q", bodies, want)
	}
}
