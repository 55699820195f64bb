package forward

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"gatepost/internal/mail"
)

// failure is why a connection came to nothing. Its reply is the answer to all
// recipients that it left without one, a 4xx unless it is final.
type failure struct {
	reply   mail.Reply
	remote  string
	ours    bool // another host would do no better
	final   bool // for good: the reply is a 5xx, and the recipients have failed
	tls     bool // the handshake: it may work in clear
	loud    bool // somebody has to do something
	garbled bool // replies may belong to other commands than they seemed to
}

func (f *failure) Error() string { return f.reply.String() }

// interrupted is the failure of a delivery that was called off.
func interrupted() *failure {
	return &failure{ours: true, reply: mail.Reply{Code: 451, Detail: "3.2", Text: "the delivery was interrupted"}}
}

// unreadable is the failure of a message that can't be read from where it is
// kept, or not to its end.
func unreadable(err error) *failure {
	return &failure{ours: true, reply: mail.Reply{Code: 451, Detail: "3.0", Text: fmt.Sprintf("the message can't be read: %v", err)}}
}

// noConnection is the failure to reach a host at all.
func noConnection(h hop, err error) *failure {
	return &failure{reply: mail.Reply{Code: 451, Detail: "4.1", Text: fmt.Sprintf("connect to %s: %s", h.where(), reason(err))}}
}

// turnedAway is a host that does not want to talk to us, for good or not: that
// is a fault of the two of us, not of the message, so nothing bounces.
func turnedAway(r mail.Reply) *failure {
	return &failure{reply: mail.Reply{Code: 451, Detail: "3.2", Text: "the next hop does not talk to us: " + r.String()}}
}

// hungUp is a 421: the peer closes the connection (RFC 5321 3.8).
func hungUp(r mail.Reply) *failure { return &failure{reply: bounded(r)} }

// noTLS is a connection that can't be encrypted as it must be.
func noTLS(detail, format string, args ...any) *failure {
	return &failure{reply: mail.Reply{Code: 451, Detail: detail, Text: fmt.Sprintf(format, args...)}}
}

// protocolError is a peer that does not speak SMTP, or not to what we said.
type protocolError string

func (e protocolError) Error() string { return string(e) }

// broken is a connection that ended, or had to be ended, in the middle.
func broken(doing string, err error) *failure {
	var p protocolError
	if errors.As(err, &p) {
		return &failure{garbled: true, reply: mail.Reply{Code: 451, Detail: "5.0", Text: fmt.Sprintf("protocol error while %s: %s", doing, p)}}
	}
	return &failure{reply: mail.Reply{Code: 451, Detail: "4.2", Text: fmt.Sprintf("connection failed while %s: %s", doing, reason(err))}}
}

// reason is what the operating system calls an error, without Go's layers.
func reason(err error) string {
	var errno syscall.Errno
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "no answer in time"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "closed by the next hop"
	case errors.As(err, &errno):
		return errno.Error()
	}
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		return "no answer in time"
	}
	return err.Error()
}
