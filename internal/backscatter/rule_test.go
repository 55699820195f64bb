package backscatter

import (
	"encoding/base64"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
)

// bounce is one of Postfix's, as postcat shows it, made of what a row changes.
type bounce struct {
	received string // lines of the outer header
	from     string
	kind     string // Content-Type of the outer header
	mta      string
	action   string
	part     string // Content-Type of the returned part
	hops     string // Received fields of the returned message
	score    string // its header lines about spam
}

func (b bounce) String() string {
	or := func(s, usual string) string {
		switch s {
		case "":
			return usual
		case "-":
			return ""
		}
		return s
	}
	return or(b.received, "Received: by mx.test (Postfix)\n\tid 4jWvwg3yG7z1SKw0; Sat, 21 Nov 2026 14:39:15 +0000 (UTC)\n") +
		"From: " + or(b.from, "Mail Delivery System <MAILER-DAEMON@mx.test>") + "\n" +
		"Subject: Undelivered Mail Returned to Sender\nAuto-Submitted: auto-replied\n" +
		"Content-Type: " + or(b.kind, "multipart/report; report-type=delivery-status;\n\tboundary=\"B/mx.test\"") + "\n\n" +
		"This is a MIME-encapsulated message.\n\n--B/mx.test\nContent-Type: text/plain; charset=utf-8\n\n" +
		"X-Spam-Status: Yes, score=99\nYour mail came back.\n\n" +
		"--B/mx.test\nContent-Type: message/delivery-status\n\n" +
		"Reporting-MTA: " + or(b.mta, "dns; mx.test") + "\nX-Spam-Status: Yes, score=99\n\n" +
		"Final-Recipient: rfc822; u@example.com\n" + or(b.action, "Action: failed\n") + "Status: 5.1.1\n\n" +
		"--B/mx.test\n" + or(b.part, "Content-Type: message/rfc822\n") + "\n" +
		"Return-Path: <s@victim.test>\n" + or(b.hops, "Received: from client.test (unknown [192.0.2.1])\n\tby mx.test (Postfix) with ESMTP id 4jWv\n\tfor <u@example.com>; Sat, 21 Nov 2026 14:39:15 +0000 (UTC)\n") +
		"From: s@victim.test\n" + or(b.score, "X-Spam-Status: Yes, score=12.5 required=5.0\n") + "Subject: x\n\nbody\n" +
		"X-Spam-Status: Yes, score=99\n\n--B/mx.test--\n"
}

func must(s string) Score {
	v, err := ParseScore(s)
	if err != nil {
		panic(err)
	}
	return v
}

func TestJudge(t *testing.T) {
	rule := Rule{Limit: must("10"), Hosts: []string{"mx.test"}}
	ours := Candidate{Null: true, Recipients: []string{"s@victim.test"}}
	const gone = "is above 10"
	for _, tt := range []struct {
		name string
		c    Candidate
		b    bounce
		want string // part of the reason
	}{
		{"spam", ours, bounce{}, gone},
		{"hits", ours, bounce{score: "X-Spam-Status: Yes, hits=10.1 required=5\n"}, gone},
		{"score of its own field", ours, bounce{score: "X-Spam-Score: 15.2 (+++)\n"}, gone},
		{"folded", ours, bounce{score: "X-Spam-Status: Yes,\n\tscore=12\n\trequired=5\n"}, gone},
		{"name in another case", ours, bounce{score: "x-spam-STATUS : yes score=12\n"}, gone},
		{"a hair above", ours, bounce{score: "X-Spam-Status: Yes, score=10.000000000000000001\n"}, gone},
		{"exactly the limit", ours, bounce{score: "X-Spam-Status: Yes, score=10.0\n"}, "is not above"},
		{"with more noughts", ours, bounce{score: "X-Spam-Status: Yes, score=0010.000\n"}, "is not above"},
		{"below", ours, bounce{score: "X-Spam-Status: No, score=9.9\n"}, "is not above"},
		{"negative", ours, bounce{score: "X-Spam-Status: No, score=-99\n"}, "is not above"},
		{"no score", ours, bounce{score: "-"}, "no spam score"},
		{"not a number", ours, bounce{score: "X-Spam-Status: Yes, score=NaN\n"}, "no spam score"},
		{"an exponent", ours, bounce{score: "X-Spam-Status: Yes, score=1e9\n"}, "no spam score"},
		{"too many digits", ours, bounce{score: "X-Spam-Status: Yes, score=99999999999999\n"}, "no spam score"},
		{"score as the name of a test", ours, bounce{score: "X-Spam-Status: No, tests=[score=99]\n"}, "no spam score"},
		{"two that differ", ours, bounce{score: "X-Spam-Score: 50\nX-Spam-Status: No, score=1\n"}, "is not above"},
		{"header alone", ours, bounce{part: "Content-Type: text/rfc822-headers\n"}, gone},
		{"global", ours, bounce{part: "Content-Type: message/global\n"}, gone},

		{"has a sender", Candidate{Recipients: ours.Recipients}, bounce{}, "has a sender"},
		{"foreign", Candidate{Null: true, Foreign: "from afar", Recipients: ours.Recipients}, bounce{}, "from afar"},
		{"two recipients", Candidate{Null: true, Recipients: []string{"a@b.test", "c@d.test"}}, bounce{}, "one recipient"},
		{"no recipient", Candidate{Null: true}, bounce{}, "one recipient"},
		{"postmaster", Candidate{Null: true, Recipients: []string{"Postmaster@mx.test"}}, bounce{}, "operator"},
		{"user known", Candidate{Null: true, Recipients: ours.Recipients, User: "alice"}, bounce{}, "authenticated"},
		{"our verdict", Candidate{Null: true, Recipients: ours.Recipients, Verdict: must("3.5")}, bounce{}, "score 3.5 (our own verdict) is not above"},
		{"our verdict without a header", Candidate{Null: true, Recipients: ours.Recipients, Verdict: must("30")}, bounce{score: "-"}, gone},

		{"not from MAILER-DAEMON", ours, bounce{from: "a@b.test"}, "MAILER-DAEMON"},
		{"came over SMTP", ours, bounce{received: "Received: from evil.test (evil.test [192.0.2.9])\n\tby mx.test (Postfix) with ESMTP id 1\n"}, "elsewhere"},
		{"came from loopback", ours, bounce{received: "Received: from localhost (localhost [127.0.0.1])\n\tby mx.test (Postfix) with ESMTP id 1\n"}, "elsewhere"},
		{"came from a user", ours, bounce{received: "Received: by mx.test (Postfix, from userid 1000)\n\tid 1\n"}, "elsewhere"},
		{"user of sendmail", ours, bounce{received: "Received: (from alice@localhost)\n\tby mx.test (8.17/8.17/Submit) id 1\n"}, "elsewhere"},
		{"born elsewhere", ours, bounce{received: "Received: by other.test (Postfix)\n\tid 1\n"}, "elsewhere"},
		{"two Received", ours, bounce{received: "Received: by mx.test (Postfix)\n\tid 1\nReceived: by mx.test (Postfix)\n\tid 2\n"}, "elsewhere"},
		{"born in sendmail", ours, bounce{received: "Received: from localhost (localhost)\n\tby mx.test (8.17.1.9/8.17.1.9) id 6ALEhKF4028690;\n\tSat, 21 Nov 2026 14:43:20 GMT\n"}, gone},
		{"born in us", ours, bounce{received: "-"}, gone},
		{"another host reports", ours, bounce{mta: "dns; other.test"}, "another host"},
		{"nobody reports", ours, bounce{mta: "-"}, "another host"},
		{"a delay", ours, bounce{action: "Action: delayed\n"}, "more than failures"},
		{"a success", ours, bounce{action: "Action: relayed\n"}, "more than failures"},
		{"both", ours, bounce{action: "Action: failed\n\nAction: delivered\n"}, "more than failures"},
		{"no action", ours, bounce{action: "-"}, "no failure"},
		{"text", ours, bounce{kind: "text/plain"}, "not a delivery report"},
		{"mixed", ours, bounce{kind: "multipart/mixed; boundary=\"B/mx.test\""}, "not a delivery report"},
		{"disposition", ours, bounce{kind: "multipart/report; report-type=disposition-notification; boundary=\"B/mx.test\""}, "not a delivery report"},
		{"no boundary", ours, bounce{kind: "multipart/report; report-type=delivery-status"}, "not a delivery report"},
		{"nothing returned", ours, bounce{part: "Content-Type: text/plain\n"}, "no returned message"},

		{"logged in, Postfix", ours, bounce{hops: "Received: from pc (unknown [192.0.2.1])\n\t(Authenticated sender: alice)\n\tby mx.test (Postfix) with ESMTPSA id 1\n"}, "authenticated"},
		{"logged in, by protocol", ours, bounce{hops: "Received: from pc (x.test [192.0.2.1]) by mx.test (Gatepost) with UTF8SMTPSA id 1\n"}, "authenticated"},
		{"logged in, sendmail", ours, bounce{hops: "Received: from pc (x.test [192.0.2.1])\n\t(authenticated bits=0)\n\tby mx.test (8.17/8.17) with ESMTP id 1\n"}, "authenticated"},
		{"logged in, before a content filter", ours, bounce{hops: "Received: from localhost (localhost [127.0.0.1]) by mx.test (Postfix) with ESMTP id 2\nReceived: from localhost ([127.0.0.1]) by localhost (mx.test [127.0.0.1]) (amavis) with ESMTP id x\nReceived: from pc (x.test [192.0.2.1]) by mx.test (Postfix) with ESMTPSA id 1\n"}, "authenticated"},
		{"logged in elsewhere", ours, bounce{hops: "Received: from a.test (a.test [192.0.2.1]) by mx.test (Postfix) with ESMTPS id 2\nReceived: from pc (x [192.0.2.7]) by mx.test (Postfix) with ESMTPSA id 1\n"}, gone},
		{"a user here", ours, bounce{hops: "Received: by mx.test (Postfix, from userid 1000)\n\tid 1\n"}, "user of this host"},
		{"a user here, sendmail", ours, bounce{hops: "Received: from mx.test (localhost [127.0.0.1])\n\tby mx.test (8.17/8.17) with ESMTP id 1\nReceived: (from www@localhost)\n\tby mx.test (8.17/8.17/Submit) id 2\n"}, "user of this host"},
		{"never came through here", ours, bounce{hops: "Received: from a.test (a.test [192.0.2.1]) by other.test (Postfix) with ESMTP id 2\n"}, "through this host"},
		{"no trace", ours, bounce{hops: "-"}, "does not show"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, eol := range []string{"\n", "\r\n"} {
				d := rule.Judge(tt.c, strings.NewReader(strings.ReplaceAll(tt.b.String(), "\n", eol)))
				if d.Delete != (tt.want == gone) || !strings.Contains(d.Reason, tt.want) || tt.want == gone && strings.Contains(d.Reason, "not above") {
					t.Errorf("got %v, %q, want %q", d.Delete, d.Reason, tt.want)
				}
			}
		})
	}
}

// A returned header may be encoded: ours is where it has UTF-8 in it.
func TestEncodedHeader(t *testing.T) {
	const header = "Received: from a.test (a.test [192.0.2.1]) by mx.test (Postfix) with ESMTP id 2\nSubject: =\nX-Spam-Status: Yes, score=12.5\n"
	rule := Rule{Limit: must("10"), Hosts: []string{"mx.test"}}
	for encoding, text := range map[string]string{
		"quoted-printable": strings.ReplaceAll(strings.ReplaceAll(header, "=", "=3D"), "Status", "St=\nat=75s"),
		"base64":           base64.StdEncoding.EncodeToString([]byte(header)),
		"8bit":             header,
	} {
		b := bounce{part: "Content-Type: text/rfc822-headers\nContent-Transfer-Encoding: " + encoding + "\n"}.String()
		at := strings.Index(b, "Return-Path:")
		b = b[:at] + text + "\n--B/mx.test--\n"
		if d := rule.Judge(Candidate{Null: true, Recipients: []string{"a@b.test"}}, strings.NewReader(b)); !d.Delete {
			t.Errorf("%s: %s", encoding, d.Reason)
		}
	}
}

// counting counts what is read.
type counting struct {
	r io.Reader
	n int
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

// L6: forged reports of 10 MB cost no more than the first megabyte of them.
func TestHugeReports(t *testing.T) {
	rule := Rule{Limit: must("10"), Hosts: []string{"mx.test"}}
	real := bounce{}.String()
	fill := func(unit string) string { return strings.Repeat(unit, 10<<20/len(unit)) }
	for name, s := range map[string]string{
		"lines before the parts":   strings.Replace(real, "This is a MIME", fill("x\n")+"This is a MIME", 1),
		"one line":                 strings.Replace(real, "This is a MIME", fill("x")+"\nThis is a MIME", 1),
		"header fields":            strings.Replace(real, "From: Mail", fill("A: b\n")+"From: Mail", 1),
		"one header field":         strings.Replace(real, "From: Mail", "A: b\n"+fill(" folded\n")+"From: Mail", 1),
		"parts":                    strings.Replace(real, "--B/mx.test\nContent-Type: message/rfc822", fill("--B/mx.test\n\n")+"--B/mx.test\nContent-Type: message/rfc822", 1),
		"recipients":               strings.Replace(real, "Action: failed\n", fill("Action: failed\n"), 1),
		"returned header":          strings.Replace(real, "Return-Path:", fill("A: b\n")+"Return-Path:", 1),
		"returned header, encoded": strings.Replace(real, "Content-Type: message/rfc822\n", "Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n"+fill("QTogYgo=\n"), 1),
		"one returned line":        strings.Replace(real, "Return-Path:", "A: "+fill("x")+"\nReturn-Path:", 1),
	} {
		t.Run(name, func(t *testing.T) {
			c := &counting{r: strings.NewReader(s)}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			d := rule.Judge(Candidate{Null: true, Recipients: []string{"a@b.test"}}, c)
			runtime.ReadMemStats(&after)
			if d.Delete {
				t.Errorf("deleted: %s", d.Reason)
			}
			if c.n > Longest+maxLine {
				t.Errorf("%d bytes were read", c.n)
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > 16<<20 {
				t.Errorf("%d bytes were allocated", used)
			}
		})
	}
	if d := rule.Judge(Candidate{Null: true, Recipients: []string{"a@b.test"}}, strings.NewReader(real+fill("x\n"))); !d.Delete {
		t.Errorf("a large body behind the header: %s", d.Reason)
	}
}

func TestScores(t *testing.T) {
	for _, s := range []string{"", "ten", "1e3", "0x10", "1/3", "Inf", "1.", ".5", " 1", "1 ", "--1", "1.0.0", "1234567890"} {
		if v, err := ParseScore(s); err == nil {
			t.Errorf("%q is taken for %v", s, v)
		}
	}
	for _, tt := range []struct {
		sum  float64
		want bool
	}{{9.9 + 0.1, false}, {0.1 + 0.2 + 9.7, false}, {10.001, true}, {10.0001, false}, {-10.5, false}} {
		v, err := SumScore(tt.sum)
		if err != nil || v.Above(must("10")) != tt.want {
			t.Errorf("%v: %v %v", tt.sum, v, err)
		}
	}
	if (Score{}).Above(must("-1")) {
		t.Error("no score is above something")
	}
}

// What strangers write makes no panic, and no bounce whose parts are not all
// there is given up.
func FuzzJudge(f *testing.F) {
	f.Add([]byte(bounce{}.String()))
	f.Add([]byte(strings.ReplaceAll(bounce{part: "Content-Type: text/rfc822-headers\nContent-Transfer-Encoding: quoted-printable\n"}.String(), "\n", "\r\n")))
	f.Add([]byte(bounce{hops: "Received: from localhost (localhost [IPv6:::1]) by mx.test ((nested) comment) with ESMTPA id 2; now\n"}.String()))
	f.Add([]byte("Content-Type: multipart/report; report-type=delivery-status; boundary=b\n\n--b\nContent-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n====\n--b--"))
	f.Add([]byte(fmt.Sprintf("Received: %s\n\n", strings.Repeat("(", 1000))))
	rule := Rule{Limit: must("10"), Hosts: []string{"mx.test"}}
	f.Fuzz(func(t *testing.T, b []byte) {
		d := rule.Judge(Candidate{Null: true, Recipients: []string{"a@b.test"}}, strings.NewReader(string(b)))
		if d.Reason == "" {
			t.Error("no reason")
		}
		lower := strings.ToLower(string(b))
		for _, part := range []string{"mailer-daemon", "report", "mx.test"} {
			if d.Delete && !strings.Contains(lower, part) {
				t.Errorf("deleted without %q: %s", part, d.Reason)
			}
		}
	})
}
