// Package state keeps what sessions must know of each other: relay windows,
// blocked clients, rates, greylists. One gateway keeps it in a file of its own
// (SQLite); several share it through Redis.
//
// Everything in it ends by itself. Time is read where an entry is used: one that
// has ended is not there, whoever removes it later. No answer is worth a
// message: a store that can't be reached is an error within Options.Timeout, and
// what that means is the caller's to say.
package state

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Set names a set of entries with values.
type Set string

// The sets.
const (
	Windows   Set = "window"    // addresses that may relay for now
	Blocked   Set = "block"     // clients that are refused for now; the value says why
	Passed    Set = "pass"      // clients that greylisting knows
	Senders   Set = "sender"    // what a rule put on a list: "LIST:KEY"
	Callouts  Set = "recipient" // recipients that the next hop was asked about
	Throttled Set = "throttle"  // who has guessed passwords
	Personal  Set = "personal"  // senders that recipients allow or block: "RECIPIENT SENDER"
	Digests   Set = "digest"    // until when recipients were told of what is held for them
	Tickets   Set = "ticket"    // links of digests that were used
)

// Sets lists all of them, for those who look.
func Sets() []Set {
	return []Set{Windows, Blocked, Passed, Senders, Callouts, Throttled, Personal, Digests, Tickets}
}

// Entry is one of a set.
type Entry struct {
	Key     string    `json:"key"`
	Value   string    `json:"value,omitempty"`
	Expires time.Time `json:"expires"`
}

// Rate is how much is allowed: Limit in each Period, evenly, and as much at once.
type Rate struct {
	Limit  int
	Period time.Duration
}

// Triple is what greylisting knows a delivery by. Keys are the caller's: hashed
// or not, with the network of the client or its name.
type Triple struct {
	Key     string // client network, sender, recipient
	Network string // the client network alone, for Auto
	// Delay is how long the first try of a triple is put off; Window is until
	// when it must come again, both from the first try. Keep is how long one
	// that did is remembered after each use.
	Delay, Window, Keep time.Duration
	// Auto is after how many triples that came again the whole network is
	// known; 0 means never.
	Auto int
}

// Grey is what a store says of a Triple.
type Grey struct {
	Pass  bool
	Known bool          // passed before: nothing was put off now
	Auto  bool          // it is the network that is known
	Wait  time.Duration // until it may come again, where it does not pass
}

// ErrAway is wrapped by errors of a store that can't be reached now.
var ErrAway = errors.New("state: the store can't be reached")

// ErrBusy is wrapped, and ErrAway with it, where another process holds the file
// of a store.
var ErrBusy = fmt.Errorf("%w: another process uses it", ErrAway)

// Store is shared by all that use it at a time. Each call is one round trip, or
// none, and atomic among all gateways. Keys and values are texts without a
// meaning to the store, of up to 1024 bytes.
type Store interface {
	// Put sets an entry, for ttl from now.
	Put(ctx context.Context, set Set, key, value string, ttl time.Duration) error
	// Get finds the entry of the first of the keys that is there.
	Get(ctx context.Context, set Set, keys ...string) (Entry, bool, error)
	// Delete removes entries and returns how many there were.
	Delete(ctx context.Context, set Set, keys ...string) (int, error)
	// List returns entries whose keys begin with prefix, in order, at most limit.
	List(ctx context.Context, set Set, prefix string, limit int) ([]Entry, error)

	// Count adds n to a counter that forgets after window, and returns what was
	// counted within about that time, n included.
	Count(ctx context.Context, key string, n int, window time.Duration) (int, error)
	// Take asks for n of a rate. Where they can't be had now, nothing is taken,
	// and wait is when they can.
	Take(ctx context.Context, key string, r Rate, n int) (wait time.Duration, err error)
	// Enter notes that id is one of those that are at key, for ttl at most, and
	// returns how many are, id included. With more than limit it does not enter.
	Enter(ctx context.Context, key, id string, limit int, ttl time.Duration) (n int, entered bool, err error)
	// Leave takes that back.
	Leave(ctx context.Context, key, id string) error
	// Grey decides on a delivery by greylisting.
	Grey(ctx context.Context, t Triple) (Grey, error)

	// Name is for people: "sqlite:/path", "redis://host".
	Name() string
	Close() error
}
