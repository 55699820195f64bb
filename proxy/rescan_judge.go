package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
	"time"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// onItsWay is the reason of a judged message that is to be released as soon as
// the one that it was made of is gone.
const onItsWay = "judged, on its way into the queue"

func names(filters string) []string { return strings.Split(filters, ",") }

// judge judges a message and does what follows. again means that nothing was
// done: it waits on.
func (r *Rescanner) judge(ctx context.Context, id string) (again bool) {
	defer func() {
		if p := recover(); p != nil {
			r.log.Error("panic", "id", id, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			again = true
		}
	}()
	m, err := r.deps.Spool.Get(id)
	if err != nil || !waits(m) {
		return false // it is gone, or somebody else's now
	}
	content, err := r.deps.Spool.Open(id)
	if err != nil {
		r.log.Error("message can't be read", "id", id, "error", err)
		return true
	}
	defer content.Close()
	a, err := newHearing(m, content)
	if err != nil {
		r.log.Error("message can't be read", "id", id, "error", err)
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, rescanTimeout)
	defer cancel()
	h := r.deps.NewHandler(m.Listener)
	defer h.Close()
	a.judge(ctx, h)
	if !a.certain(ctx) {
		r.log.Info("still not judged", "id", id, "reason", clip(a.verdict.Reason, logText))
		return true
	}
	if err := r.carryOut(ctx, a); err != nil {
		r.log.Error("what was judged is not recorded", "id", id, "error", err)
		return true
	}
	mail.Answered(h, &a.tx, a.answer())
	return false
}

// hearing is a stored message while it is judged once more.
type hearing struct {
	old     *spool.Message
	whole   *mail.Message // as it was shown to the handler
	tx      mail.Transaction
	sticky  sticky
	verdict mail.Verdict // the strongest
	parts   []part
	refused []mail.Path // at RCPT
	why     string      // the last of these
}

// newHearing makes a transaction of what was kept of one.
func newHearing(m *spool.Message, content mail.Content) (*hearing, error) {
	whole, err := mail.ReadMessage(content, content.Size())
	if err != nil {
		return nil, err
	}
	if len(whole.Header) > 0 && whole.Header[0].Is(ownID) {
		whole.Header = whole.Header[1:]
	}
	session := &mail.Session{
		ID: mail.NewID(time.Now()), Listener: m.Listener, Via: mail.ViaSMTP,
		Client: m.ClientAddr, Name: m.ClientName, Trusted: m.Trusted, Window: m.Window,
		Helo: m.Helo, ESMTP: m.Proto != "" && m.Proto != "SMTP", User: m.User, Start: m.Received, Again: true,
	}
	if m.Origin == spool.FromMilter {
		session.Via = mail.ViaMilter
	}
	return &hearing{old: m, whole: whole, tx: mail.Transaction{ID: m.Group, Session: session, Start: time.Now()}}, nil
}

// judge asks a handler at every stage, as a session does.
func (a *hearing) judge(ctx context.Context, h mail.Handler) {
	if !a.envelope(ctx, h) {
		h.Abort(&a.tx)
		return
	}
	a.tx.Stage, a.tx.Message = mail.StageMessage, a.whole
	a.verdict, a.parts = settle(h.Message(ctx, &a.tx), a.sticky, a.tx.Envelope.Recipients)
}

// answer is what the client would have been told, who has his 250: what is
// refused now is held.
func (a *hearing) answer() mail.Answer {
	out := mail.Answer{Stage: mail.StageMessage, Action: a.verdict.Action, Reason: a.verdict.Reason}
	if out.Action == mail.Reject {
		out.Action, out.Reason = mail.Quarantine, "refused when it was judged: "+cmp.Or(a.why, a.verdict.Reason)
	}
	return out
}

// envelope asks up to the message. It reports whether that is to be judged.
func (a *hearing) envelope(ctx context.Context, h mail.Handler) bool {
	ask := func(stage mail.Stage, question func(context.Context, *mail.Transaction) mail.Verdict) bool {
		a.tx.Stage = stage
		a.verdict = question(ctx, &a.tx)
		a.sticky = a.sticky.with(a.verdict)
		return a.verdict.Action < mail.TempFail && a.sticky.action != mail.Discard
	}
	if !ask(mail.StageConnect, h.Connect) || !ask(mail.StageHelo, h.Helo) {
		return false
	}
	a.tx.Envelope.Sender = a.old.Envelope.Sender
	if !ask(mail.StageMail, h.Mail) {
		return false
	}
	for _, rcpt := range a.old.Envelope.Recipients {
		taken := ask(mail.StageRcpt, func(ctx context.Context, tx *mail.Transaction) mail.Verdict { return h.Rcpt(ctx, tx, rcpt) })
		switch {
		case taken:
			a.tx.Envelope.Recipients = append(a.tx.Envelope.Recipients, rcpt)
		case a.verdict.Action == mail.Reject:
			a.refused, a.why = append(a.refused, rcpt), a.verdict.Reason
		default:
			return false
		}
	}
	return len(a.tx.Envelope.Recipients) > 0 && ask(mail.StageData, h.Data)
}

// certain reports whether the verdict is one, and completes it: what is refused
// now is held.
func (a *hearing) certain(ctx context.Context) bool {
	if a.verdict.Action == mail.TempFail || ctx.Err() != nil {
		return false
	}
	for _, p := range a.parts {
		if p.verdict.Unscanned != "" {
			a.verdict = p.verdict
			return false
		}
	}
	refused := a.refused
	if a.verdict.Action == mail.Reject && len(a.parts) == 0 {
		refused = a.old.Envelope.Recipients
	}
	if len(refused) > 0 {
		reason := "refused when it was judged: " + cmp.Or(a.why, a.verdict.Reason)
		a.parts = append(a.parts, part{mail.Verdict{Action: mail.Quarantine, Reason: reason, Kind: a.verdict.Kind, Edits: a.verdict.Edits}, refused})
	}
	return true
}

// carryOut puts what was judged into the place of what waited.
func (r *Rescanner) carryOut(ctx context.Context, a *hearing) error {
	if err := r.step(stepJudged); err != nil {
		return err
	}
	made, err := r.commit(ctx, a)
	if err == nil {
		err = r.step(stepCommitted)
	}
	if err != nil {
		r.removeAll(made)
		return err
	}
	replaced, err := r.replace(ctx, a.old.ID, made)
	if err != nil || !replaced {
		r.removeAll(made)
		return err
	}
	result := r.note(a, made)
	r.record(&a.old.Entry, mail.EventJudged, result)
	r.deps.Stats.Rescanned(result)
	return nil
}

// commit keeps what was judged, on hold. The result has what was committed, even
// where that is not all.
func (r *Rescanner) commit(ctx context.Context, a *hearing) (made []spool.Entry, err error) {
	a.tx.Message = a.whole // one that was refused in the envelope has none
	st := spoolStore{r.deps.Spool}
	d := st.Draft(mail.NewID(time.Now()))
	defer d.Discard() // does nothing after a commit
	if _, err := io.Copy(d, a.tx.Message.Body()); err != nil {
		return nil, err
	}
	a.tx.Envelope.Sender = a.old.Envelope.Sender
	parcels, err := pack(st, &a.tx, mail.NewID(time.Now()), parcel{draft: d}, 0, a.parts)
	defer discard(parcels)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
	defer cancel()
	for _, p := range parcels {
		for i := range p.entries {
			e := &p.entries[i]
			e.Received, e.Origin, e.Proto, e.Replaces = a.old.Received, a.old.Origin, a.old.Proto, a.old.ID
			if e.State == spool.Queue {
				e.State, e.Reason = spool.Hold, onItsWay
			}
		}
		if err := st.Commit(ctx, p.draft, p.entries...); err != nil {
			return made, err
		}
		made = append(made, p.entries...)
	}
	return made, nil
}

// replace removes the message that waited, unless somebody has taken it into his
// hands meanwhile, and releases what was made of it.
func (r *Rescanner) replace(ctx context.Context, old string, made []spool.Entry) (done bool, err error) {
	r.deps.Admin.Lock()
	defer r.deps.Admin.Unlock()
	m, err := r.deps.Spool.Get(old)
	if errors.Is(err, spool.ErrNotFound) || err == nil && !waits(m) {
		return false, nil
	}
	if err == nil {
		err = r.deps.Spool.Remove(old)
	}
	if err != nil {
		return false, err
	}
	_ = r.step(stepReplaced) // done: no error can change that
	var due []string
	for _, e := range made {
		if e.Reason == onItsWay && r.letGo(e.ID) {
			due = append(due, e.ID)
		}
	}
	_ = r.step(stepReleased)
	if err := r.deps.Spool.Sync(context.WithoutCancel(ctx)); err != nil {
		r.log.Error("spool", "error", err) // it is as durable as all progress is
	}
	r.deps.Queue.Accepted(due...)
	return true, nil
}

// letGo takes a judged message out of the hold. What fails is tried again later.
func (r *Rescanner) letGo(id string) bool {
	m, err := r.deps.Spool.Get(id)
	if err == nil {
		m.Progress.State, m.Progress.Reason = spool.Queue, ""
		err = r.deps.Spool.Save(id, m.Progress)
	}
	if err == nil {
		r.record(&m.Entry, mail.EventReleased, onItsWay)
	}
	if err != nil && !errors.Is(err, spool.ErrNotFound) {
		r.log.Error("a judged message is not released yet", "id", id, "error", err)
		r.mu.Lock()
		r.halted = append(r.halted, id)
		r.mu.Unlock()
	}
	return err == nil
}

// release is letGo for one whose judging ended before.
func (r *Rescanner) release(id string) {
	if r.letGo(id) {
		r.log.Info("released", "id", id, "reason", onItsWay)
		r.deps.Queue.Accepted(id)
	}
}

func (r *Rescanner) removeAll(made []spool.Entry) {
	for _, e := range made {
		r.remove(e.ID)
	}
}

// remove drops a judged message while the one that it was made of is there.
func (r *Rescanner) remove(id string) {
	if err := r.deps.Spool.Remove(id); err != nil && !errors.Is(err, spool.ErrNotFound) {
		r.log.Error("a judged message is left in the hold", "id", id, "error", err)
	}
}

// note logs what became of a message, and names it for Stats.
func (r *Rescanner) note(a *hearing, made []spool.Entry) (result string) {
	result = "discarded"
	var ids []string
	for _, e := range made {
		ids = append(ids, e.ID)
		if e.Reason == onItsWay {
			result = "released"
		} else if result == "discarded" {
			result = "quarantined"
		}
	}
	r.log.Info("judged", "id", a.old.ID, "now", strings.Join(ids, " "), "from", a.old.Envelope.Sender.String(),
		"to", firstRcpts(a.old.Envelope.Recipients), "result", result, "action", a.verdict.Action.String(), "score", a.tx.Score(),
		"rules", rulesOf(a.tx.Findings), "reason", clip(a.verdict.Reason, logText), "waited", time.Since(a.old.Received).Round(time.Second),
		"took", time.Since(a.tx.Start))
	return result
}

// record keeps a step in the life of a message.
func (r *Rescanner) record(e *spool.Entry, what mail.EventKind, text string) {
	if r.deps.Recorder != nil {
		r.deps.Recorder.Event(mail.Event{Time: time.Now(), ID: e.ID, Group: e.Group, What: what, Text: text})
	}
}

func (r *Rescanner) step(name string) error {
	if r.deps.Failpoint == nil {
		return nil
	}
	return r.deps.Failpoint(name)
}
