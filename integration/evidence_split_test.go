package integration

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"gatepost/internal/testkit"
)

// split is what arrives: head is the end of the header.
type split struct{ head, body string }

// splitRow is a message whose header ends in an odd way (H6), or has fields that
// are for us (H7).
type splitRow struct {
	name, text string
	want       *split // nil: it is refused
	mta        *split // what Postfix makes of it before it asks; nil: the same
}

func splitRows() []splitRow {
	const from = "From: a@sender.test\r\n"
	const mailbox = "From a@sender.test Fri Nov 20 10:00:00 2026\r\n"
	const resent = "Resent-From: b@sender.test\r\nResent-To: c@example.com\r\n"
	return []splitRow{
		{"H6 ordinary", from + "\r\nbody\r\n", &split{from, "body\r\n"}, nil},
		{"H6 no blank line", from + "Subject: x\r\n", &split{from + "Subject: x\r\n", ""}, nil},
		{"H6 a space for a blank line", from + " \r\nX-B: y\r\n\r\nbody\r\n", &split{from + " \r\nX-B: y\r\n", "body\r\n"}, nil},
		{"H6 a tab for a blank line", from + "\t\r\nX-B: y\r\n\r\nbody\r\n", &split{from + "\t\r\nX-B: y\r\n", "body\r\n"}, nil},
		{"H6 no colon", from + "no colon here\r\nX-B: y\r\n\r\nbody\r\n", &split{from, "no colon here\r\nX-B: y\r\n\r\nbody\r\n"}, nil},
		{"H6 a blank line first", "\r\n" + from + "\r\nbody\r\n", &split{"", from + "\r\nbody\r\n"}, nil},
		{"H6 a space first", " x\r\n" + from + "\r\nbody\r\n", &split{"", " x\r\n" + from + "\r\nbody\r\n"}, nil},
		{"H6 From of a mailbox", mailbox + from + "\r\nbody\r\n", &split{"", mailbox + from + "\r\nbody\r\n"}, &split{"X-Mailbox-Line: " + mailbox + from, "body\r\n"}},
		{"H6 bare LF", from + "\n\nbody\r\n", nil, &split{from, "\r\nbody\r\n"}},
		{"H6 bare CR", from + "X-A: a\r\rX-B: b\r\n\r\nbody\r\n", nil, &split{from + "X-A: a  X-B: b\r\n", "body\r\n"}},
		{"H6 NUL", from + "\x00\r\nX-B: y\r\n\r\nbody\r\n", nil, &split{from, "\x00\r\nX-B: y\r\n\r\nbody\r\n"}},
		{"H7 Bcc", from + "Bcc: other@example.com\r\n\r\nbody\r\n", &split{from + "Bcc: other@example.com\r\n", "body\r\n"}, &split{from, "body\r\n"}},
		{"H7 Resent", resent + from + "\r\nbody\r\n", &split{resent + from, "body\r\n"}, nil},
		{"H7 ours", "X-Gatepost-Debug: x\r\n" + from + "X-Gatepost-ID: x\r\n\r\nbody\r\n", &split{from, "body\r\n"}, nil},
	}
}

// Every message is split in one place, and what arrives can be split in no other.
// Behind the same place a scanner finds what is there, and before it nobody does.
func TestHeaderEnds(t *testing.T) {
	d := newTwoDoors(t, binaries.race, nil)
	for door, addr := range d.doors {
		for i, row := range splitRows() {
			t.Run(door+" "+row.name, func(t *testing.T) {
				want := row.want
				if door == "milter" && row.mta != nil {
					want = row.mta
				}
				from := fmt.Sprintf("split%d@%s.test", i, door)
				send := func(text string) testkit.Result {
					return testkit.Send(addr, testkit.Letter{From: from, To: []string{"u@example.com"}, Data: []byte(text)})
				}
				res := send(row.text)
				if want == nil {
					if res.Err != nil || res.Code/100 != 5 {
						t.Errorf("got %v, want it refused", res)
					}
					return
				}
				if !res.Accepted() {
					t.Fatalf("got %v", res)
				}
				var got []byte
				testkit.Eventually(t, authWait, "it arrives", func() bool {
					for _, m := range d.sink.Mails() {
						if strings.Contains(m.From, from) {
							got = m.Data
						}
					}
					return got != nil
				})
				head, body, _ := bytes.Cut(got, []byte("\r\n\r\n"))
				if !strings.HasSuffix("\r\n"+strings.TrimRight(string(head), "\r\n")+"\r\n", "\r\n"+want.head) || string(body) != want.body {
					t.Errorf("arrived:\n%q\n%q\nwant:\n%q\n%q", head, body, want.head, want.body)
				}
				if strings.HasSuffix(row.text, "body\r\n") {
					isVirus(t, send(strings.TrimSuffix(row.text, "body\r\n")+testkit.EICAR()+"\r\n"))
				}
			})
		}
	}
}
