package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"gatepost/internal/mail"
	"gatepost/proxy"
	"gatepost/proxy/spool"
)

// noticeWriter writes the mails that rules want somebody to get. They have no
// sender, so that nothing ever answers them, and are not judged.
type noticeWriter struct {
	hostname string
	spool    *spool.Spool
	queue    proxy.Queue
	log      *slog.Logger
}

// maxNotices are written for one message.
const maxNotices = 20

func (n *noticeWriter) write(ctx context.Context, tx *mail.Transaction, v mail.Verdict) {
	for _, notice := range v.Notices[:min(len(v.Notices), maxNotices)] {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		if err := n.one(ctx, tx, v, notice); err != nil {
			n.log.ErrorContext(ctx, "notice of a rule not written", "id", tx.ID, "rule", notice.Rule, "to", notice.To.String(), "error", err)
		}
		cancel()
	}
}

func (n *noticeWriter) one(ctx context.Context, tx *mail.Transaction, v mail.Verdict, notice mail.Notice) error {
	id := mail.NewID(time.Now())
	header, body := n.text(id, tx, v, notice)
	d := n.spool.Draft(id)
	defer d.Discard() // does nothing after a commit
	if _, err := d.Write(body); err != nil {
		return err
	}
	e := spool.Entry{
		ID: id, Group: tx.ID, Received: time.Now(), Origin: spool.FromJournal, State: spool.Queue, Header: header,
		Envelope: mail.Envelope{Recipients: []mail.Path{{Address: notice.To}}}, Subject: "Message " + tx.ID,
	}
	if err := n.spool.Commit(ctx, d, e); err != nil {
		return err
	}
	n.queue.Accepted(id)
	return nil
}

// text is the notice: what came, and what became of it. What strangers wrote
// stands in it as text alone, without what would make a link or a field of it.
func (n *noticeWriter) text(id string, tx *mail.Transaction, v mail.Verdict, notice mail.Notice) (header, body []byte) {
	var h, b bytes.Buffer
	for _, f := range [][2]string{
		{"X-Gatepost-ID", id},
		{"From", "Gatepost <postmaster@" + n.hostname + ">"},
		{"To", notice.To.String()},
		{"Subject", "Rule " + notice.Rule + " matched a message: " + v.Action.String()},
		{"Date", time.Now().Format(time.RFC1123Z)},
		{"Message-ID", "<" + id + "@" + n.hostname + ">"},
		{"Auto-Submitted", "auto-generated"},
		{"MIME-Version", "1.0"},
		{"Content-Type", "text/plain; charset=utf-8"},
		{"Content-Transfer-Encoding", "8bit"},
	} {
		h.Write(mail.NewField(f[0], f[1]).Raw())
	}
	subject := ""
	if tx.Message != nil {
		subject = tx.Message.Header.Get("Subject")
	}
	to := make([]string, 0, len(notice.Rcpts))
	for _, a := range notice.Rcpts[:min(len(notice.Rcpts), 50)] {
		to = append(to, a.String())
	}
	for _, line := range [][2]string{
		{"Rule", notice.Rule + " (" + notice.Where + ")"},
		{"Message", tx.ID},
		{"Client", tx.Session.Client.Addr().String()},
		{"From", tx.Envelope.Sender.Address.Path()},
		{"To", strings.Join(to, ", ")},
		{"Subject", subject},
		{"Became of it", v.Action.String()},
		{"Because", v.Reason},
	} {
		text := mail.CleanText(line[1])
		if r := []rune(text); len(r) > 600 {
			text = string(r[:600]) + "..."
		}
		fmt.Fprintf(&b, "%-13s %s\r\n", line[0]+":", text)
	}
	return h.Bytes(), b.Bytes()
}
