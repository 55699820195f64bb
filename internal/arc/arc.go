// Package arc verifies and makes Authenticated Received Chains (RFC 8617): what
// those who passed a message on say of it, each signing what stood before.
package arc

import (
	"context"
	"time"

	"gatepost/internal/mail"
)

// Resolver finds the keys of sealers, as a *dns.Client does. An error that is
// dns.ErrNoName means that there is no key, any other that nobody could tell.
type Resolver interface {
	LookupTXT(ctx context.Context, name string) (texts []string, authentic bool, err error)
}

// Limits bound what a message may cost. A zero in any field is its default.
type Limits struct {
	MaxSets    int           // sets of a chain that are looked at; default 50, the most that there may be
	MaxHeader  int64         // bytes in the header; default 256 kB
	MaxNames   int           // names in one h=; default 200
	MinRSABits int           // default 1024
	MaxRSABits int           // default 4096
	Timeout    time.Duration // for all of it; default 20s
}

// Value is the result of a chain, in the words of RFC 8601.
type Value string

// The values. There is no pass but by a whole chain that was checked to its
// beginning.
const (
	None      Value = "none" // the message has no chain
	Pass      Value = "pass"
	Fail      Value = "fail"
	TempError Value = "temperror" // a key could not be had; nothing else is wrong so far
)

// Result is what a chain says.
type Result struct {
	Value Value
	Why   string // for people, when the value is not pass or none
	// Sets are those of the chain, the oldest first. Who wrote them is known
	// only where the value is pass.
	Sets []Set
	// OldestPass is the first instance whose signature of the message still
	// holds: nobody changed it from there on. 0: all do (RFC 8617 5.2). It is
	// set where the value is pass.
	OldestPass int
}

// Sealer is the domain of the newest set, "" where there is none.
func (r Result) Sealer() string {
	if len(r.Sets) == 0 {
		return ""
	}
	return r.Sets[len(r.Sets)-1].Domain
}

// Set is what one sealer put on.
type Set struct {
	Instance int
	Domain   string // d= of its seal, in lower case
	Selector string // s= of its seal
	// Results is its ARC-Authentication-Results without the instance:
	// "mx.example.org; spf=pass smtp.mailfrom=…". Whoever reads it has to parse
	// it with distrust.
	Results string
}

// Verify checks the chain of a message (RFC 8617 5.2).
func Verify(ctx context.Context, m *mail.Message, r Resolver, limits Limits) Result {
	return verify(ctx, m, r, limits.complete())
}
