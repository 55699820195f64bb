// Package forward delivers one message to one next hop over SMTP or LMTP, and
// tells for each recipient how that ended. It knows the routes, keeps
// connections for the next message, and encrypts where it can. It never tries
// again later, never sleeps, and knows nothing of a spool: that is the queue's.
//
// Two rules stand above all others. A message is delivered when the next hop
// said so, and not before: whatever else happens leaves its recipients
// deferred, unless the DNS says that there is nobody to deliver to. And nothing is sent that the next hop could read in two ways:
// addresses are printed from their parsed form, lines end in CRLF, and a
// connection on which a reply was not asked for is closed.
//
// A next hop without 8BITMIME gets an eight-bit message as it is: converting it
// would break its signatures, and every server in use takes it. A next hop
// without SMTPUTF8 never gets a message that needs it.
package forward

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"

	"gatepost/internal/mail"
)

// Forwarder delivers messages. It may be used by many at a time.
type Forwarder struct {
	log     *slog.Logger
	current atomic.Pointer[table]
	sts     *stsCache
	buffers sync.Pool
	update  sync.Mutex // held while one table takes the place of another
}

// New returns a Forwarder for the routes of cfg. It connects to nobody.
func New(cfg Config, log *slog.Logger) (*Forwarder, error) {
	cfg.sts = newSTSCache(cfg.Routing.STSCache, log)
	t, err := newTable(cfg)
	if err != nil {
		return nil, err
	}
	f := &Forwarder{log: log, sts: cfg.sts}
	f.buffers.New = func() any { b := make([]byte, 0, bufferSize); return &b }
	f.current.Store(t)
	return f, nil
}

// Update puts other routes in place of those there are. What is under way ends
// as it began. After an error all is as it was.
func (f *Forwarder) Update(cfg Config) error {
	cfg.sts = f.sts
	t, err := newTable(cfg)
	if err != nil {
		return err
	}
	f.update.Lock()
	defer f.update.Unlock()
	f.current.Swap(t).close()
	return nil
}

// Close ends the connections that are kept. Deliveries under way end theirs
// themselves.
func (f *Forwarder) Close() {
	f.update.Lock()
	defer f.update.Unlock()
	f.current.Load().close()
}

// Route returns the name of the next hop for a recipient, and whether there is
// one. Recipients with the same name can be given to one Deliver.
func (f *Forwarder) Route(rcpt mail.Address) (dest string, ok bool) {
	r := f.current.Load().find(rcpt)
	if r == nil {
		return "", false
	}
	return r.dest(rcpt.ASCIIDomain()), true
}

// Refusal returns what a recipient is to be answered where his route delivers
// nothing ("error:"), the zero Reply otherwise.
func (f *Forwarder) Refusal(rcpt mail.Address) mail.Reply {
	if r := f.current.Load().find(rcpt); r != nil {
		return r.refusal()
	}
	return mail.Reply{}
}

// Group returns the group of the route that a destination belongs to, "" where
// there is none any more.
func (f *Forwarder) Group(dest string) string {
	if r, _ := f.current.Load().byName(dest); r != nil {
		return r.group
	}
	return ""
}

// Groups returns the groups that routes belong to, sorted.
func (f *Forwarder) Groups() []string {
	var all []string
	for _, r := range f.current.Load().byDest {
		all = append(all, r.group)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// maxRecipients of one transaction: what every server must take
// (RFC 5321 4.5.3.1.8). More recipients make more transactions.
const maxRecipients = 100

// Deliver hands a message to the next hop dest, as Route named it. It returns
// one outcome for each recipient of env, in their order. The content is text
// with CRLF at the end of each line.
func (f *Forwarder) Deliver(ctx context.Context, dest string, facts mail.Facts, env mail.Envelope, content mail.Content) (out []mail.Outcome) {
	out = make([]mail.Outcome, len(env.Recipients))
	for i, r := range env.Recipients {
		out[i].Recipient = r.Address
		out[i].Reply = mail.Reply{Code: 451, Detail: "3.0", Text: "internal error"} // after a panic
	}
	defer func() {
		if p := recover(); p != nil {
			f.log.ErrorContext(ctx, "panic in a delivery", "id", facts.ID, "dest", dest, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
	}()
	table := f.current.Load()
	r, domain := table.byName(dest)
	if r == nil {
		noRoute := mail.Reply{Code: 451, Detail: "4.4", Text: "no route " + dest}
		for i := range out {
			out[i].Reply = noRoute
		}
		return out
	}
	hops, failed := table.hops(ctx, r, domain)
	defer table.giveBack(hops)
	if failed == nil {
		failed = guardLoop(content, table.hostname)
	}
	if failed != nil {
		f.log.InfoContext(ctx, "no next hop", "id", facts.ID, "dest", dest, "error", failed.Error())
		answerAll(out, failed)
		return out
	}
	buf := f.buffers.Get().(*[]byte)
	defer f.buffers.Put(buf)
	for from := 0; from < len(out); from += maxRecipients {
		to := min(from+maxRecipients, len(out))
		part := mail.Envelope{Sender: env.Sender, Recipients: env.Recipients[from:to]}
		t := newTransaction(part, content, out[from:to], (*buf)[:0])
		t.facts = facts
		if failed := f.deliver(ctx, hops, t, dest); failed != nil {
			t.deferRest(failed)
			answerAll(out[to:], failed)
			break
		}
	}
	return out
}

// answerAll gives recipients that nobody was asked about the same answer.
func answerAll(out []mail.Outcome, failed *failure) {
	for i := range out {
		out[i].Reply, out[i].Remote = failed.reply, failed.remote
		if failed.final {
			out[i].Status = mail.Failed
		}
	}
}

// deliver tries the hosts of a destination in turn until one has answered for
// every recipient. It returns why the last one could not; a refusal for good
// stands only when no host may think otherwise later.
func (f *Forwarder) deliver(ctx context.Context, hops []hop, t *transaction, dest string) (why *failure) {
	if t.checkAddresses(); t.done() {
		return nil
	}
	for h := range inTurn(hops) {
		failed := h.deliver(ctx, t)
		if failed == nil {
			return nil
		}
		f.log.Log(ctx, failed.level(), "next hop failed", "id", t.facts.ID, "dest", dest, "host", h.where(), "error", failed.Error())
		if t.done() || t.sent || failed.ours {
			return failed
		}
		if why == nil || !failed.final {
			why = failed
		}
	}
	return why
}
