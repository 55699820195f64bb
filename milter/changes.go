package milter

import (
	"bytes"
	"strings"

	"gatepost/internal/mail"
	"gatepost/milter/wire"

	"github.com/emersion/go-milter"
)

// Changes is what a milter wants of a message, in our terms.
type Changes struct {
	Edits      []mail.Edit // relative to the header that was judged
	Quarantine bool
	Reason     string // of the quarantine
}

// Sent tells what the indexes in a milter's edits count.
type Sent struct {
	Header mail.Header // of the message
	Above  int         // fields above the hidden ones
	Hidden int         // fields that the milter was not shown: the MTA's own Received
	Exact  bool        // the blank behind the colon is part of the value (HDR_LEADSPC)
	Host   string      // the domain of an address that has none
	MTA    string      // macro v, by which the milter tells sendmail from Postfix
}

// Changes makes of edits what Postfix would: each counts in the header that
// the ones before have left. A change counts fields of its name that the milter
// was shown, an insertion all fields, those that it was not shown included.
// Behind sendmail a deleted field still counts (milter_changeheader).
func (s Sent) Changes(edits []Edit) (Changes, error) {
	var c Changes
	var body bytes.Buffer
	replaced := false
	r := newReplay(s)
	for _, e := range edits {
		var err error
		switch milter.ModifyActCode(e.Code) {
		case milter.ActAddHeader, milter.ActInsertHeader, milter.ActChangeHeader:
			err = r.header(e)
		case milter.ActReplBody:
			replaced = true
			body.Write(e.Body)
		case milter.ActQuarantine:
			c.Quarantine, c.Reason = true, mail.CleanText(e.Reason)
		default:
			var made mail.Edit
			if made, err = s.envelope(e); made != nil {
				c.Edits = append(c.Edits, made)
			}
		}
		if err != nil {
			return Changes{}, err
		}
	}
	c.Edits = append(c.Edits, r.edits()...)
	if replaced {
		c.Edits = append(c.Edits, mail.ReplaceBody{Body: bytes.NewReader(body.Bytes()), Size: int64(body.Len())})
	}
	return c, nil
}

// envelope is an edit of the sender or a recipient. To take away a recipient
// whose address can't be one is to do nothing.
func (s Sent) envelope(e Edit) (mail.Edit, error) {
	text := strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(e.Envelope.Address), "<"), ">")
	if text != "" && s.Host != "" && !strings.Contains(text, "@") {
		text += "@" + s.Host
	}
	a, err := mail.ParseAddress(text, true)
	p := mail.Path{Address: a}
	if e.Code == byte(milter.ActDelRcpt) {
		if err != nil {
			return nil, nil
		}
		return mail.DeleteRecipient{Recipient: a}, nil
	}
	if err != nil {
		return nil, broken("change %q to %q: %v", e.Code, text, err)
	}
	// The arguments come as one string, whatever the packet could hold.
	for _, arg := range strings.Fields(strings.Join(e.Envelope.Args, " ")) {
		if strings.ContainsFunc(arg, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			return nil, broken("change %q with the argument %q", e.Code, arg)
		}
		p.Args = append(p.Args, arg)
	}
	if e.Code == byte(milter.ActChangeFrom) {
		return mail.ChangeSender{Sender: p}, nil
	}
	if a.IsNull() {
		return nil, broken("an empty address for a recipient")
	}
	return mail.AddRecipient{Recipient: p}, nil
}

// replay is a header while a milter's edits are done to it.
type replay struct {
	Sent
	slots []slot
	keeps bool // deleted fields keep their place in the count, as in sendmail
}

// slot is a field with its identity.
type slot struct {
	at      int // in the header that was judged; -1: inserted
	field   mail.Field
	gone    bool
	changed bool
}

func newReplay(s Sent) *replay {
	r := &replay{Sent: s, slots: make([]slot, len(s.Header)), keeps: dialectOf(s.MTA) == sendmail}
	for i, f := range s.Header {
		r.slots[i] = slot{at: i, field: f}
	}
	return r
}

func (r *replay) header(e Edit) error {
	change := e.Code == byte(milter.ActChangeHeader)
	if change && e.Header.Value == "" {
		if i := r.find(e.Header); i >= 0 {
			r.slots[i].gone = true
		}
		return nil
	}
	found := -1
	if change {
		found = r.find(e.Header)
	}
	if found >= 0 && r.keeps { // sendmail changes the value only
		e.Header.Name = r.slots[found].field.Name()
	}
	f, err := field(e.Header, r.Exact)
	if err != nil {
		return err
	}
	if found >= 0 {
		r.slots[found].field, r.slots[found].changed, r.slots[found].gone = f, true, false
		return nil
	}
	at := len(r.slots)
	if e.Code == byte(milter.ActInsertHeader) {
		at = r.place(e.Header.Index)
	}
	r.slots = append(r.slots[:at], append([]slot{{at: -1, field: f}}, r.slots[at:]...)...)
	return nil
}

// find returns the slot of the n-th field of a name, from 1 (and 0 means 1),
// among those that the milter knows; -1 when there is none.
func (r *replay) find(h wire.Header) int {
	n := max(h.Index, 1)
	for i, s := range r.slots {
		if s.gone && !r.keeps || s.at >= r.Above && s.at < r.Above+r.Hidden || !s.field.Is(h.Name) {
			continue
		}
		if n--; n == 0 {
			return i
		}
	}
	return -1
}

// place returns the slot of the n-th field, from 0.
func (r *replay) place(n uint32) int {
	for i, s := range r.slots {
		if s.gone && !r.keeps {
			continue
		}
		if n == 0 {
			return i
		}
		n--
	}
	return len(r.slots)
}

// edits is what became of the header.
func (r *replay) edits() []mail.Edit {
	before := make([]int, len(r.slots)) // which field of the old header comes next
	for i, next := len(r.slots)-1, len(r.Header); i >= 0; i-- {
		if r.slots[i].at >= 0 {
			next = r.slots[i].at
		}
		before[i] = next
	}
	var out []mail.Edit
	for i, s := range r.slots {
		switch {
		case s.at < 0 && !s.gone:
			out = append(out, mail.InsertHeader{At: before[i], Field: s.field})
		case s.at < 0:
		case s.gone:
			out = append(out, mail.DeleteHeader{At: s.at})
		case s.changed:
			out = append(out, mail.ChangeHeader{At: s.at, Field: s.field})
		}
	}
	return out
}

// field makes a field of what a milter gave: byte for byte, but that it is one
// field for sure. A line that would begin another is made to continue it, and
// one that would end the header is left out.
func field(h wire.Header, exact bool) (mail.Field, error) {
	var b bytes.Buffer
	b.WriteString(h.Name)
	b.WriteByte(':')
	if !exact {
		b.WriteByte(' ')
	}
	for i, line := range strings.Split(strings.ReplaceAll(h.Value, "\r", ""), "\n") {
		switch {
		case i == 0:
		case strings.Trim(line, " \t") == "":
			continue
		case line[0] != ' ' && line[0] != '\t':
			b.WriteString("\r\n\t")
		default:
			b.WriteString("\r\n")
		}
		b.WriteString(line)
	}
	b.WriteString("\r\n")
	made, end, err := mail.SplitHeader(b.Bytes())
	if err != nil || len(made) != 1 || end != b.Len() || made[0].Name() != h.Name {
		return mail.Field{}, broken("a header field %q that is none", h.Name)
	}
	return made[0], nil
}
