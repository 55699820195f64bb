package arc

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"gatepost/internal/dkim"
	"gatepost/internal/mail"
)

// Sealing is a set to be put on a message that is passed on.
type Sealing struct {
	Key      *dkim.Key
	Fields   dkim.Fields // what is signed; fields of chains never are
	BodyHash []byte      // dkim.BodyHash(body, dkim.Relaxed), of the message as it goes out
	At       time.Time
	// Incoming is what Verify said of the message as it came: None or Pass.
	// Whoever seals after anything else would vouch for what is broken.
	Incoming Value
	// Results are Authentication-Results for the message as it came, with our
	// name: "mx.example.org; spf=pass …".
	Results string
}

// ErrFull says that a chain has as many sets as it may have.
var ErrFull = errors.New("arc: the chain is full")

// Seal returns the fields of a new set, for the top of the header, as they are
// to stand there.
func (s Sealing) Seal(h mail.Header) ([]mail.Field, error) {
	chain, err := collect(h, DefaultLimits())
	switch {
	case err != nil:
		return nil, fmt.Errorf("arc: sealing: %w", err)
	case s.Incoming != None && s.Incoming != Pass:
		return nil, fmt.Errorf("arc: sealing: %w: it is %s", ErrChain, s.Incoming)
	case (s.Incoming == None) != (len(chain) == 0):
		return nil, fmt.Errorf("arc: sealing: %w: %d sets, but it is %s", ErrChain, len(chain), s.Incoming)
	case len(chain) >= MaxInstance:
		return nil, ErrFull
	}
	i := "i=" + strconv.Itoa(len(chain)+1)
	results := mail.NewField(fieldResults, i+"; "+s.Results)
	names := s.Fields.Names(h)
	common := []string{"a=" + s.Key.Algorithm(), "d=" + s.Key.Domain, "s=" + s.Key.Selector, "t=" + strconv.FormatInt(s.At.Unix(), 10)}
	tags := append([]string{i, "c=relaxed/relaxed"}, common...)
	signature, err := dkim.SignFields(fieldSignature, append(tags, dkim.HashTags(names, s.BodyHash)...), s.Key, dkim.Select(h, names))
	if err != nil {
		return nil, err
	}
	tags = append([]string{i, "cv=" + string(s.Incoming)}, common...)
	seal, err := dkim.SignFields(fieldSeal, tags, s.Key, sealed(chain, results, signature))
	if err != nil {
		return nil, err
	}
	return []mail.Field{seal, signature, results}, nil
}
