package mail

import (
	"io"
	"time"
)

// Status is how a delivery attempt ended for one recipient.
type Status int

// The statuses.
const (
	Deferred  Status = iota // to be tried again: the zero value loses nothing
	Delivered               // the next hop took responsibility
	Failed                  // permanently; the sender is to be told
)

var statusNames = [...]string{"deferred", "sent", "bounced"}

// String names the status in the words of Postfix's log.
func (s Status) String() string { return statusNames[s] }

// Outcome is the result of one delivery attempt for one recipient.
type Outcome struct {
	Recipient Address
	Status    Status
	Reply     Reply         // the next hop's words, or ours where it had none
	Remote    string        // the next hop: "name[address]:port", "" when none was reached
	TLS       string        // protocol version, "" in clear
	Took      time.Duration // of the attempt
	DSN       bool          // the next hop took over the duty to send notifications (RFC 3461)
}

// Content is a whole message as it goes out: header, empty line, body. It can
// be read more than once and from several places at a time.
type Content interface {
	io.ReaderAt
	io.WriterTo
	Size() int64
}
