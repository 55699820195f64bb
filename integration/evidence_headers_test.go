package integration

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"testing"

	"gatepost/internal/testkit"
)

// injections are words of clients, messages and daemons that would begin a line
// of their own, were they written down as they come (H1).
func injections() []struct {
	name, helo, from string
	row              string // of the daemons
	text             string
} {
	const evil = "X-Evil: 1"
	message := func(fields, body string) string {
		return "From: a@sender.test\r\n" + fields + "\r\n" + body + "\r\n"
	}
	file := func(disposition string) string {
		return message("Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n",
			"--b\r\n\r\nhello\r\n--b\r\nContent-Type: application/octet-stream\r\nContent-Disposition: attachment;\r\n "+disposition+"\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n--b--")
	}
	plain := message("Subject: x\r\n", "hello")
	return []struct{ name, helo, from, row, text string }{
		{"HELO with a CR", "a.test\r" + evil, "a@sender.test", "", plain},
		{"HELO with a comment", "a.test(\\\"\t" + evil, "a@sender.test", "", plain},
		{"sender with a CR", "a.test", "\"a\r" + evil + "\"@sender.test", "", plain},
		{"sender with a line", "a.test", "\"a\\\n" + evil + "\"@sender.test", "", plain},
		{"a virus' name", "a.test", "a@sender.test", "H1 virus", message("X-Row: H1 virus\r\nSubject: x\r\n", "hello")},
		{"a report", "a.test", "a@sender.test", "H1 report", message("X-Row: H1 report\r\nSubject: x\r\n", "hello")},
		{"a report that is a message", "a.test", "a@sender.test", "H1 message", message("X-Row: H1 message\r\nSubject: x\r\n", "hello")},
		{"a subject that gets a tag", "a.test", "a@sender.test", "H1 report", message("X-Row: H1 report\r\nSubject: =?utf-8?q?a=0D=0A"+strings.ReplaceAll(evil, " ", "_")+"?=\r\n", "hello")},
		{"a file's name", "a.test", "a@sender.test", "", file("filename*=utf-8''a%0D%0AX-Evil:%201%0D%0A.exe")},
		{"a file's encoded name", "a.test", "a@sender.test", "", file("filename=\"=?utf-8?q?a=0D=0AX-Evil:_1=0D=0A--b=0D=0A.exe?=\"")},
		{"a file's name with a delimiter", "a.test", "a@sender.test", "", file("filename*=utf-8''a%0D%0A--b%0D%0AX-Evil:%201%0D%0A%0D%0A.exe")},
	}
}

var evilLine = regexp.MustCompile(`(?m)(^|\r)[ \t]*X-Evil`)

// Nothing that comes from outside begins a line of what we write: of headers,
// notes, replies, and the log.
func TestInjection(t *testing.T) {
	rows := map[string]daemonRow{
		"H1 virus":   {clamd: "stream: Eicar\r\nX-Evil: 1 FOUND\x00", spamd: spamdHam},
		"H1 report":  {clamd: clamdOK, spamd: spamdHead + "Content-length: 32\r\nSpam: True ; 6.0 / 5.0\r\n\r\nA,B\r\nX-Evil: 1\r\n\r\nX-Evil: 2\r\n.\r\n"},
		"H1 message": {clamd: clamdOK, spamd: spamdHead + "Spam: True ; 6.0 / 5.0\r\nX-Evil: 1\r\nContent-length: 14\r\n\r\nX-Evil: 1\r\n\r\nx"},
	}
	clamd := (&scriptedDaemon{say: clamdSessions, rows: rows}).start(t)
	spamd := (&scriptedDaemon{say: spamdScript, rows: rows}).start(t)
	d := newTwoDoors(t, binaries.race, func(g *testkit.Gateway) {
		g.UseClamd("tcp:"+clamd.addr, "tempfail")
		g.UseSpamd("tcp:"+spamd.addr, "tempfail")
		g.Config.Set("filter.attachments", "deny", `[{name="strip", standard=true, action="strip", recipients=["u@example.com"]}, {name="tag", standard=true, action="tag", recipients=["tag@example.com"]}, {name="reject", standard=true, recipients=["reject@example.com"]}]`)
		g.Config.Set("subject", "tag", `"[SPAM]"`)
		g.Config.Set("subject", "attachments", `"[FILE]"`)
		g.Config.Set("policy", "tag", "5.0")
		g.Config.Set("policy", "quarantine", "50.0")
		g.Config.Set("policy", "reject", "60.0")
	})
	for door, addr := range d.doors {
		for _, tt := range injections() {
			for _, to := range []string{"u@example.com", "tag@example.com", "reject@example.com"} {
				if to != "u@example.com" && !strings.Contains(tt.name, "file") {
					continue
				}
				t.Run(fmt.Sprintf("%s H1 %s to %s", door, tt.name, to), func(t *testing.T) {
					for _, r := range converse(t, addr, "EHLO "+tt.helo, "MAIL FROM:<"+tt.from+">", "RCPT TO:<"+to+">", "DATA", tt.text+".") {
						if evilLine.MatchString(strings.Join(r.Lines, "\n")) {
							t.Errorf("the reply is %q", r.Lines)
						}
					}
				})
			}
		}
	}
	sendWant(t, d.doors["proxy"], letter(testkit.Message("last", "last", "x")), testkit.Dot, 250)
	arrived := func() bool {
		for _, m := range d.sink.Mails() {
			if field(string(m.Data), "Subject") == "last" {
				return true
			}
		}
		return false
	}
	testkit.Eventually(t, authWait, "the last one arrives", arrived)
	for _, m := range d.sink.Mails() {
		if evilLine.Match(m.Data) {
			t.Errorf("this arrived:\n%q", m.Data)
		}
	}
	if evilLine.MatchString(d.gateway.Log()) {
		t.Errorf("a line of the log: %q", evilLine.FindString(d.gateway.Log()))
	}
	t.Logf("%d messages arrived, %d are held", len(d.sink.Mails()), len(inState(t, d.gateway, "hold")))
}

// clamdSessions is clamdScript for clients that ask more than once: what comes in
// a session is clean.
func clamdSessions(c net.Conn, d *scriptedDaemon) {
	r := bufio.NewReader(c)
	first, err := r.Peek(len("zIDSESSION\x00"))
	if err != nil || string(first) != "zIDSESSION\x00" {
		clamdScript(&begun{c, r}, d)
		return
	}
	_, _ = r.Discard(len(first))
	for n := 1; ; n++ {
		if command, err := r.ReadString(0); err != nil || command != "zINSTREAM\x00" {
			return
		}
		for size := uint32(1); size != 0; {
			if binary.Read(r, binary.BigEndian, &size) != nil {
				return
			}
			if _, err := r.Discard(int(size)); err != nil {
				return
			}
		}
		if _, err := fmt.Fprintf(c, "%d: stream: OK\x00", n); err != nil {
			return
		}
	}
}

// begun is a connection of which r has read the beginning.
type begun struct {
	net.Conn
	r io.Reader
}

func (b *begun) Read(p []byte) (int, error) { return b.r.Read(p) }

// converse sends commands until one is refused, and returns all replies.
func converse(t *testing.T, addr string, commands ...string) (replies []testkit.Reply) {
	t.Helper()
	c, err := testkit.Dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Read(); err != nil {
		t.Fatal(err)
	}
	for _, command := range commands {
		r, err := c.Cmd(command)
		if err != nil {
			return replies // it was more than either of us wanted to go on after
		}
		replies = append(replies, r)
		if r.Code >= 400 {
			return replies
		}
	}
	return replies
}
