package recipients

import (
	"context"
	"fmt"
	"strings"

	"gatepost/internal/mail"
)

// is is what a source can say of an address.
type is int

const (
	isUnknown  is = iota // there is nobody of that name
	isKnown              // there is
	isRefused            // there may be, but no mail is taken: answer.reply says why
	isDeferred           // the same, for now
	isAnything           // the source says so of every name, so it says nothing
)

var isNames = [...]string{"unknown", "known", "refused", "deferred", "anything"}

func (i is) String() string { return isNames[i] }

// answer is what a source says. An error beside it means that it can't tell.
type answer struct {
	is    is
	reply mail.Reply // of isRefused and isDeferred; of isUnknown where the source has its own words
}

// source knows recipients. It may be asked by many at a time, and has a time of
// its own for an answer.
type source interface {
	ask(ctx context.Context, a mail.Address) (answer, error)
}

// named is a source as the configuration names it.
type named struct {
	source
	name    string // "file:/etc/gatepost/recipients", "ldap:corp"
	label   string // of metrics: without what is long
	onError OnError
	cached  *cache // nil: the source answers from memory
}

// OnError is what it means that a source can't tell.
type OnError string

// The words for OnError.
const (
	TempFail OnError = "tempfail" // 451: the sender tries again
	Accept   OnError = "accept"   // as if the recipient were known
)

// Validate refuses unknown words.
func (o OnError) Validate() error {
	switch o {
	case TempFail, Accept:
		return nil
	}
	return fmt.Errorf("%q is not one of tempfail, accept", string(o))
}

// key is the form in which addresses are compared: no mail server in use tells
// apart what differs in case.
func key(a mail.Address) string { return strings.ToLower(a.Local) + "@" + a.ASCIIDomain() }

// anyone knows everybody.
type anyone struct{}

func (anyone) ask(context.Context, mail.Address) (answer, error) { return answer{is: isKnown}, nil }
