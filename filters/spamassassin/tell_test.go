package spamassassin

import (
	"errors"
	"os"
	"strings"
	"testing"

	"gatepost/internal/mail"
	"gatepost/internal/testkit"
)

func TestLearn(t *testing.T) {
	const ok = "SPAMD/1.1 0 EX_OK\r\nDidSet: local\r\nContent-length: 2\r\n\r\n\r\n"
	m := message(t, plain).Message
	for _, tt := range []struct {
		name   string
		lesson Lesson
		user   string
		reply  string
		asks   string // headers
		news   bool
		err    string
	}{
		{"spam", Spam, "", ok, "Message-class: spam\r\nSet: local\r\n", true, ""},
		{"ham", Ham, "anna", ok, "Message-class: ham\r\nSet: local\r\n", true, ""},
		{"forget", Forget, "", strings.Replace(ok, "DidSet", "DidRemove", 1), "Remove: local\r\n", true, ""},
		{"report", Report, "", strings.Replace(ok, "local", "local,remote", 1), "Message-class: spam\r\nSet: local, remote\r\n", true, ""},
		{"revoke", Revoke, "", ok, "Message-class: ham\r\nSet: local\r\nRemove: remote\r\n", true, ""},
		{"known already", Spam, "", "SPAMD/1.1 0 EX_OK\r\nContent-length: 2\r\n\r\n\r\n", "Message-class: spam\r\nSet: local\r\n", false, ""},
		{"not allowed", Spam, "", "SPAMD/1.0 69 Service Unavailable: TELL commands are not enabled, set the --allow-tell switch.\r\n\r\n", "", false, "--allow-tell"},
		{"an error", Spam, "", "SPAMD/1.0 76 Bad header line: (x)\r\n\r\n", "", false, "spamd says"},
		{"cut", Spam, "", "SPAMD/1.1 0 EX_OK\r\nDidSet: lo", "", false, "reply"},
		{"no reply", Spam, "", "", "", false, "without a reply"},
		{"endless", Spam, "", strings.Repeat("x", 1<<20), "", false, "larger than"},
		{"no lesson", "burn", "", ok, "", false, "no lesson"},
		{"P3 user", Spam, "a\r\nSet: remote", ok, "", false, "no user"},
		{"P3 directory", Spam, "../x", ok, "", false, "no user"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fake := (&fakeSpamd{reply: tt.reply}).start(t, "tcp")
			news, err := judge(t, Config{}, fake.address).Learn(t.Context(), tt.lesson, tt.user, m)
			if news != tt.news || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%t, %v; want %t, %q", news, err, tt.news, tt.err)
			}
			request, content := fake.got()
			if tt.asks != "" && (!strings.HasPrefix(request, "TELL SPAMC/1.5\r\n"+tt.asks+"Content-length: ") || content != plain) {
				t.Errorf("asked %q with %q", request, content)
			}
			if tt.user == "anna" && !strings.Contains(request, "\r\nUser: anna\r\n") {
				t.Errorf("asked %q", request)
			}
		})
	}
	if _, err := judge(t, Config{MaxSize: 10}, "tcp:127.0.0.1:1").Learn(t.Context(), Spam, "", m); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
}

// Real spamd learns, and its score moves: from nothing to BAYES_99 and back.
func TestRealSpamdLearns(t *testing.T) {
	if testing.Short() {
		t.Skip("starts spamd")
	}
	data := testkit.Dir(t)
	if err := os.Chmod(data, 0o777); err != nil { // spamd's children are nobody
		t.Fatal(err)
	}
	s := testkit.NewSpamd(testkit.Dir(t), "use_bayes 1", "bayes_path "+data+"/bayes", "bayes_file_mode 0777",
		"bayes_min_spam_num 1", "bayes_min_ham_num 1", "bayes_auto_learn 0", "score BAYES_00 -3", "score BAYES_99 4", "score BAYES_80 3", "score BAYES_95 3.5")
	s.Args = append(s.Args, "--allow-tell")
	d := testkit.Up(t, s)
	f := judge(t, Config{}, "unix:"+d.Socket)
	letter := func(id, text string) *mail.Transaction {
		return message(t, "Received: from helo.example (client.example [192.0.2.7]) by mx1.example.com; Sat, 21 Nov 2026 10:00:00 +0000\r\n"+string(testkit.Message(id, "offer", text)))
	}
	spam := "cheap watches pills lottery winner claim prize casino jackpot bonus guaranteed unlimited refinance mortgage offshore"
	ham := "minutes meeting agenda compiler patch review release branch merge quarterly budget spreadsheet invoice colleague"
	score := func() float64 {
		tx := letter("probe", spam)
		r, err := f.Check(t.Context(), tx)
		if err != nil {
			t.Fatal(err)
		}
		t.Log(verdict(r, err))
		return r.Findings[0].Score
	}
	before := score()
	var last *mail.Transaction
	for i, words := range []string{spam, ham} {
		lesson := []Lesson{Spam, Ham}[i]
		for _, n := range []string{"1", "2", "3"} {
			tx := letter(string(lesson)+n, words+" "+n)
			last = tx
			if news, err := f.Learn(t.Context(), lesson, "", tx.Message); err != nil || !news {
				t.Fatalf("%s: %t, %v", lesson, news, err)
			}
			if news, err := f.Learn(t.Context(), lesson, "", tx.Message); err != nil || news {
				t.Errorf("%s again: %t, %v", lesson, news, err)
			}
		}
	}
	after := score()
	t.Logf("score %v before, %v after", before, after)
	if after < before+2 {
		t.Errorf("score %v, before it learned %v", after, before)
	}
	if news, err := f.Learn(t.Context(), Forget, "", last.Message); err != nil || !news {
		t.Errorf("forget: %t, %v", news, err)
	}
}

// A spamd without --allow-tell says so.
func TestRealSpamdWithoutTell(t *testing.T) {
	if testing.Short() {
		t.Skip("starts spamd")
	}
	d := testkit.Up(t, testkit.NewSpamd(testkit.Dir(t)))
	if _, err := judge(t, Config{}, "tcp:"+d.Addr).Learn(t.Context(), Spam, "", message(t, plain).Message); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("got %v", err)
	}
}
