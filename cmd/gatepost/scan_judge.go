package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"gatepost/internal/history"
	"gatepost/internal/mail"
)

// scanResult is what became of one message, for people and machines.
type scanResult struct {
	File       string          `json:"file"`
	Verdict    string          `json:"verdict"`
	Stage      string          `json:"stage"` // at which it was decided
	Score      float64         `json:"score"`
	Reason     string          `json:"reason,omitempty"`
	Reply      string          `json:"reply,omitempty"`
	Findings   []scanFinding   `json:"findings"`
	Recipients []scanRecipient `json:"recipients,omitempty"` // where they differ
	Added      []string        `json:"added,omitempty"`      // header fields
	Size       int64           `json:"size"`
	Converted  bool            `json:"converted,omitempty"` // LF to CRLF

	action mail.Action
	record history.Record // the same, as it would be kept
}

type scanFinding struct {
	Filter string  `json:"filter"`
	Name   string  `json:"name"`
	Value  string  `json:"value,omitempty"`
	Score  float64 `json:"score,omitempty"`
	Text   string  `json:"text,omitempty"`
}

type scanRecipient struct {
	Address string `json:"address"`
	Verdict string `json:"verdict"`
	Reason  string `json:"reason,omitempty"`
	Reply   string `json:"reply,omitempty"`
}

// file judges one file.
func (s *scanner) file(ctx context.Context, name string) (scanResult, error) {
	in := s.stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return scanResult{}, err
		}
		defer f.Close()
		in = f
	}
	c, err := asSent(in, s.limit)
	if err != nil {
		return scanResult{}, err
	}
	defer c.file.Close()
	r := scanResult{File: name, Findings: []scanFinding{}, Size: c.size, Converted: c.converted}
	if c.wrong != "" {
		r.refused(c.wrong)
		return r, nil
	}
	msg, err := mail.ReadMessage(c.file, c.size)
	if err != nil {
		r.refused(err.Error())
		return r, nil
	}
	s.judgeMessage(ctx, s.received(msg), &r)
	return r, nil
}

// received puts the field on top that a listener puts there for a client that
// is known.
func (s *scanner) received(m *mail.Message) *mail.Message {
	if !s.session.Client.IsValid() {
		return m
	}
	name, ip := cmp.Or(s.session.Name, "unknown"), s.session.Client.Addr()
	literal := "[" + ip.String() + "]"
	if ip.Is6() {
		literal = "[IPv6:" + ip.String() + "]"
	}
	f := mail.NewField("Received", fmt.Sprintf("from %s (%s %s) by %s (Gatepost) with ESMTP; %s",
		s.session.Helo, name, literal, s.hostname, time.Now().Format(time.RFC1123Z)))
	return mail.NewMessage(append(mail.Header{f}, m.Header...), m.Body(), m.BodySize())
}

// judgeMessage goes through the stages of a session.
func (s *scanner) judgeMessage(ctx context.Context, msg *mail.Message, r *scanResult) {
	now := time.Now()
	facts := s.session
	facts.ID, facts.Start = mail.NewID(now), now
	tx := &mail.Transaction{ID: mail.NewID(now), Session: &facts, Start: now}
	h := s.newHandler()
	defer h.Close()
	defer r.findings(tx)

	at := func(stage mail.Stage, ask func() mail.Verdict) (ended bool) {
		tx.Stage = stage
		v := ask()
		if stage == mail.StageMessage || v.Action >= mail.TempFail {
			r.decided(stage, v)
			r.record = history.Make(tx, v, mail.Answer{Stage: stage, Action: v.Action, Reply: v.Reply, Reason: v.Reason}, nil, time.Now())
			return true
		}
		return false
	}
	if at(mail.StageConnect, func() mail.Verdict { return h.Connect(ctx, tx) }) ||
		at(mail.StageHelo, func() mail.Verdict { return h.Helo(ctx, tx) }) {
		return
	}
	tx.Envelope.Sender = s.sender
	if at(mail.StageMail, func() mail.Verdict { return h.Mail(ctx, tx) }) {
		return
	}
	for _, to := range s.rcpts {
		if !at(mail.StageRcpt, func() mail.Verdict { return h.Rcpt(ctx, tx, to) }) {
			tx.Envelope.Recipients = append(tx.Envelope.Recipients, to)
		}
	}
	if len(tx.Envelope.Recipients) == 0 {
		return // the last refusal stands
	}
	if at(mail.StageData, func() mail.Verdict { return h.Data(ctx, tx) }) {
		return
	}
	tx.Message = msg
	at(mail.StageMessage, func() mail.Verdict {
		v := h.Message(ctx, tx)
		r.recipients(tx.Envelope.Recipients, v)
		return v
	})
}

// refused notes that no listener takes such a message.
func (r *scanResult) refused(why string) {
	v := mail.Verdict{Action: mail.Reject, Reason: why}
	r.decided(mail.StageData, v)
	r.record = history.Make(&mail.Transaction{}, v, mail.Answer{Stage: mail.StageData, Action: v.Action, Reason: why}, nil, time.Now())
}

func (r *scanResult) decided(stage mail.Stage, v mail.Verdict) {
	r.action, r.Stage, r.Verdict, r.Reason, r.Reply = v.Action, stage.String(), verdictName(v.Action), v.Reason, replyText(v.Reply)
	for _, e := range v.Edits {
		if insert, ok := e.(mail.InsertHeader); ok {
			r.Added = append(r.Added, insert.Field.Name()+": "+insert.Field.Value())
		}
	}
}

func (r *scanResult) recipients(to []mail.Path, v mail.Verdict) {
	for i := range v.Recipients {
		one := v.For(i)
		r.Recipients = append(r.Recipients, scanRecipient{to[i].String(), verdictName(one.Action), one.Reason, replyText(one.Reply)})
	}
}

func (r *scanResult) findings(tx *mail.Transaction) {
	r.Score = tx.Score()
	for _, f := range tx.Findings {
		r.Findings = append(r.Findings, scanFinding{f.Filter, f.Name, f.Value, f.Score, f.Text})
	}
}

// verdictName calls what passes by one name.
func verdictName(a mail.Action) string {
	if a.Delivers() {
		return "deliver"
	}
	return a.String()
}

func replyText(r mail.Reply) string {
	if r.IsZero() {
		return ""
	}
	return r.String()
}

// summary says on one line what each filter found.
func (r scanResult) summary() string {
	var names []string
	said := make(map[string][]string)
	for _, f := range r.Findings {
		if said[f.Filter] == nil {
			names = append(names, f.Filter)
		}
		said[f.Filter] = append(said[f.Filter], f.short())
	}
	for i, name := range names {
		names[i] = name + "=" + strings.Join(said[name], ",")
	}
	return strings.Join(names, " ")
}

func (f scanFinding) short() string {
	switch f.Name {
	case mail.FindingVirus, mail.FindingSpamRule:
		return f.Value
	case mail.FindingSpamScore:
		return fmt.Sprintf("%.1f", f.Score)
	case mail.FindingClean:
		return "clean"
	case mail.FindingFailed:
		return "failed(" + f.Text + ")"
	}
	return f.Name + "(" + f.Value + ")"
}
