package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatepost/internal/console"
	"gatepost/internal/history"
	"gatepost/internal/mail"
)

// recording is a handler whose decisions are kept, and what was kept.
type recording struct {
	*recorded
	t     *testing.T
	store *history.Store
}

func newRecording(t *testing.T, inner mail.Handler) *recording {
	t.Helper()
	cfg := history.DefaultConfig()
	cfg.Path = filepath.Join(t.TempDir(), "history.db")
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	store, err := history.Open(cfg, history.Options{Log: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- store.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	g := &gateway{told: witnesses{history: store, feed: console.NewFeed()}, log: log}
	return &recording{g.recorded(inner, "7").(*recorded), t, store}
}

// kept waits for n records.
func (r *recording) kept(n int) []history.Record {
	r.t.Helper()
	var page history.Page
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		var err error
		if page, err = r.store.Search(context.Background(), history.Query{}); err == nil && len(page.Records) >= n {
			break
		}
	}
	if len(page.Records) != n {
		r.t.Fatalf("%d records, want %d: %+v", len(page.Records), n, page.Records)
	}
	return page.Records
}

// toldWhat answers as it is told.
type toldWhat struct {
	mail.Handler
	message mail.Verdict
}

func (v toldWhat) Mail(context.Context, *mail.Transaction) mail.Verdict    { return mail.Verdict{} }
func (v toldWhat) Message(context.Context, *mail.Transaction) mail.Verdict { return v.message }
func (v toldWhat) Abort(*mail.Transaction)                                 {}
func (v toldWhat) Close()                                                  {}

func dialogue(t *testing.T, rcpts ...string) *mail.Transaction {
	t.Helper()
	now := time.Now()
	tx := &mail.Transaction{ID: mail.NewID(now), Session: &mail.Session{Via: mail.ViaSMTP, Helo: "c.example"}, Start: now}
	for _, r := range rcpts {
		a, err := mail.ParseAddress(r, false)
		if err != nil {
			t.Fatal(err)
		}
		tx.Envelope.Recipients = append(tx.Envelope.Recipients, mail.Path{Address: a})
	}
	return tx
}

func refusedRcpt(about string) mail.Answer {
	return mail.Answer{Stage: mail.StageRcpt, Action: mail.Reject, Reply: mail.Reply{Code: 550, Detail: "1.1", Text: "unknown"}, About: about}
}

func TestRecorded(t *testing.T) {
	ctx := context.Background()
	answered := mail.Answer{Stage: mail.StageMessage, Action: mail.Accept, Reply: mail.Reply{Code: 250, Text: "queued"}}
	message := func(tx *mail.Transaction) {
		h, _, err := mail.SplitHeader([]byte("Subject: hello\r\n\r\n"))
		if err != nil {
			t.Fatal(err)
		}
		tx.Stage, tx.Message = mail.StageMessage, mail.NewMessage(h, strings.NewReader(""), 0)
	}
	t.Run("a message with a refused recipient is one record", func(t *testing.T) {
		r := newRecording(t, toldWhat{message: mail.Verdict{Action: mail.Accept, Rules: []mail.RuleHit{{Rule: "friends"}}}})
		tx := dialogue(t, "a@example.com")
		r.Mail(ctx, tx)
		r.Answered(tx, refusedRcpt("b@example.com"))
		message(tx)
		r.Message(ctx, tx)
		r.Answered(tx, answered)
		r.Close()
		one := r.kept(1)[0]
		if one.Subject != "hello" || one.Generation != "7" || len(one.Rules) != 1 || len(one.Recipients) != 2 || one.Recipients[1].Stage != "rcpt" || one.Action != "accept" {
			t.Errorf("got %+v", one)
		}
	})
	t.Run("only refused recipients", func(t *testing.T) {
		r := newRecording(t, toldWhat{})
		tx := dialogue(t)
		r.Mail(ctx, tx)
		for range 150 {
			r.Answered(tx, refusedRcpt("guess@example.com"))
		}
		r.Abort(tx)
		r.Close()
		if one := r.kept(1)[0]; one.Stage != "rcpt" || len(one.Recipients) != 100 || one.Omitted != 50 {
			t.Errorf("stage %s, %d recipients and %d", one.Stage, len(one.Recipients), one.Omitted)
		}
	})
	t.Run("the second message of a session begins clean", func(t *testing.T) {
		r := newRecording(t, toldWhat{message: mail.Verdict{Action: mail.Accept, Rules: []mail.RuleHit{{Rule: "friends"}}}})
		first := dialogue(t)
		r.Mail(ctx, first)
		r.Answered(first, refusedRcpt("b@example.com"))
		tx := dialogue(t, "a@example.com")
		r.Mail(ctx, tx)
		message(tx)
		r.Message(ctx, tx)
		r.Answered(tx, answered)
		all := r.kept(2)
		if all[0].ID != first.ID || all[0].Stage != "rcpt" || all[1].ID != tx.ID || len(all[1].Recipients) != 1 {
			t.Errorf("got %+v", all)
		}
	})
	t.Run("a verdict that nobody was told is no decision", func(t *testing.T) {
		r := newRecording(t, toldWhat{message: mail.Verdict{Action: mail.Reject}})
		tx := dialogue(t, "a@example.com")
		message(tx)
		r.Message(ctx, tx)
		r.Close()
		r.Answered(&mail.Transaction{}, mail.Answer{Stage: mail.StageConnect, Action: mail.TempFail})
		if one := r.kept(1)[0]; one.Stage != "connect" {
			t.Errorf("got %+v", one)
		}
	})
	t.Run("what goes wrong with a record is not the mail's business", func(t *testing.T) {
		r := newRecording(t, toldWhat{})
		r.Answered(nil, mail.Answer{Stage: mail.StageMail, Action: mail.Reject}) // panics inside
		r.Answered(dialogue(t), mail.Answer{Stage: mail.StageMail, Action: mail.Reject})
		r.kept(1)
	})
}

func TestMoment(t *testing.T) {
	zone := time.FixedZone("", 3600)
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, zone)
	for in, want := range map[string]time.Time{
		"2h": now.Add(-2 * time.Hour), "7d": now.Add(-7 * 24 * time.Hour), "now": now, "today": time.Date(2026, 3, 1, 0, 0, 0, 0, zone),
		"yesterday": time.Date(2026, 2, 28, 0, 0, 0, 0, zone), "2026-02-03": time.Date(2026, 2, 3, 0, 0, 0, 0, zone),
		"2026-02-03 04:05": time.Date(2026, 2, 3, 4, 5, 0, 0, zone), "2026-02-03T04:05:06Z": time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC), "": {},
	} {
		if got, err := moment("since", in, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v, want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"2", "soon", "2026-13-01", "2h ago"} {
		if got, err := moment("since", in, now); err == nil {
			t.Errorf("%q: %v, want an error", in, got)
		}
	}
}

// W8: nothing of a record can move the cursor or be run by a spreadsheet.
func TestHostileRecord(t *testing.T) {
	evil := "=cmd|' /C calc'!A0\x1b]0;t\a\u202e\r\nX\t"
	r := history.Record{
		ID: evil, Stage: "message", Action: "reject", Reply: evil, Reason: evil, From: evil, To: evil, Subject: evil, MessageID: evil, Size: 1, Generation: evil,
		Session: history.Session{Helo: evil, Name: evil, User: evil, Listener: evil, Via: evil}, Sender: history.Path{Address: evil, Args: []string{evil}},
		Recipients: []history.Recipient{{Path: history.Path{Address: evil}, Stage: "rcpt", Action: "reject", Reply: evil, Reason: evil, Edits: []string{evil}}},
		Findings:   []history.Finding{{Filter: evil, Name: evil, Value: evil, Text: evil, Rcpt: evil}},
		Asked:      []history.Asked{{Filter: evil, Stage: evil, Result: evil, Took: time.Second}}, Rules: []history.Rule{{Rule: evil, Where: evil, Did: evil, Rcpt: evil}},
		Edits:  []string{evil},
		Inside: &history.Inside{Parts: []history.Part{{Path: evil, Names: []string{evil}, Detected: evil}}, URLs: []history.URL{{Host: evil, Text: evil}}, Ambiguous: []string{evil}},
	}
	var out bytes.Buffer
	a := &app{out: &out}
	events := []history.Event{{ID: evil, What: "x" + mail.EventKind(evil), Rcpt: evil, Text: evil, Remote: evil, By: evil}, {What: mail.EventAttempt, Text: evil, Status: evil}}
	if err := a.printLife(history.Life{Records: []history.Record{r}, Events: events}); err != nil {
		t.Fatal(err)
	}
	out.WriteString(strings.ReplaceAll(traceLine(&r), "\t", ""))
	if strings.ContainsAny(out.String(), "\x1b\a\r\u202e\t") {
		t.Errorf("got %q", out.String())
	}
	out.Reset()
	if err := a.printReportCSV(history.Report{Senders: []history.Named{{Name: evil, Count: 1}, {Name: "-1+1"}, {Name: "a@b"}}, Attempts: map[string]int{"@x": 1}}); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		for cell := range strings.SplitSeq(strings.TrimSpace(line), ",") {
			if cell = strings.TrimPrefix(cell, `"`); cell != "" && strings.ContainsRune("=+-@", rune(cell[0])) {
				t.Errorf("a spreadsheet runs %q", cell)
			}
		}
	}
}
