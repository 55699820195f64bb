// Package forward delivers one message to one next hop over SMTP or LMTP, and
// tells for each recipient how that ended. It knows the routes, keeps
// connections for the next message, and encrypts where it can. It never tries
// again later, never sleeps, and knows nothing of a spool: that is the queue's.
//
// Two rules stand above all others. A message is delivered when the next hop
// said so, and not before: whatever else happens leaves its recipients
// deferred. And nothing is sent that the next hop could read in two ways:
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
	"sync"
	"sync/atomic"

	"gatepost/internal/mail"
)

// Forwarder delivers messages. It may be used by many at a time.
type Forwarder struct {
	log     *slog.Logger
	current atomic.Pointer[table]
	buffers sync.Pool
	update  sync.Mutex // held while one table takes the place of another
}

// New returns a Forwarder for the routes of cfg. It connects to nobody.
func New(cfg Config, log *slog.Logger) (*Forwarder, error) {
	t, err := newTable(cfg)
	if err != nil {
		return nil, err
	}
	f := &Forwarder{log: log}
	f.buffers.New = func() any { b := make([]byte, 0, bufferSize); return &b }
	f.current.Store(t)
	return f, nil
}

// Update puts other routes in place of those there are. What is under way ends
// as it began. After an error all is as it was.
func (f *Forwarder) Update(cfg Config) error {
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

// close closes all hosts at once: each may take as long as a QUIT.
func (t *table) close() {
	var wg sync.WaitGroup
	for _, h := range t.hosts {
		wg.Go(h.close)
	}
	wg.Wait()
}

// Route returns the name of the next hop for a recipient, and whether there is
// one. Recipients with the same name can be given to one Deliver.
func (f *Forwarder) Route(rcpt mail.Address) (dest string, ok bool) {
	r := f.current.Load().find(rcpt)
	if r == nil {
		return "", false
	}
	return r.dest, true
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
	r := f.current.Load().byDest[dest]
	if r == nil {
		noRoute := mail.Reply{Code: 451, Detail: "4.4", Text: "no route " + dest}
		for i := range out {
			out[i].Reply = noRoute
		}
		return out
	}
	buf := f.buffers.Get().(*[]byte)
	defer f.buffers.Put(buf)
	for from := 0; from < len(out); from += maxRecipients {
		to := min(from+maxRecipients, len(out))
		part := mail.Envelope{Sender: env.Sender, Recipients: env.Recipients[from:to]}
		t := newTransaction(part, content, out[from:to], (*buf)[:0])
		t.facts = facts
		if failed := f.deliver(ctx, r, t, dest, facts.ID); failed != nil {
			t.deferRest(failed)
			for i := to; i < len(out); i++ {
				out[i].Reply, out[i].Remote = failed.reply, failed.remote
			}
			break
		}
	}
	return out
}

// deliver tries the hosts of a route in turn until one has answered for every
// recipient. It returns why the last one could not.
func (f *Forwarder) deliver(ctx context.Context, r *route, t *transaction, dest, id string) (failed *failure) {
	if t.checkAddresses(); t.done() {
		return nil
	}
	for _, host := range byHealth(r.hosts) {
		h := hop{host: host}
		failed = h.deliver(ctx, t)
		if failed == nil {
			return nil
		}
		f.log.InfoContext(ctx, "next hop failed", "id", id, "dest", dest, "host", h.where(), "error", failed.Error())
		if t.done() || t.sent || failed.ours {
			return failed
		}
	}
	return failed
}
