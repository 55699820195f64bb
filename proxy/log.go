package proxy

import (
	"context"
	"log/slog"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"gatepost/internal/mail"
)

// Bounds of what one line tells.
const (
	logText  = 256
	logRcpts = 5
	logRules = 20
)

func (s *session) logPanic(p any) {
	s.log.Error("panic", "client", s.client, "id", s.txID(), "panic", p, "stack", string(debug.Stack()))
}

// logReject notes a refusal before there is a message ("NOQUEUE").
func (s *session) logReject(stage mail.Stage, about string, r mail.Reply, reason string) {
	from, to := "", ""
	switch {
	case stage == mail.StageMail:
		from = about
	case s.tx != nil:
		from, to = s.tx.Envelope.Sender.String(), about
	}
	s.answeredAt(stage, about, r, reason)
	s.log.Info("reject", "stage", stage.String(), "client", s.client, "helo", s.facts.Helo,
		"from", clip(from, logText), "to", clip(to, logText), "reply", r.String(), "reason", clip(reason, logText))
}

// answeredAt tells the handler what it was that the client was told.
func (s *session) answeredAt(stage mail.Stage, about string, r mail.Reply, reason string) {
	a := mail.Answer{Stage: stage, Action: mail.Reject, Reply: r, Reason: reason, About: about}
	if r.Code/100 == 4 {
		a.Action = mail.TempFail
	}
	if s.tx != nil {
		mail.Answered(s.handler, &s.tx.Transaction, a)
		return
	}
	mail.Answered(s.handler, &mail.Transaction{Stage: stage, Session: s.facts, Findings: s.base.Findings}, a)
}

// logDecision notes and counts how a message ended.
func (s *session) logDecision(ctx context.Context, tx *transaction, d decision) {
	s.deps.Stats.Message(s.set.Name, d.action.String(), d.cause, tx.in.size)
	mail.Answered(s.handler, &tx.Transaction, mail.Answer{Stage: mail.StageMessage, Action: d.action, Reply: d.reply, Reason: d.reason})
	if !s.log.Enabled(ctx, slog.LevelInfo) {
		return
	}
	attrs := []slog.Attr{
		slog.String("id", tx.ID),
		slog.String("client", s.client),
		slog.String("helo", s.facts.Helo),
		slog.String("from", tx.Envelope.Sender.String()),
		slog.String("to", firstRcpts(tx.Envelope.Recipients)),
		slog.Int("nrcpt", len(tx.Envelope.Recipients)),
		slog.Int64("size", tx.in.size),
		slog.String("action", d.action.String()),
		slog.Float64("score", tx.Score()),
		slog.String("rules", rulesOf(tx.Findings)),
		slog.String("reason", clip(d.reason, logText)),
		slog.String("reply", d.reply.String()),
		slog.Duration("took", time.Since(tx.Start)),
	}
	if s.facts.Proxied.IsValid() {
		attrs = append(attrs, slog.String("proxied", s.facts.Proxied.String()))
	}
	if s.facts.TLS != nil {
		attrs = append(attrs, slog.String("tls", s.facts.TLS.Version))
	}
	if tx.Message != nil {
		attrs = append(attrs, slog.String("mid", clip(tx.Message.Header.Get("Message-ID"), logText)))
	}
	s.log.LogAttrs(ctx, slog.LevelInfo, "message", attrs...)
}

func firstRcpts(rcpts []mail.Path) string {
	var b strings.Builder
	for i, r := range rcpts {
		if i == logRcpts {
			return b.String() + " +" + strconv.Itoa(len(rcpts)-i)
		}
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(r.Address.String())
	}
	return b.String()
}

// rulesOf names the findings: filter:name=value.
func rulesOf(fs []mail.Finding) string {
	var b strings.Builder
	fs = slices.DeleteFunc(slices.Clone(fs), func(f mail.Finding) bool { return f.Name == mail.FindingReport })
	for i, f := range fs {
		if i == logRules {
			return b.String() + " +" + strconv.Itoa(len(fs)-i)
		}
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(f.Filter + ":" + f.Name)
		if f.Value != "" {
			b.WriteString("=" + clip(f.Value, 80))
		}
	}
	return b.String()
}

// clip cuts s to at most n bytes, between characters.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

func (s *session) txID() string {
	if s.tx == nil {
		return ""
	}
	return s.tx.ID
}
