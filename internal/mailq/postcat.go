package mailq

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// envelope is what postcat shows before the content.
type envelope struct {
	text    string
	null    bool
	foreign string
}

const (
	envelopeMark = "*** ENVELOPE RECORDS "
	contentMark  = "*** MESSAGE CONTENTS "

	maxEnvelope     = 256 << 10
	maxEnvelopeLine = 32 << 10
)

// readEnvelope reads up to the content, which r then stands at. What looks like a
// mark within the content comes too late to matter.
func readEnvelope(r *bufio.Reader, id string) (envelope, error) {
	var e envelope
	var text strings.Builder
	senders, local := 0, false
	for first := true; ; first = false {
		line, err := r.ReadSlice('\n')
		if err != nil {
			if errors.Is(err, io.EOF) {
				return e, ErrGone
			}
			return e, fmt.Errorf("mailq: envelope of %s: %w", id, err)
		}
		s := strings.TrimRight(string(line), "\n")
		if first {
			place, ok := strings.CutPrefix(s, envelopeMark)
			if !ok || !strings.HasPrefix(place, deferred+"/") || !strings.HasSuffix(place, "/"+id+" ***") {
				return e, ErrChanged // it went to another queue
			}
		}
		if strings.HasPrefix(s, contentMark) {
			break
		}
		if text.WriteString(s + "\n"); text.Len() > maxEnvelope {
			return e, fmt.Errorf("mailq: envelope of %s is longer than any bounce needs", id)
		}
		name, value, _ := strings.Cut(s, ":")
		value = strings.TrimSpace(value)
		switch {
		case name == "sender":
			senders++
			e.null = value == ""
		case name == "sender_fullname":
			e.foreign = "a user of this host made it"
		case name == "named_attribute":
			attribute, value, _ := strings.Cut(value, "=")
			switch attribute {
			case "log_message_origin":
				local = value == "local"
			case "log_client_name", "log_client_address", "client_name", "client_address", "log_helo_name", "helo_name", "sasl_username":
				e.foreign = "it came from elsewhere: its envelope has a client"
			}
		}
	}
	if !local && e.foreign == "" {
		e.foreign = "Postfix did not make it: its envelope does not say so"
	}
	e.null = e.null && senders == 1
	e.text = text.String()
	return e, nil
}
