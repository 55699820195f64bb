package child

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"gatepost/internal/mail"
	"gatepost/milter"

	gomilter "github.com/emersion/go-milter"
)

// view is what the milter sees of a header: all but the field that the MTA put
// on top. Where an MTA asks us, we don't see that one either.
type view struct {
	own int // its place; -1: not in the header
}

// shown finds our own Received, by the message's ID. It stands on top, or below
// what other milters inserted above it.
func shown(tx *mail.Transaction) view {
	s := tx.Session
	if s.Via == mail.ViaMilter || s.Via == mail.ViaScan && !s.Client.IsValid() {
		return view{-1}
	}
	first := -1
	for i, f := range tx.Message.Header {
		if !f.Is("Received") {
			continue
		}
		if slices.Contains(strings.FieldsFunc(f.Value(), func(r rune) bool { return r == ' ' || r == ';' }), tx.ID) {
			return view{i}
		}
		if first < 0 {
			first = i
		}
	}
	return view{first}
}

// changes makes edits of what the milter asked for, within its rights.
func (c *checker) changes(tx *mail.Transaction, seen view, edits []milter.Edit) (milter.Changes, error) {
	if len(edits) == 0 {
		return milter.Changes{}, nil
	}
	if err := c.permitted(edits); err != nil {
		return milter.Changes{}, err
	}
	sent := milter.Sent{
		Header: tx.Message.Header,
		Above:  max(seen.own, 0),
		Hidden: 1,
		Exact:  c.conn.Agreed().Protocol&gomilter.OptHeaderLeadingSpace != 0,
		Host:   cmp.Or(tx.Session.Macros["j"], c.f.cfg.Hostname),
		MTA:    tx.Session.Macros["v"],
	}
	if seen.own < 0 { // counted, although nobody here sees it
		sent.Header = slices.Insert(slices.Clone(sent.Header), 0, mail.NewField("Received", ""))
	}
	made, err := sent.Changes(edits)
	if err != nil {
		return milter.Changes{}, err
	}
	if seen.own < 0 {
		shiftUp(made.Edits)
	}
	made.Edits, err = fit(tx.Envelope, made.Edits)
	return made, err
}

// permitted refuses edits of header fields that are none of the milter's
// business. The other rights were settled by the negotiation.
func (c *checker) permitted(edits []milter.Edit) error {
	if len(c.f.cfg.Headers) == 0 {
		return nil
	}
	for _, e := range edits {
		switch gomilter.ModifyActCode(e.Code) {
		case gomilter.ActAddHeader, gomilter.ActInsertHeader, gomilter.ActChangeHeader:
			if !slices.ContainsFunc(c.f.cfg.Headers, func(name string) bool { return strings.EqualFold(name, e.Header.Name) }) {
				return fmt.Errorf("it may not touch the header field %q", e.Header.Name)
			}
		}
	}
	return nil
}

// shiftUp takes the MTA's own field, which stood first, out of the count.
// Nothing can be put above it: what was meant to be goes right below.
func shiftUp(edits []mail.Edit) {
	for i, e := range edits {
		switch e := e.(type) {
		case mail.InsertHeader:
			e.At = max(e.At-1, 0)
			edits[i] = e
		case mail.ChangeHeader:
			e.At--
			edits[i] = e
		case mail.DeleteHeader:
			e.At--
			edits[i] = e
		}
	}
}

// fit makes edits of the envelope and the body good for our side. A recipient
// to be deleted is named as in the envelope, one that is there is not added
// again, as in Postfix. Lines end in CRLF: a bare LF would let the body's author
// end the message where we don't (SMTP smuggling).
func fit(env mail.Envelope, edits []mail.Edit) ([]mail.Edit, error) {
	to := slices.Clone(env.Recipients)
	find := func(a mail.Address) int {
		return slices.IndexFunc(to, func(r mail.Path) bool { return r.Domain == a.Domain && strings.EqualFold(r.Local, a.Local) })
	}
	fitted := make([]mail.Edit, 0, len(edits))
	for _, e := range edits {
		switch change := e.(type) {
		case mail.AddRecipient:
			if find(change.Recipient.Address) >= 0 {
				continue
			}
			to = append(to, change.Recipient)
		case mail.DeleteRecipient:
			i := find(change.Recipient)
			if i < 0 {
				continue
			}
			e = mail.DeleteRecipient{Recipient: to[i].Address}
			to = slices.Delete(to, i, i+1)
		case mail.ReplaceBody:
			body, err := io.ReadAll(io.NewSectionReader(change.Body, 0, change.Size))
			if err != nil {
				return nil, err
			}
			body = wholeLines(body)
			e = mail.ReplaceBody{Body: bytes.NewReader(body), Size: int64(len(body))}
		}
		fitted = append(fitted, e)
	}
	return fitted, nil
}

// wholeLines ends every line, the last one too, in CRLF.
func wholeLines(b []byte) []byte {
	out := make([]byte, 0, len(b)+2)
	for i, c := range b {
		switch {
		case c == '\n' && (i == 0 || b[i-1] != '\r'):
			out = append(out, '\r', '\n')
		case c == '\r' && (i+1 == len(b) || b[i+1] != '\n'):
			out = append(out, '\r', '\n')
		default:
			out = append(out, c)
		}
	}
	if len(out) > 0 && out[len(out)-1] != '\n' {
		out = append(out, '\r', '\n')
	}
	return out
}
