package proxy

import (
	"regexp"
	"strings"
	"testing"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

func TestOneMessage(t *testing.T) {
	g := start(t, nil)
	c := g.hello()
	c.do("MAIL FROM:<s@a.example> SIZE=100 BODY=8BITMIME", "250 2.1.0")
	c.do("RCPT TO:<u@b.example> NOTIFY=FAILURE ORCPT=rfc822;u@b.example", "250 2.1.5")
	c.do("DATA", "354")
	r := c.do(simple+".", "250 2.0.0 queued as ")
	c.do("QUIT", "221")
	c.expectClosed()

	kept := g.store.messages()
	if len(kept) != 1 {
		t.Fatalf("%d messages, want 1", len(kept))
	}
	m := kept[0]
	if got := m.text(t); got != simple {
		t.Errorf("text %q, want %q", got, simple)
	}
	if id := strings.TrimPrefix(r, "250 2.0.0 queued as "); m.ID != id || m.Group != id || !mail.ValidID(id) {
		t.Errorf("ID %q, group %q, reply %q", m.ID, m.Group, r)
	}
	if m.State != spool.Queue || m.Origin != spool.FromSMTP || m.Helo != "client.example" || m.Listener != "mx" || m.Subject != "test" {
		t.Errorf("entry %+v", m.Entry)
	}
	if m.Client != "unknown[127.0.0.1]" {
		t.Errorf("client %q", m.Client)
	}
	if got, want := m.Envelope.Sender.Args, []string{"SIZE=100", "BODY=8BITMIME"}; strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("sender's arguments %q, want %q", got, want)
	}
	if v, ok := m.Envelope.Recipients[0].Arg("ORCPT"); v != "rfc822;u@b.example" || !ok {
		t.Errorf("ORCPT %q, %t", v, ok)
	}
	if ids := g.queue.all(); len(ids) != 1 || ids[0] != m.ID {
		t.Errorf("queue was told %q", ids)
	}
	for _, want := range []string{"msg=message", "id=" + m.ID, "action=continue", "from=s@a.example", "to=u@b.example", "nrcpt=1", "helo=client.example"} {
		if !strings.Contains(g.log.String(), want) {
			t.Errorf("log lacks %q", want)
		}
	}
}

func TestReceived(t *testing.T) {
	g := start(t, nil)
	c := g.envelope()
	c.do("DATA", "354")
	c.do(simple+".", "250")
	h, _, err := mail.SplitHeader(g.store.messages()[0].Header)
	if err != nil {
		t.Fatal(err)
	}
	want := regexp.MustCompile(`^from client\.example \(unknown \[127\.0\.0\.1\]\) by mx1\.b\.example \(Gatepost\) with ESMTP id \w{22} for <u@b\.example>; \w{3}, \d+ \w{3} \d{4} [\d:]{8} [+-]\d{4}$`)
	if got := strings.Join(strings.Fields(h[1].Value()), " "); !want.MatchString(got) {
		t.Errorf("Received: %s", got)
	}
}

// Two recipients must not learn of each other.
func TestReceivedForOneOnly(t *testing.T) {
	g := start(t, nil)
	c := g.envelope()
	c.do("RCPT TO:<v@b.example>", "250")
	c.do("DATA", "354")
	c.do(simple+".", "250")
	if h := string(g.store.messages()[0].Header); strings.Contains(h, "@b.example") {
		t.Errorf("a recipient shows in %q", h)
	}
}

func TestExtensions(t *testing.T) {
	g := start(t, nil)
	c := g.greeted()
	r := c.do("EHLO [127.0.0.1]", "250-mx1.b.example")
	for _, want := range []string{"PIPELINING", "SIZE 52428800", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "DSN", "CHUNKING"} {
		if !regexp.MustCompile(`(?m)^250[- ]` + want + "\r?$").MatchString(r) {
			t.Errorf("EHLO reply lacks %s: %q", want, r)
		}
	}
	for _, not := range []string{"STARTTLS", "BINARYMIME", "AUTH"} {
		if strings.Contains(r, not) {
			t.Errorf("EHLO offers %s", not)
		}
	}
}

// All commands in one segment are answered in order (RFC 2920).
func TestPipelining(t *testing.T) {
	g := start(t, nil)
	c := g.greeted()
	c.send("EHLO c.example\r\nMAIL FROM:<s@a.example>\r\nRCPT TO:<u@b.example>\r\nRCPT TO:<x@out.example>\r\nDATA\r\n")
	for _, want := range []string{"250", "250 2.1.0", "250 2.1.5", "550 5.7.1", "354"} {
		c.expect(want)
	}
	c.send(simple + ".\r\nMAIL FROM:<t@a.example>\r\nRCPT TO:<u@b.example>\r\nDATA\r\n")
	for _, want := range []string{"250 2.0.0", "250 2.1.0", "250 2.1.5", "354"} {
		c.expect(want)
	}
	c.send("second\r\n.\r\nQUIT\r\n")
	c.expect("250 2.0.0")
	c.expect("221")
	c.expectClosed()
	if n := len(g.store.messages()); n != 2 {
		t.Errorf("%d messages, want 2", n)
	}
}
