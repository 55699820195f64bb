package proxy

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// Deps is what a Server works with.
type Deps struct {
	NewHandler func() mail.Handler // one for each connection
	Spool      *spool.Spool
	Queue      Queue     // nil: nobody is told
	Resolver   Resolver  // nil: clients have no names
	Unscanned  Unscanned // nil: nobody is told
	Courier    Courier   // nil: all mail goes by way of the queue
	Throttle   Throttle  // nil: only each session has its limit of failed logins
	Windows    Windows   // nil: nobody has one
	Stats      Stats     // nil: nothing is counted
	Log        *slog.Logger

	// Pauses tells how long the banner waits for a client; ok is false where
	// GreetPause says it. nil: it always does.
	Pauses func(*mail.Session) (pause time.Duration, ok bool)
}

// Queue is told of messages that were committed for delivery. It must not block.
type Queue interface{ Accepted(ids ...string) }

// Unscanned is told of messages that were committed and are still to be judged.
// It must not block.
type Unscanned interface{ Unscanned(entries ...spool.Entry) }

// Courier delivers a message while its client waits.
type Courier interface {
	// Attempt tries once to deliver a message that is not in the spool, and
	// notes in m.Recipients how that went; it ends soon after ctx does.
	Attempt(ctx context.Context, m *spool.Message, content mail.Content)
	// Tried takes over messages that were committed after that, with what came
	// of it. It must not block.
	Tried(messages ...*spool.Message)
}

// Resolver finds the forward-confirmed name of a client, "" for none. It
// returns within its own time limit.
type Resolver interface {
	// Client also returns the name that the address claims, and what became of
	// the look-up.
	Client(ctx context.Context, ip netip.Addr) (name, ptr string, how mail.Resolve)
}

// Windows knows who may relay for now because he read his mail. It returns soon
// after ctx ends; what it can't tell is no window.
type Windows interface {
	Open(ctx context.Context, client netip.Addr) bool
}

// Stats counts. The strings come from small closed sets.
type Stats interface {
	// Connection counts an accepted connection. The result is "accepted",
	// "limit", "client_limit" or "rejected" (by the handler).
	Connection(listener, result string)
	// Active changes the number of open connections.
	Active(listener string, delta int)
	// Message counts an answered message. The action is the name of the strongest
	// mail.Action among its recipients; the reason is "policy", or what we
	// ourselves refused it for: "bare-cr", "bare-lf", "nul", "size", "header",
	// "loop", "judge-timeout", "panic", "spool", "full", "gone"; "repeat" for one
	// that was taken before; "next-hop" for what the next hop refused.
	Message(listener, action, reason string, size int64)
	// Recipient counts the handler's answer to a RCPT command.
	Recipient(listener, action string)
	// Login counts the end of an AUTH. The result is "ok", "failed", "throttled",
	// "unavailable", "cancelled" or "malformed".
	Login(listener, mech, result string)
}

type noQueue struct{}

func (noQueue) Accepted(...string) {}

type noNames struct{}

func (noNames) Client(context.Context, netip.Addr) (string, string, mail.Resolve) { return "", "", "" }

type noStats struct{}

func (noStats) Connection(string, string)             {}
func (noStats) Active(string, int)                    {}
func (noStats) Message(string, string, string, int64) {}
func (noStats) Recipient(string, string)              {}
func (noStats) Login(string, string, string)          {}
