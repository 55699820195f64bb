package proxy

import (
	"crypto/sha256"
	"errors"
	"hash"
	"io"

	"gatepost/internal/mail"
)

// intake takes the text of one message into a draft. When the message turns out
// to be refused it drops the draft and only counts: the text is read to its end
// in any case, because what we left unread would be taken for commands.
type intake struct {
	scanner
	pace  *pace
	draft draft            // nil: nothing is kept
	norm  *mail.CRLFWriter // nil: bare line ends are refused
	hash  hash.Hash        // of the text as it came; nil: not wanted
	size  int64
	max   int64
	err   error // of the draft
}

// newIntake begins the text of the current transaction.
func (s *session) newIntake(dots bool) *intake {
	in := &intake{scanner: scanner{dots: dots}, pace: newPace(s.set.Limits), max: s.set.Limits.MaxSize}
	if s.tx.sticky.action == mail.Discard {
		return in
	}
	in.draft = s.store.Draft(s.tx.ID)
	if s.set.Limits.RepeatMemory > 0 {
		in.hash = sha256.New()
	}
	if s.normalises() {
		in.norm = &mail.CRLFWriter{W: in.draft}
	}
	return in
}

// write takes what scan returned.
func (in *intake) write(text []byte) {
	in.size += int64(len(text))
	if in.draft == nil || len(text) == 0 {
		return
	}
	if in.size > in.max || in.unfit() != nil {
		in.drop()
		return
	}
	if in.hash != nil {
		_, _ = in.hash.Write(text) // never fails
	}
	var w io.Writer = in.draft
	if in.norm != nil {
		w = in.norm
	}
	if _, err := w.Write(text); err != nil {
		in.err = err
		in.drop()
	}
}

// finish tells that the text is complete.
func (in *intake) finish() {
	in.scanner.finish()
	if in.draft == nil || in.norm == nil {
		return
	}
	if err := in.norm.Close(); err != nil {
		in.err = err
		in.drop()
	}
}

// unfit is the fault that the message is refused for.
func (in *intake) unfit() error {
	err := in.fault()
	if in.norm != nil && !errors.Is(err, errNUL) {
		return nil
	}
	return err
}

func (in *intake) drop() {
	if in.draft != nil {
		in.draft.Discard()
		in.draft = nil
	}
}

// problem is why the message can't be taken: the reply, and its name in Stats,
// "" for none.
func (in *intake) problem() (r mail.Reply, cause string) {
	fault := in.unfit()
	switch {
	case in.size > in.max:
		return tooLarge(in.max), causeSize
	case fault != nil:
		r = mail.Reply{Code: 554, Detail: "6.0", Text: "the message contains " + fault.Error()}
		return r, faultCause(fault)
	case in.err != nil:
		return spoolFault(in.err)
	}
	return mail.Reply{}, ""
}

// Causes, as Stats counts them.
const (
	causePolicy  = "policy"
	causeBareCR  = "bare-cr"
	causeBareLF  = "bare-lf"
	causeNUL     = "nul"
	causeSize    = "size"
	causeHeader  = "header"
	causeLoop    = "loop"
	causeTimeout = "judge-timeout"
	causePanic   = "panic"
	causeSpool   = "spool"
	causeFull    = "full"
	causeGone    = "gone"
	causeRepeat  = "repeat"
	causeNextHop = "next-hop"
)

func faultCause(err error) string {
	switch {
	case errors.Is(err, errBareCR):
		return causeBareCR
	case errors.Is(err, errBareLF):
		return causeBareLF
	}
	return causeNUL
}
