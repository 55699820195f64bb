package proxy

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// fakeCourier answers for each recipient by its local part.
type fakeCourier struct {
	replies map[string]string // "": not tried
	mu      sync.Mutex
	texts   []string // what was tried
	tried   []*spool.Message
}

func (c *fakeCourier) Attempt(_ context.Context, m *spool.Message, content mail.Content) {
	var b bytes.Buffer
	_, _ = content.WriteTo(&b)
	again := make([]byte, content.Size()+1)
	n, _ := content.ReadAt(again, 0)
	if !bytes.Equal(again[:n], b.Bytes()) || int64(n) != content.Size() || m.Size != content.Size() {
		panic("the content differs from itself")
	}
	for i, r := range m.Envelope.Recipients {
		reply, ok := mail.ParseReply(c.replies[r.Local])
		if !ok {
			continue
		}
		how := spool.Recipient{Status: mail.Deferred, Reply: reply, Attempts: 1}
		switch reply.Code / 100 {
		case 2:
			how.Status = mail.Delivered
		case 5:
			how.Status = mail.Failed
		}
		m.Recipients[i] = how
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.texts = append(c.texts, b.String())
}

func (c *fakeCourier) Tried(ms ...*spool.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tried = append(c.tried, ms...)
}

// states is what the queue is told of the recipients that are left.
func (c *fakeCourier) states() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []string
	for _, m := range c.tried {
		for i, r := range m.Recipients {
			all = append(all, m.Envelope.Recipients[i].Local+" "+r.Status.String())
		}
	}
	return all
}

// The client is told 5xx only where nobody has the message, and 250 only where
// each recipient has it or it is kept for him.
func TestInteractive(t *testing.T) {
	const yes, no, later = "250 2.6.0 taken", "550 5.1.1 nobody", "451 4.3.0 later"
	accept := mail.Verdict{Action: mail.Accept}
	tagged := mail.Verdict{Action: mail.Accept, Edits: []mail.Edit{mail.InsertHeader{Field: mail.NewField("X-Tag", "1")}}}
	held := verdict(mail.Quarantine, "")
	each := func(vs ...mail.Verdict) mail.Verdict { return mail.Verdict{Action: mail.Quarantine, Recipients: vs} }
	tests := []struct {
		name    string
		verdict mail.Verdict
		u, v    string
		commit  error
		want    string
		kept    []string // recipients of what is in the spool
		states  []string // of those that the queue takes over
	}{
		{name: "all have it", verdict: accept, u: yes, v: yes, want: "250 2.6.0 taken"},
		{name: "with different answers", verdict: accept, u: yes, v: "250 2.0.0 ok", want: "250 2.0.0 queued as"},
		{name: "without an enhanced code", verdict: accept, u: "250 fine", v: "250 fine", want: "250 2.0.0 fine"},
		{name: "nobody has it", verdict: accept, u: no, v: "554 5.7.1 spam", want: no},
		{name: "one has it, one never", verdict: accept, u: yes, v: no, want: "250 2.0.0 queued as", kept: []string{"v"}, states: []string{"v bounced"}},
		{name: "one has it, one later", verdict: accept, u: yes, v: later, want: "250 2.0.0 queued as", kept: []string{"v"}, states: []string{"v deferred"}},
		{name: "one never, one later", verdict: accept, u: no, v: later, want: "250 2.0.0 queued as", kept: []string{"u+v"}, states: []string{"u bounced", "v deferred"}},
		{name: "both later", verdict: accept, u: later, v: later, want: "250 2.0.0 queued as", kept: []string{"u+v"}, states: []string{"u deferred", "v deferred"}},
		{name: "not tried", verdict: accept, want: "250 2.0.0 queued as", kept: []string{"u+v"}, states: []string{"u deferred", "v deferred"}},
		{name: "two parts, both taken", verdict: each(accept, tagged), u: yes, v: yes, want: yes},
		{name: "two parts, both refused", verdict: each(accept, tagged), u: no, v: no, want: no},
		{name: "two parts, one refused", verdict: each(accept, tagged), u: yes, v: no, want: "250 2.0.0 queued as", kept: []string{"v"}, states: []string{"v bounced"}},
		{name: "held for one", verdict: each(accept, held), u: yes, want: "250 2.0.0 queued as", kept: []string{"v"}},
		{name: "held for one, refused for the other", verdict: each(accept, held), u: no, want: "250 2.0.0 queued as", kept: []string{"u", "v"}, states: []string{"u bounced"}},
		{name: "dropped for one", verdict: each(accept, verdict(mail.Discard, "")), u: yes, want: yes},
		{name: "held", verdict: held, want: "250 2.0.0 queued as", kept: []string{"u+v"}},
		{name: "no room, nobody has it", verdict: accept, u: later, v: later, commit: syscall.ENOSPC, want: "452 4.3.1"},
		{name: "no room, one has it", verdict: accept, u: yes, v: later, commit: syscall.ENOSPC, want: "452 4.3.1"},
		{name: "no room is needed", verdict: accept, u: yes, v: yes, commit: syscall.ENOSPC, want: yes},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			courier := &fakeCourier{replies: map[string]string{"u": tt.u, "v": tt.v}}
			g := start(t, func(c *Config, g *gate) {
				c.Delivery = Interactive
				g.courier = courier
				g.store.commit = tt.commit
				g.handler.say(mail.StageMessage, tt.verdict)
			})
			got := g.from("127.0.0.1", oneEnvelope, simple).expect("")
			if !strings.HasPrefix(got, tt.want) {
				t.Errorf("answered %q, want %q", got, tt.want)
			}
			var kept []string
			for _, m := range g.store.messages() {
				var to []string
				for _, r := range m.Envelope.Recipients {
					to = append(to, r.Local)
				}
				kept = append(kept, strings.Join(to, "+"))
			}
			if !slices.Equal(kept, tt.kept) || !slices.Equal(courier.states(), tt.states) {
				t.Errorf("kept %q, the queue has %q; want %q and %q", kept, courier.states(), tt.kept, tt.states)
			}
			for _, text := range courier.texts {
				if !strings.HasPrefix(text, ownID) || !strings.HasSuffix(text, simple) {
					t.Errorf("tried %q", text)
				}
			}
			if ids := g.queue.all(); len(ids) > 0 {
				t.Errorf("the queue is to try %q at once", ids)
			}
			if loud := strings.Contains(g.log.String(), "some get it twice"); loud != (tt.commit != nil && tt.u == yes && tt.v == later) {
				t.Errorf("the log tells of a second copy: %v", loud)
			}
		})
	}
}

// Who wants to hear of success hears it from the queue; and without a place to
// keep what fails, nothing is tried.
func TestInteractiveNotTried(t *testing.T) {
	courier := &fakeCourier{replies: map[string]string{"u": "250 2.0.0 ok", "v": "250 2.0.0 ok"}}
	g := start(t, func(c *Config, g *gate) {
		c.Delivery = Interactive
		g.courier = courier
		g.handler.message = func(context.Context, *mail.Transaction) mail.Verdict {
			g.store.mu.Lock()
			defer g.store.mu.Unlock()
			if len(g.store.kept) > 0 {
				g.store.ready = syscall.ENOSPC
			}
			return mail.Verdict{Action: mail.Accept}
		}
	})
	g.from("127.0.0.1", strings.Replace(oneEnvelope, "v@b.example>", "v@b.example> NOTIFY=FAILURE,success", 1), simple).expect("250 2.0.0 queued as")
	g.from("127.0.0.1", oneEnvelope, simple).expect("452")
	if len(courier.texts) > 0 || len(g.queue.all()) != 1 {
		t.Errorf("tried %q; the queue has %q", courier.texts, g.queue.all())
	}
}
