package main

import (
	"context"
	"fmt"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/notify"
	"gatepost/proxy/queue"
)

// tellOf tells of a message that something dangerous was found in.
func (g *gateway) tellOf(tx *mail.Transaction, v mail.Verdict) {
	e := notify.Event{ID: tx.ID, Sender: tx.Envelope.Sender.Address.Path(), Action: v.Action.String()}
	if tx.Session.Client.IsValid() {
		e.Client = tx.Session.Client.Addr().String()
	}
	if tx.Message != nil {
		e.Subject = mail.DecodeWords(tx.Message.Header.Get("Subject"))
	}
	banned := ""
	for i, rcpt := range tx.Envelope.Recipients {
		e.Rcpts = append(e.Rcpts, rcpt.Address)
		if one := v.For(i); one.Kind == mail.HeldAttachment && !one.Action.Delivers() {
			banned = one.Reason
		}
	}
	switch found := tx.Find(mail.FindingVirus); {
	case len(found) > 0:
		e.Kind, e.About = notify.Virus, found[0].Value
		e.Text = fmt.Sprintf("%s found the virus %s in a message.", found[0].Filter, found[0].Value)
	case banned != "":
		e.Kind, e.About, e.Text = notify.BannedFile, banned, "A message has a file that is not allowed: "+banned+"."
	default:
		return
	}
	g.held.notices.Tell(e)
}

// watchEvery is how often the parts are looked at for those who want to know.
const watchEvery = 15 * time.Second

// watch tells when something begins to be wrong with a part, until ctx ends.
func (g *gateway) watch(ctx context.Context) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			g.look()
		}
	}
}

func (g *gateway) look() {
	cfg, n, now := g.current.Load().Notify, g.held.notices, time.Now()
	if !cfg.On() {
		return
	}
	if figures, _, err := g.recent.Now(); err == nil {
		for _, s := range *g.steps.Load() {
			d := figures.Filters[s.Name]
			up := notify.Event{Kind: notify.FilterUp, About: s.Name, Text: "The filter " + s.Name + " answers again."}
			n.Set(d != nil && d.Down, notify.Event{
				Kind: notify.FilterDown, About: s.Name,
				Text: fmt.Sprintf("The filter %s does not answer. Meanwhile its on_error = %q counts.", s.Name, s.OnError),
			}, &up)
		}
	}
	oldest := time.Duration(0)
	for lane, c := range g.queue.Counts() {
		if lane != queue.Hold && !c.Oldest.IsZero() {
			oldest = max(oldest, now.Sub(c.Oldest))
		}
	}
	n.Set(oldest > cfg.QueueAge, notify.Event{
		Kind: notify.QueueAge, About: oldest.Round(time.Minute).String(),
		Text: fmt.Sprintf("The oldest message that is not delivered has waited for %s: see gatepost queue shape.", oldest.Round(time.Minute)),
	}, nil)
	for name, ends := range g.certificates() {
		n.Set(ends.Sub(now) < cfg.Certificate, notify.Event{
			Kind: notify.Certificate, About: name, Text: fmt.Sprintf("The certificate of %s ends on %s.", name, ends.Format(time.RFC1123)),
		}, nil)
	}
	if free, err := g.spoolFree(); err == nil {
		n.Set(free < float64(cfg.SpoolFree), notify.Event{
			Kind: notify.DiskLow, About: g.boot.Spool, Text: fmt.Sprintf("%.0f MB are free on the disk of the spool.", free/1e6),
		}, nil)
	}
	for _, d := range g.daemonStatus() {
		n.Set(d.Late, notify.Event{Kind: notify.Signatures, About: d.Filter, Text: d.Filter + ": " + describe(d)}, nil)
	}
}
