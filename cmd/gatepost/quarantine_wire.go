package main

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"mime"
	"mime/quotedprintable"
	"time"

	"gatepost/internal/config"
	"gatepost/internal/console"
	"gatepost/internal/console/audit"
	"gatepost/internal/digest"
	"gatepost/internal/mail"
	"gatepost/internal/notify"
	"gatepost/internal/quarantine"
	"gatepost/proxy/queue"
)

// heldWork is what is done with held mail beside the queue, and who is told of
// what happens.
type heldWork struct {
	lists   *quarantine.Lists
	keeper  *quarantine.Keeper
	digests *digest.Digests
	notices *notify.Notifier
}

// assembleQuarantine makes it. It needs the queue.
func (g *gateway) assembleQuarantine(cfg *config.Config) (err error) {
	h := &g.held
	h.lists = quarantine.NewLists(g.state, g.log)
	if h.keeper, err = quarantine.NewKeeper(cfg.Quarantine, keptHeld{g.queue, g.told}, g.log); err != nil {
		return err
	}
	h.digests, err = digest.New(cfg.Digest, digest.Deps{
		Quarantine: &digestHeld{g: g}, Store: g.state, Ours: g.isOurs, Log: g.log,
		Post: func(ctx context.Context, to mail.Address, m digest.Mail) error {
			return g.post(ctx, to, m.Header, m.Body)
		},
	})
	if err != nil {
		return err
	}
	h.notices, err = notify.New(cfg.Notify, notify.Deps{Ours: g.isOurs, Log: g.log, Post: g.postNotice})
	return err
}

// update takes over other settings.
func (h *heldWork) update(cfg *config.Config) {
	h.keeper.Update(cfg.Quarantine)
	h.digests.Update(cfg.Digest)
	h.notices.Update(cfg.Notify)
}

// heldQueue is the quarantine for the control API.
func (g *gateway) heldQueue() heldQueue {
	return heldQueue{mailQueue{g.queue, &g.admin, g.told}, func() personalLists { return g.held.lists }, g.current.Load}
}

// isOurs reports whether the rules of now know a recipient as one of our own.
func (g *gateway) isOurs(a mail.Address) bool {
	f := g.frame.Load()
	return f != nil && f.rules.Ours(a)
}

// postNotice posts a plain text.
func (g *gateway) postNotice(ctx context.Context, to mail.Address, subject, text string) error {
	var body bytes.Buffer
	q := quotedprintable.NewWriter(&body)
	_, err := q.Write([]byte(text))
	if err := errors.Join(err, q.Close()); err != nil {
		return err
	}
	return g.post(ctx, to, mail.Header{
		mail.NewField("From", "Gatepost <postmaster@"+g.boot.Hostname+">"),
		mail.NewField("To", to.Path()),
		mail.NewField("Subject", mime.QEncoding.Encode("utf-8", subject)),
		mail.NewField("MIME-Version", "1.0"),
		mail.NewField("Content-Type", "text/plain; charset=utf-8"),
		mail.NewField("Content-Transfer-Encoding", "quoted-printable"),
	}, body.Bytes())
}

// digestHeld shows the quarantine to digests, and does what recipients want.
type digestHeld struct{ g *gateway }

// Held implements digest.Quarantine.
func (d *digestHeld) Held() iter.Seq[digest.Item] {
	return d.items(queue.Filter{Lanes: []queue.Lane{queue.Hold}})
}

func (d *digestHeld) items(f queue.Filter) iter.Seq[digest.Item] {
	return func(yield func(digest.Item) bool) {
		for m := range d.g.queue.List(f) {
			if !m.Quarantined {
				continue
			}
			it := digest.Item{ID: m.ID, Kind: m.Kind, Received: m.Received, Subject: mail.DecodeWords(m.Subject), Reason: m.Reason}
			it.Sender, _ = mail.ParseAddress(m.Sender, true) // the null sender is none
			for _, r := range m.Recipients {
				if a, err := mail.ParseAddress(r.Address, true); err == nil && r.Status == mail.Deferred.String() {
					it.Rcpts = append(it.Rcpts, a)
				}
			}
			if len(it.Rcpts) > 0 && !yield(it) {
				return
			}
		}
	}
}

// Find implements digest.Quarantine.
func (d *digestHeld) Find(id string) (digest.Item, bool) {
	for it := range d.items(queue.Filter{IDs: []string{id}, Lanes: []queue.Lane{queue.Hold}}) {
		return it, true
	}
	return digest.Item{}, false
}

// Author implements digest.Quarantine.
func (d *digestHeld) Author(id string) string {
	details, err := d.g.queue.Show(id)
	if err != nil {
		return ""
	}
	header, _, err := mail.SplitHeader([]byte(details.Header + "\r\n"))
	if err != nil {
		return ""
	}
	if a, name, ok := header.Author(); ok && name != "" {
		return name + " <" + a.String() + ">"
	} else if ok {
		return a.String()
	}
	return mail.DecodeWords(header.Get("From"))
}

// digestRole is that of a recipient who follows a link: for the audit, as it may
// nothing but what the link says.
const digestRole = "recipient"

// Do implements digest.Quarantine.
func (d *digestHeld) Do(ctx context.Context, a digest.Action, id string, rcpt mail.Address, from string) (err error) {
	ctx = console.WithIdentity(ctx, console.Identity{Name: rcpt.String(), From: from})
	q := d.g.heldQueue()
	who := []mail.Address{rcpt}
	switch a {
	case digest.Release:
		_, err = q.ReleaseTo(ctx, id, who)
	case digest.Delete:
		err = q.Withdraw(ctx, id, who)
	case digest.Allow, digest.Block:
		err = q.List(ctx, id, who, a == digest.Allow, rcpt.String(), 0)
	default:
		return errors.New("nothing that a link can do")
	}
	e := audit.Entry{Who: rcpt.String(), Role: digestRole, From: from, What: "quarantine " + string(a), IDs: []string{id}, Detail: "a link of a digest", Result: "done"}
	if err != nil {
		e.Result, e.Error = "failed", err.Error()
	}
	if aerr := d.g.audit.Note(e); aerr != nil {
		d.g.log.ErrorContext(ctx, "audit not written", "who", e.Who, "what", e.What, "error", aerr)
	}
	return err
}

// digestAPI is what commands do with digests.
type digestAPI struct{ *digest.Digests }

// Preview implements console.Digests.
func (d digestAPI) Preview(ctx context.Context, rcpt mail.Address) ([]byte, error) {
	m, ok, err := d.Digests.Preview(ctx, rcpt)
	if err != nil || !ok {
		return nil, err
	}
	return append(append(m.Header.Bytes(), "\r\n"...), m.Body...), nil
}

// SendNow implements console.Digests.
func (d digestAPI) SendNow(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	return d.Send(ctx, true)
}
