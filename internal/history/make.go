package history

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"gatepost/internal/mail"
)

// What of one message is kept at most. A stranger chooses how many parts, links
// and findings there are.
const (
	mostRecipients = 1000
	mostParts      = 500
	mostURLs       = 500
	mostFindings   = 500
	mostRules      = 1000
	mostAsked      = 500
	mostEdits      = 200
	mostMacros     = 100

	longestHeader = 64 << 10
	longestText   = 16 << 10 // of Inside
	longestWords  = 1000     // of a finding, a reply, a reason
	longestName   = 300      // of a file, a URL, a subject
)

// Refused is a recipient that was refused at RCPT.
type Refused struct {
	About  string // the address as it was given
	Answer mail.Answer
}

// Make makes the record of what ended with an answer. v is the verdict on the
// message, empty where it did not come to that. The result shares nothing with
// tx that changes.
func Make(tx *mail.Transaction, v mail.Verdict, a mail.Answer, refused []Refused, now time.Time) Record {
	r := Record{
		ID: tx.ID, Time: now, Stage: a.Stage.String(), Session: session(tx.Session), Sender: path(tx.Envelope.Sender),
		Action: a.Action.String(), Reply: reply(a.Reply), Reason: cut(cmp.Or(a.Reason, v.Reason), longestWords), Score: tx.Score(),
	}
	if r.ID == "" {
		r.ID = mail.NewID(now)
	}
	if !tx.Start.IsZero() {
		r.Took = now.Sub(tx.Start)
	}
	if a.Stage == mail.StageMail && a.About != "" {
		r.Sender.Address = cut(a.About, longestName)
	}
	r.Again = tx.Session != nil && tx.Session.Again
	r.Edits = edits(tx, v.Edits)
	r.recipients(tx, v, a, refused)
	r.findings(tx)
	r.hits(v)
	if tx.Message != nil {
		r.message(tx.Message)
	}
	if tx.Inside != nil {
		r.Inside = inside(tx.Inside)
	}
	return r
}

func session(s *mail.Session) Session {
	if s == nil {
		return Session{}
	}
	out := Session{
		ID: s.ID, Listener: s.Listener, Via: string(s.Via), Client: s.Client, Name: s.Name, PTR: cut(s.PTR, longestName), Resolve: string(s.Resolve),
		Trusted: s.Trusted, Helo: cut(s.Helo, longestName), ESMTP: s.ESMTP, User: s.User, AuthMech: s.AuthMech, Role: s.Role, Window: s.Window,
		Pregreet: s.Pregreet, Proxied: s.Proxied, Start: s.Start,
	}
	if s.TLS != nil {
		out.TLS = &TLS{s.TLS.Version, s.TLS.Cipher, cut(s.TLS.Subject, longestName), s.TLS.Verified, s.TLS.Relay}
	}
	if len(s.Macros) > 0 {
		out.Macros = make(map[string]string)
		for _, k := range slices.Sorted(maps.Keys(s.Macros)) {
			if len(out.Macros) < mostMacros {
				out.Macros[cut(k, longestName)] = cut(s.Macros[k], longestWords)
			}
		}
	}
	return out
}

func path(p mail.Path) Path { return Path{p.Address.String(), slices.Clone(p.Args)} }

func reply(r mail.Reply) string {
	if r.IsZero() {
		return ""
	}
	return cut(r.String(), longestWords)
}

// recipients notes what became of each.
func (r *Record) recipients(tx *mail.Transaction, v mail.Verdict, a mail.Answer, refused []Refused) {
	add := func(one Recipient) {
		if len(r.Recipients) == mostRecipients {
			r.Omitted++
			return
		}
		r.Recipients = append(r.Recipients, one)
	}
	for i, rcpt := range tx.Envelope.Recipients {
		one := Recipient{Path: path(rcpt), Action: r.Action}
		if a.Stage != mail.StageMessage {
			one.Action = "" // it did not come to that
		} else if a.Action < mail.TempFail && len(v.Recipients) == len(tx.Envelope.Recipients) {
			w := v.Recipients[i]
			one.Action, one.Reply, one.Reason = w.Action.String(), reply(w.Reply), cut(w.Reason, longestWords)
			if w := edits(tx, w.Edits); !slices.Equal(w, r.Edits) {
				one.Edits = w
			}
		}
		add(one)
	}
	for _, x := range refused {
		add(Recipient{
			Path: Path{Address: cut(x.About, longestName)}, Stage: x.Answer.Stage.String(), Action: x.Answer.Action.String(),
			Reply: reply(x.Answer.Reply), Reason: cut(x.Answer.Reason, longestWords),
		})
	}
}

func (r *Record) findings(tx *mail.Transaction) {
	for _, f := range tx.Findings[:min(len(tx.Findings), mostFindings)] {
		r.Findings = append(r.Findings, Finding{
			f.Filter, f.Name, cut(f.Value, longestWords), f.Score, cut(f.Text, longestWords), f.Rcpt.String(),
		})
	}
	for _, q := range tx.Asked[:min(len(tx.Asked), mostAsked)] {
		r.Asked = append(r.Asked, Asked{q.Filter, q.Stage.String(), q.Result, q.Start.Sub(tx.Start), q.Took, q.Shadow})
	}
}

func (r *Record) hits(v mail.Verdict) {
	for _, h := range v.Rules[:min(len(v.Rules), mostRules)] {
		r.Rules = append(r.Rules, Rule{cut(h.Rule, longestName), cut(h.Where, longestName), cut(h.Did, longestWords), h.Observe, h.Rcpt.String()})
	}
}

// message notes the header, and the fields that people look for.
func (r *Record) message(m *mail.Message) {
	r.Size = m.Size()
	for _, f := range m.Header {
		if len(r.Header)+len(f.Raw()) > longestHeader {
			r.HeaderCut = true
			break
		}
		r.Header = append(r.Header, f.Raw()...)
	}
	r.From, r.To = cut(decoded(m.Header.Get("From")), longestWords), cut(decoded(m.Header.Get("To")), longestWords)
	r.Subject, r.MessageID = cut(decoded(m.Header.Get("Subject")), longestName), cut(mail.CleanText(m.Header.Get("Message-ID")), longestName)
}

func inside(in *mail.Inside) *Inside {
	out := &Inside{Took: in.Took, Text: cut(in.Text, longestText), Ambiguous: few(in.Ambiguous), Unseen: few(in.Unseen)}
	for _, p := range in.Parts[:min(len(in.Parts), mostParts)] {
		out.Parts = append(out.Parts, Part{
			cut(p.Path, longestName), few(p.Names), cut(p.Declared, longestName), cut(p.Detected, longestName), p.Inline, p.Size, p.SHA256, p.Archive,
			p.Depth, p.Encrypted, p.Macros, p.Program, p.Protected, p.At, p.Length,
		})
	}
	for _, u := range in.URLs[:min(len(in.URLs), mostURLs)] {
		out.URLs = append(out.URLs, URL{cut(u.Host, longestName), cut(u.Text, longestName)})
	}
	out.Omitted = len(in.Parts) - len(out.Parts) + len(in.URLs) - len(out.URLs)
	return out
}

// few cuts a list and each of its values.
func few(list []string) []string {
	var out []string
	for _, s := range list[:min(len(list), 50)] {
		out = append(out, cut(s, longestName))
	}
	return out
}
