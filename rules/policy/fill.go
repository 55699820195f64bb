package policy

import (
	"io"
	"mime"
	netmail "net/mail"
	"path"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/text/encoding/htmlindex"

	"gatepost/internal/mail"
)

// Limits of what a condition sees. What lies behind them is cut.
const (
	maxText   = 256 << 10
	maxValue  = 16 << 10 // of a header field
	maxFields = 200      // of one name
	maxParts  = 10_000
	maxNames  = 20 // of a part
)

// fill makes the vocabulary's values for the stage of the transaction. What
// needs decoding is done when it is asked for.
func (r *Run) fill() {
	tx, e := r.tx, &r.env
	s := tx.Session
	if s == nil {
		s = &mail.Session{}
	}
	e.Client = Client{Name: s.Name, PTR: s.PTR, Helo: s.Helo, Trusted: s.Trusted, Ours: s.IsOurs(), Resolve: string(s.Resolve)}
	if a := s.Addr(); a.IsValid() {
		e.Client.IP = a.String()
	}
	if s.TLS != nil {
		e.TLS = TLS{true, s.TLS.Version, s.TLS.Cipher, s.TLS.Subject, s.TLS.Verified}
	}
	e.User, e.Listener, e.Role, e.Via = s.User, s.Listener, s.Role, string(s.Via)
	e.Time = clockOf(r.now)
	e.Sender = mailboxOf(tx.Envelope.Sender.Address)
	e.Match, e.Listed, e.Step = r.match, r.listed, r.step
	e.Found, e.Value, e.Findings = r.hasFinding, r.value, r.findings
	e.Lower = r.lower
	e.Header, e.Headers = r.header, r.headers
	if tx.Stage < mail.StageMessage {
		return
	}
	e.Recipients = make([]Mailbox, len(tx.Envelope.Recipients))
	for i, to := range tx.Envelope.Recipients {
		e.Recipients[i] = mailboxOf(to.Address)
	}
	e.Virus = r.value(mail.FindingVirus)
	if e.Virus == "" && r.hasFinding(mail.FindingVirus) {
		e.Virus = "unknown"
	}
	e.SPF, e.DMARC, e.ARC = r.value(mail.FindingSPF), r.value(mail.FindingDMARC), r.value(mail.FindingARC)
	e.DKIM = r.value(mail.FindingDKIM)
	if slices.ContainsFunc(tx.Findings, func(f mail.Finding) bool { return f.Name == mail.FindingDKIM && f.Value == mail.AuthPass }) {
		e.DKIM = mail.AuthPass
	}
	if tx.Message != nil {
		e.Size = int(tx.Message.Size())
		e.Subject = r.header("Subject")
		e.From = authorOf(tx.Message.Header)
	}
	if tx.Inside != nil {
		r.fillInside(tx.Inside)
	}
}

func (r *Run) fillInside(in *mail.Inside) {
	e := &r.env
	e.Text = in.Text[:min(len(in.Text), maxText)]
	e.Ambiguous, e.Unseen = in.Ambiguous, in.Unseen
	for _, u := range in.URLs[:min(len(in.URLs), maxParts)] {
		e.URLs = append(e.URLs, &URL{u.Host, u.Text})
	}
	for _, p := range in.Parts[:min(len(in.Parts), maxParts)] {
		e.Parts = append(e.Parts, partOf(p))
	}
	if len(in.Parts) > maxParts || len(in.URLs) > maxParts {
		e.Unseen = append(slices.Clone(e.Unseen), "more parts or links than rules look at")
	}
}

func partOf(p mail.Part) *Part {
	out := &Part{
		Path: p.Path, Declared: p.Declared, Type: p.Detected, Size: int(p.Size), SHA256: strings.ToLower(p.SHA256), Archive: p.Archive,
		Depth: p.Depth, Inline: p.Inline, Encrypted: p.Encrypted, Macros: p.Macros, Program: p.Program, Protected: p.Protected,
	}
	if out.Type == "" || out.Type == "application/octet-stream" && p.Declared != "" {
		out.Type = p.Declared
	}
	for _, name := range p.Names[:min(len(p.Names), maxNames)] {
		name = strings.ToLower(name)
		out.Names, out.Exts = append(out.Names, name), append(out.Exts, ext(name))
	}
	if len(out.Names) > 0 {
		out.Name, out.Ext = out.Names[0], out.Exts[0]
	}
	return out
}

// ext is what stands behind the last dot; Windows ignores dots and blanks at
// the end.
func ext(name string) string {
	return strings.TrimPrefix(path.Ext(strings.TrimRight(name, ". ")), ".")
}

func mailboxOf(a mail.Address) Mailbox {
	if a.IsNull() {
		return Mailbox{}
	}
	m := Mailbox{Local: strings.ToLower(a.Local), Domain: a.ASCIIDomain()}
	m.Address = m.Local
	if m.Domain != "" {
		m.Address += "@" + m.Domain
	}
	return m
}

func (r *Run) hasFinding(name string) bool {
	return slices.ContainsFunc(r.tx.Findings, func(f mail.Finding) bool { return f.Name == name && r.concerns(f) })
}

// concerns reports whether a finding is about the recipient that is judged, or
// about the whole mail.
func (r *Run) concerns(f mail.Finding) bool {
	return f.Rcpt.IsNull() || mailboxOf(f.Rcpt) == r.env.Rcpt
}

func (r *Run) value(name string) string {
	for _, f := range r.tx.Findings {
		if f.Name == name && r.concerns(f) {
			return f.Value
		}
	}
	return ""
}

func (r *Run) findings(name string) []Finding {
	var all []Finding
	for _, f := range r.tx.Findings {
		if f.Name == name && r.concerns(f) {
			all = append(all, Finding{f.Filter, f.Name, f.Value, f.Score, f.Text, f.Part, f.List})
		}
	}
	return all
}

// lower remembers its last long text: many rules ask for the same.
func (r *Run) lower(s string) string {
	r.charge(len(s) / 16)
	if len(s) < 256 {
		return strings.ToLower(s)
	}
	return r.remember("lower\x00"+s[:64]+"\x00", s, strings.ToLower)
}

func (r *Run) remember(key, s string, make func(string) string) string {
	if r.names == nil {
		r.names = map[string]string{}
	}
	if of, ok := r.names[key+"of"]; ok && of == s {
		return r.names[key]
	}
	if len(r.names) > 100 {
		clear(r.names)
	}
	r.names[key+"of"], r.names[key] = s, make(s)
	return r.names[key]
}

// header is the decoded value of the first field of a name.
func (r *Run) header(name string) string {
	if r.tx.Message == nil {
		return ""
	}
	if r.names == nil {
		r.names = map[string]string{}
	}
	key := "header\x00" + name
	if v, ok := r.names[key]; ok {
		return v
	}
	v := r.tx.Message.Header.Get(name)
	v = decodeHeader(v[:min(len(v), maxValue)])
	r.names[key] = v
	return v
}

func (r *Run) headers(name string) []string {
	if r.tx.Message == nil {
		return nil
	}
	var all []string
	for _, f := range r.tx.Message.Header {
		if f.Is(name) && len(all) < maxFields {
			v := f.Value()
			all = append(all, v[:min(len(v), maxValue)])
		}
	}
	return all
}

// words decodes RFC 2047 in the charsets that the web knows.
func words() *mime.WordDecoder {
	return &mime.WordDecoder{CharsetReader: func(charset string, input io.Reader) (io.Reader, error) {
		enc, err := htmlindex.Get(charset)
		if err != nil {
			return nil, err
		}
		return enc.NewDecoder().Reader(input), nil
	}}
}

// decodeHeader decodes what it can.
func decodeHeader(v string) string {
	if !strings.Contains(v, "=?") {
		return strings.ToValidUTF8(v, "?")
	}
	if d, err := words().DecodeHeader(v); err == nil {
		return d
	}
	return v
}

var anyAddress = regexp.MustCompile(`[^\s<>"(),;:]+@[^\s<>"(),;:]+`)

// authorOf reads all From fields: a message may have several.
func authorOf(h mail.Header) Author {
	var a Author
	parser := netmail.AddressParser{WordDecoder: words()}
	for i, f := range h {
		if !f.Is("From") || i > maxFields {
			continue
		}
		value := f.Value()
		value = value[:min(len(value), maxValue)]
		list, err := parser.ParseList(value)
		if err != nil { // any address that somebody could read there
			for _, text := range anyAddress.FindAllString(decodeHeader(value), maxFields) {
				list = append(list, &netmail.Address{Address: text})
			}
			if a.Name == "" {
				a.Name = decodeHeader(value)
			}
		}
		for _, one := range list {
			a.add(one)
		}
	}
	return a
}

func (a *Author) add(one *netmail.Address) {
	if a.Name == "" {
		a.Name = one.Name
	}
	if len(a.Addresses) == maxFields {
		return
	}
	at := strings.LastIndexByte(one.Address, '@')
	domain := mail.ASCIIDomain(strings.ToLower(strings.TrimSuffix(one.Address[at+1:], ".")))
	address := strings.ToLower(one.Address[:at+1]) + domain
	if !slices.Contains(a.Addresses, address) {
		a.Addresses = append(a.Addresses, address)
	}
	if !slices.Contains(a.Domains, domain) {
		a.Domains = append(a.Domains, domain)
	}
}
