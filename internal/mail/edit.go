package mail

import "io"

// Edit is one change to a message: a value, made by whoever decides, applied by
// the proxy, encoded by the milter server. Header edits name a field by its
// place in the header that the message had when it was judged, so the order of
// edits never matters.
type Edit interface{ edit() }

// The edits.
type (
	// InsertHeader puts a field before the one that stands at At; 0 is the
	// top, the length of the header its end. Several at one place keep their
	// order.
	InsertHeader struct {
		At    int
		Field Field
	}
	// ChangeHeader replaces the field at At.
	ChangeHeader struct {
		At    int
		Field Field
	}
	// DeleteHeader removes the field at At.
	DeleteHeader struct{ At int }
	// ChangeSender replaces the envelope sender.
	ChangeSender struct{ Sender Path }
	// AddRecipient adds an envelope recipient.
	AddRecipient struct{ Recipient Path }
	// DeleteRecipient removes an envelope recipient.
	DeleteRecipient struct{ Recipient Address }
	// ReplaceBody replaces the body.
	ReplaceBody struct {
		Body io.ReaderAt
		Size int64
	}
)

func (InsertHeader) edit()    {}
func (ChangeHeader) edit()    {}
func (DeleteHeader) edit()    {}
func (ChangeSender) edit()    {}
func (AddRecipient) edit()    {}
func (DeleteRecipient) edit() {}
func (ReplaceBody) edit()     {}

// Apply returns the envelope and message that the edits make of env and m. Both
// arguments stay as they are.
func Apply(env Envelope, m *Message, edits []Edit) (Envelope, *Message) {
	if len(edits) == 0 {
		return env, m
	}
	env = env.Clone()
	body, size := m.body, m.bodySize
	inserts := make(map[int][]Field)
	changes := make(map[int]Field)
	deleted := make(map[int]bool)
	for _, e := range edits {
		switch e := e.(type) {
		case InsertHeader:
			at := min(max(e.At, 0), len(m.Header))
			inserts[at] = append(inserts[at], e.Field)
		case ChangeHeader:
			changes[e.At] = e.Field
		case DeleteHeader:
			deleted[e.At] = true
		case ChangeSender:
			env.Sender = e.Sender
		case AddRecipient:
			env.Recipients = append(env.Recipients, e.Recipient)
		case DeleteRecipient:
			kept := env.Recipients[:0]
			for _, r := range env.Recipients {
				if r.Address != e.Recipient {
					kept = append(kept, r)
				}
			}
			env.Recipients = kept
		case ReplaceBody:
			body, size = e.Body, e.Size
		}
	}
	var h Header
	for i := 0; i <= len(m.Header); i++ {
		h = append(h, inserts[i]...)
		if i == len(m.Header) || deleted[i] {
			continue
		}
		f, ok := changes[i]
		if !ok {
			f = m.Header[i]
		}
		h = append(h, f)
	}
	return env, NewMessage(h, body, size)
}
