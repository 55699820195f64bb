package forward

import (
	"errors"
	"strings"
	"testing"
)

// TestSMTPUTF8: what may go to a next hop without SMTPUTF8, and how.
func TestSMTPUTF8(t *testing.T) {
	const no = "bounced 550 5.6.7 the next hop does not offer SMTPUTF8, which this message needs"
	const multi = "Subject: x\r\nContent-Type: multipart/mixed;\r\n boundary=b\r\n\r\n--b\r\n"
	tests := []struct {
		name, sender string
		asked        bool
		rcpts        []string
		message      string
		offered      bool
		want         []string
		mail, rcpt   string // the first of each, as the next hop sees them
	}{
		{name: "asked for and not needed", sender: "s@example.org", asked: true, rcpts: []string{"a@example.com"}, message: "Subject: x\r\n\r\nbody\r\n",
			want: []string{sent}, mail: "MAIL FROM:<s@example.org> SIZE=20", rcpt: "RCPT TO:<a@example.com>"},
		{name: "eight bits in the body only", sender: "s@example.org", asked: true, rcpts: []string{"a@example.com"}, message: "Subject: x\r\n\r\nbödy\r\n",
			want: []string{sent}, mail: "MAIL FROM:<s@example.org> SIZE=21"},
		{name: "offered: as it is", sender: "s@bücher.example", asked: true, rcpts: []string{"ä@example.com"}, message: "Subject: ü\r\n\r\n", offered: true,
			want: []string{sent}, mail: "MAIL FROM:<s@bücher.example> SIZE=15 SMTPUTF8", rcpt: "RCPT TO:<ä@example.com>"},
		{name: "domains as A-labels", sender: "s@bücher.example", asked: true, rcpts: []string{"a@straße.test"}, message: "Subject: x\r\n\r\n",
			want: []string{sent}, mail: "MAIL FROM:<s@xn--bcher-kva.example> SIZE=14", rcpt: "RCPT TO:<a@xn--strae-oqa.test>"},
		{name: "a header that is not ASCII", sender: "s@example.org", asked: true, rcpts: []string{"a@example.com"}, message: "Subject: ü\r\n\r\n", want: []string{no}},
		{name: "in a folded line", sender: "s@example.org", asked: true, rcpts: []string{"a@example.com"}, message: "Subject: x\r\n ü\r\n\r\n", want: []string{no}},
		{name: "sender", sender: "é@example.org", asked: true, rcpts: []string{"a@example.com"}, message: "Subject: x\r\n\r\n", want: []string{no}},
		{name: "one of the recipients", sender: "s@example.org", asked: true, rcpts: []string{"a@example.com", "é@example.com", "b@example.com"}, message: "Subject: x\r\n\r\n",
			want: []string{sent, no, sent}, rcpt: "RCPT TO:<a@example.com>"},
		{name: "the header of a part", sender: "s@example.org", asked: true, rcpts: []string{"a@example.com"},
			message: multi + "Content-Disposition: attachment; filename=\"ü.pdf\"\r\n\r\nx\r\n--b--\r\n", want: []string{no}},
		{name: "the body of a part", sender: "s@example.org", asked: true, rcpts: []string{"a@example.com"},
			message: multi + "Content-Type: text/plain\r\n\r\nü\r\n--b--\r\n", want: []string{sent}},
		{name: "a message within", sender: "s@example.org", asked: true, rcpts: []string{"a@example.com"},
			message: multi + "Content-Type: message/rfc822\r\n\r\nSubject: ü\r\n\r\nx\r\n--b--\r\n", want: []string{no}},
		{name: "not asked for: eight bits in the header stay", sender: "s@example.org", rcpts: []string{"a@example.com"}, message: "Subject: ü\r\n\r\n",
			want: []string{sent}, mail: "MAIL FROM:<s@example.org> SIZE=15"},
	}
	for _, lmtp := range []bool{false, true} {
		for _, tt := range tests {
			t.Run(map[bool]string{false: "smtp/", true: "lmtp/"}[lmtp]+tt.name, func(t *testing.T) {
				offers := []string{"SIZE"}
				if tt.offered {
					offers = append(offers, "SMTPUTF8")
				}
				p := startPeer(t, &peer{lmtp: lmtp, offers: offers})
				f := newForwarder(t, quick(p.url()))
				env := envelope(t, tt.rcpts...)
				env.Sender = mailPath(t, tt.sender)
				if tt.asked {
					env.Sender.Args = []string{"SMTPUTF8"}
				}
				check(t, deliver(t, f, env, text(tt.message)), tt.want...)
				if got := find(p, "MAIL"); tt.mail != "" && !lmtp && got != tt.mail {
					t.Errorf("got  %q\nwant %q", got, tt.mail)
				}
				if got := find(p, "RCPT"); tt.rcpt != "" && got != tt.rcpt {
					t.Errorf("got  %q\nwant %q", got, tt.rcpt)
				}
				for _, m := range p.got() {
					if m.data != tt.message {
						t.Errorf("the message was changed: %q", m.data)
					}
				}
			})
		}
	}
}

// TestHeaderWatch: the same whatever the pieces that a message is read in.
func TestHeaderWatch(t *testing.T) {
	message := "Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\nü\r\n--b\r\nX: y\r\n\r\nü\r\n--b\r\nX: ü\r\n\r\n"
	for size := 1; size < len(message); size++ {
		w := headerWatch{header: true}
		at := 0
		for at < len(message) && !w.found {
			end := min(at+size, len(message))
			if _, err := w.Write([]byte(message[at:end])); err != nil && !w.found {
				t.Fatal(err)
			}
			at = end
		}
		if !w.found {
			t.Errorf("pieces of %d: nothing is found", size)
		}
		clean := headerWatch{header: true}
		rest := strings.Replace(message, "X: ü", "X: u", 1)
		for at := 0; at < len(rest); at += size {
			_, _ = clean.Write([]byte(rest[at:min(at+size, len(rest))]))
		}
		if clean.found {
			t.Errorf("pieces of %d: found what is not there", size)
		}
	}
}

func TestUTF8ReadError(t *testing.T) {
	p := startPeer(t, &peer{})
	f := newForwarder(t, quick(p.url()))
	env := envelope(t, "a@example.com")
	env.Sender.Args = []string{"SMTPUTF8"}
	check(t, deliver(t, f, env, failing{text("Subject: x\r\n\r\n"), 5, errors.New("disk")}), "deferred 451 4.3.0 the message can't be read…")
}
