package mail

import (
	"slices"
	"strings"
)

// Path is an address with the ESMTP arguments it came with, in order and
// unparsed ("SIZE=1234", "NOTIFY=NEVER"). Their syntax was checked.
type Path struct {
	Address
	Args []string
}

// Arg returns the value of an argument, and whether it is there.
func (p Path) Arg(keyword string) (value string, ok bool) {
	for _, a := range p.Args {
		k, v, _ := strings.Cut(a, "=")
		if strings.EqualFold(k, keyword) {
			return v, true
		}
	}
	return "", false
}

// Envelope is who sends and who shall receive.
type Envelope struct {
	Sender     Path
	Recipients []Path
}

// Clone returns an Envelope that shares nothing that changes.
func (e Envelope) Clone() Envelope {
	return Envelope{Sender: e.Sender, Recipients: slices.Clone(e.Recipients)}
}

// UTF8 reports whether the sender asked for SMTPUTF8.
func (e Envelope) UTF8() bool {
	_, ok := e.Sender.Arg("SMTPUTF8")
	return ok
}
