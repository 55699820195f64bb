package history

import (
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"gatepost/internal/mail"
)

// Gap is something that a record does not tell.
type Gap string

// The gaps.
const (
	GapBody       Gap = "the body of the message"
	GapMessage    Gap = "the message: it ended before"
	GapHeader     Gap = "the end of a very long header"
	GapRecipients Gap = "some of very many recipients"
	GapInside     Gap = "parts, hashes and links: nobody took the message apart"
	GapParts      Gap = "some of very many parts and links"
	GapText       Gap = "the text: history_text is not set"
	GapFindings   Gap = "some of very many findings"
)

// Unknown lists what can't be known from the record. The body of a message is
// never kept.
func (r *Record) Unknown() []Gap {
	if r.Stage != mail.StageMessage.String() || r.Size == 0 {
		return []Gap{GapMessage}
	}
	gaps := []Gap{GapBody}
	add := func(g Gap, is bool) {
		if is {
			gaps = append(gaps, g)
		}
	}
	add(GapHeader, r.HeaderCut)
	add(GapRecipients, r.Omitted > 0)
	add(GapFindings, len(r.Findings) == mostFindings)
	add(GapInside, r.Inside == nil)
	if r.Inside != nil {
		add(GapParts, r.Inside.Omitted > 0)
		add(GapText, r.Inside.Text == "")
	}
	return gaps
}

// ErrNoBody is what reading the body of a rebuilt message gives.
var ErrNoBody = errors.New("history: the body is not kept")

type noBody struct{}

func (noBody) ReadAt([]byte, int64) (int, error) { return 0, ErrNoBody }

// Transaction is the mail as it was when it was judged, as far as it is known.
// Its message has a body of the right size that can't be read.
func (r *Record) Transaction() *mail.Transaction {
	tx := &mail.Transaction{ID: r.ID, Stage: stageOf(r.Stage), Session: r.Session.mail(r.Again), Start: r.Time.Add(-r.Took)}
	tx.Envelope.Sender = r.Sender.mail()
	for _, p := range r.Recipients {
		if p.Stage == "" {
			tx.Envelope.Recipients = append(tx.Envelope.Recipients, p.Path.mail())
		}
	}
	for _, f := range r.Findings {
		tx.Findings = append(tx.Findings, mail.Finding{Filter: f.Filter, Name: f.Name, Value: f.Value, Score: f.Score, Text: f.Text, Rcpt: address(f.Rcpt)})
	}
	for _, a := range r.Asked {
		tx.Asked = append(tx.Asked, mail.Asked{
			Filter: a.Filter, Stage: stageOf(a.Stage), Result: a.Result, Start: tx.Start.Add(a.Start), Took: a.Took, Shadow: a.Shadow,
		})
	}
	if r.Size > 0 {
		h, _, err := mail.SplitHeader(append(slices.Clip(r.Header), "\r\n"...))
		if err != nil {
			h = nil // it was one when it was judged
		}
		body := max(r.Size-h.Size()-2, 0)
		tx.Message = mail.NewMessage(h, noBody{}, body)
	}
	if r.Inside != nil {
		tx.Inside = r.Inside.mail()
	}
	return tx
}

func stageOf(name string) mail.Stage {
	for s := mail.StageConnect; s < mail.StageMessage; s++ {
		if s.String() == name {
			return s
		}
	}
	return mail.StageMessage
}

func (s *Session) mail(again bool) *mail.Session {
	out := &mail.Session{
		ID: s.ID, Listener: s.Listener, Via: mail.Via(s.Via), Client: s.Client, Name: s.Name, Trusted: s.Trusted, Helo: s.Helo, ESMTP: s.ESMTP,
		User: s.User, AuthMech: s.AuthMech, PTR: s.PTR, Resolve: mail.Resolve(s.Resolve), Role: s.Role, Window: s.Window, Pregreet: s.Pregreet,
		Proxied: s.Proxied, Again: again, Start: s.Start, Macros: s.Macros,
	}
	if s.TLS != nil {
		out.TLS = &mail.TLS{Version: s.TLS.Version, Cipher: s.TLS.Cipher, Subject: s.TLS.Subject, Verified: s.TLS.Verified, Relay: s.TLS.Relay}
	}
	return out
}

func (p Path) mail() mail.Path { return mail.Path{Address: address(p.Address), Args: p.Args} }

// address reads what a mail.Address was printed as.
func address(s string) mail.Address {
	a, err := mail.ParseAddress(s, true)
	if err != nil {
		return mail.Address{} // what was refused may be no address
	}
	return a
}

func (in *Inside) mail() *mail.Inside {
	out := &mail.Inside{Ambiguous: in.Ambiguous, Unseen: in.Unseen, Text: in.Text, Took: in.Took}
	for _, p := range in.Parts {
		out.Parts = append(out.Parts, mail.Part{
			Path: p.Path, Names: p.Names, Declared: p.Declared, Detected: p.Detected, Inline: p.Inline, Size: p.Size, SHA256: p.SHA256, Archive: p.Archive,
			Depth: p.Depth, Encrypted: p.Encrypted, Macros: p.Macros, Program: p.Program, Protected: p.Protected, At: p.At, Length: p.Length,
		})
	}
	for _, u := range in.URLs {
		out.URLs = append(out.URLs, mail.URL{Host: u.Host, Text: u.Text})
	}
	return out
}

// event makes an Event to be kept.
func event(e mail.Event) Event {
	out := Event{Time: e.Time, ID: e.ID, What: e.What, Rcpt: e.Rcpt.String(), Remote: cut(e.Remote, longestName), Text: cut(e.Text, longestWords), By: cut(e.By, longestName)}
	if e.What == mail.EventAttempt {
		out.Status = e.Status.String()
	}
	return out
}

// cursor and its reading: the place of a record.
func cursor(seq int64) string { return strconv.FormatInt(seq, 36) }

func readCursor(s string) (int64, error) { return strconv.ParseInt(s, 36, 64) }

// addr is the client's address in the one form that is searched.
func (r *Record) addr() netip.Addr { return r.Session.Client.Addr().Unmap().WithZone("") }

func micros(t time.Time) int64 { return t.UnixMicro() }

func lower(s string) string { return strings.ToLower(s) }
