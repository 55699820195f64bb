package access

import (
	"cmp"
	"slices"
	"strings"

	"gatepost/internal/mail"
)

// Engine is sendmail's rulesets over a table and its classes. Its parts are for
// whoever decides more carefully; CheckRelay, CheckMail and CheckRcpt are all of
// it. Senders are not looked up in the DNS, and TLS certificates do not relay.
type Engine struct {
	Table *Table
	Local *Class // w: our own names
	Relay *Class // R: whom we relay for, recipients and clients
	Own   *Class // m: our whole domain, with relay_entire_domain
	// Hostname is ours, the domain of users without one.
	Hostname string
	// Mechs are the ways to log in that let a user relay.
	Mechs []string
	Options
}

// Query is what the rulesets are asked about.
type Query struct {
	Client Client
	From   Mailbox
	To     Mailbox
	Mech   string // how the client logged in; "" for not
	Rate   int    // connections of the client in the last minute
	Open   int    // those that are open
}

// Answer is what a ruleset says.
type Answer struct {
	Action mail.Action
	Reply  mail.Reply // of TempFail and Reject
	Word   string     // of an acceptance: "OK", "RELAY", "SPAMFRIEND", "NOSPAMHATER"
	Reason string     // the line or list that decided
	Final  bool       // nothing else is to be asked: sendmail's $#
}

func (a Answer) String() string {
	switch {
	case !a.Reply.IsZero():
		return a.Action.String() + " " + a.Reply.String()
	case a.Word != "":
		return a.Word
	}
	return a.Action.String()
}

func accept(word, reason string) Answer {
	return Answer{Action: mail.Accept, Word: word, Reason: reason}
}

func refuse(code int, detail, text string) Answer {
	a := Answer{Action: mail.Reject, Reply: mail.Reply{Code: code, Detail: detail, Text: text}, Final: true}
	if code < 500 {
		a.Action = mail.TempFail
	}
	return a
}

var (
	accessDenied = mail.Reply{Code: 550, Detail: "7.1", Text: "Access denied"}
	disabled     = mail.Reply{Code: 550, Detail: "2.1", Text: "Mailbox disabled for this recipient"}
)

// answer is what a line says; denied is the reply of REJECT.
func (h Hit) answer(denied mail.Reply) Answer {
	a := Answer{Reason: h.String(), Final: true}
	switch h.Says {
	case OK, RELAY:
		a.Action, a.Word, a.Final = mail.Accept, h.Text, false
	case REJECT:
		a.Action, a.Reply = mail.Reject, denied
	case DISCARD:
		a.Action = mail.Discard
	case QUARANTINE:
		a.Action, a.Word = mail.Quarantine, "quarantine "+h.Quarantine
	case ANSWER:
		a.Action, a.Reply = mail.Reject, h.Reply
		if h.Reply.Code < 500 {
			a.Action = mail.TempFail
		}
	case SKIP: // of a mailbox: any text
		a.Action, a.Reply = mail.Reject, mail.Reply{Code: 553, Detail: "3.0", Text: h.Text}
	default: // of another tag; no parser lets it in
		return Answer{}
	}
	return a
}

// ClientHit is the line that speaks of a client: by its name, then by its
// address. A client without a verified name has its address in brackets.
func (e *Engine) ClientHit(c Client, tr *Trace) (Hit, bool) {
	return e.Table.client(Connect, c, tr)
}

// CheckRelay is asked when a client connects. With delay_checks CheckRcpt asks
// it again, and nobody else should act on it.
func (e *Engine) CheckRelay(q Query, tr *Trace) Answer {
	if h, ok := e.ClientHit(q.Client, tr); ok {
		return h.answer(accessDenied)
	}
	if a := e.tooMany(ClientRate, q, q.Rate, "Connection rate limit exceeded.", tr); a.Final {
		return a
	}
	if a := e.tooMany(ClientConn, q, q.Open, "Too many open connections.", tr); a.Final {
		return a
	}
	return Answer{}
}

func (e *Engine) tooMany(tag Tag, q Query, n int, text string, tr *Trace) Answer {
	limit, h, ok := e.Table.Limit(tag, q.Client.Addr, tr)
	if !ok || limit == 0 || n <= limit {
		return Answer{}
	}
	a := refuse(452, "3.2", text)
	a.Reason = h.String()
	return a
}

// SenderHit is the line that speaks of a sender: of the address, of the user,
// of the domain. SKIP of a mailbox has the next one asked, as that of a domain
// says nothing; sendmail refuses such a sender with the text SKIP.
func (e *Engine) SenderHit(from Mailbox, tr *Trace) (Hit, bool) {
	h, ok := e.fullSender(from, tr)
	if !ok || h.Says == SKIP {
		h, ok = e.Table.User(From, from.Local, tr)
	}
	if !ok || h.Says == SKIP {
		return e.Table.Domain(From, from.Domain, tr)
	}
	return h, ok
}

// senderHit is SenderHit as sendmail has it.
func (e *Engine) senderHit(from Mailbox, tr *Trace) (Hit, bool) {
	if h, ok := e.fullSender(from, tr); ok {
		return h, true
	}
	if h, ok := e.Table.User(From, from.Local, tr); ok {
		return h, true
	}
	return e.Table.Domain(From, from.Domain, tr)
}

func (e *Engine) fullSender(from Mailbox, tr *Trace) (Hit, bool) {
	if from.Domain == "" {
		return Hit{}, false
	}
	return e.Table.Full(From, from, tr)
}

// CheckMail is asked at MAIL.
func (e *Engine) CheckMail(q Query, tr *Trace) Answer {
	if q.From == (Mailbox{}) {
		return accept("OK", "the null sender is always taken")
	}
	if e.foreignLocalhost(q) {
		return refuse(553, "5.4", "Real domain name required for sender address")
	}
	h, ok := e.senderHit(q.From, tr)
	switch {
	case ok:
		a := h.answer(accessDenied)
		a.Final = true // also of OK: delay_checks then ask for no client
		return a
	case q.From.Domain == "" && q.Client.Addr.IsValid():
		return refuse(553, "5.4", "Domain name required for sender address "+q.From.Local)
	}
	return Answer{}
}

var loopback = []string{"localhost", "[127.0.0.1]", "[ipv6:::1]", "[ipv6:0:0:0:0:0:0:0:1]", "localhost.uucp"}

// foreignLocalhost reports whether somebody else claims to be our localhost.
func (e *Engine) foreignLocalhost(q Query) bool {
	if !slices.Contains(loopback, strings.ToLower(q.From.Domain)) {
		return false
	}
	name := cmp.Or(q.Client.Name, q.Client.bracketed())
	_, local := e.Local.Has(name)
	return name != "" && !local
}

// text is the client's address as sendmail writes it.
func (c Client) text() string {
	if !c.Addr.IsValid() {
		return ""
	}
	s := string(appendAddr(nil, c.Addr))
	if rest, ok := strings.CutPrefix(s, prefixV6); ok {
		return "IPv6:" + rest
	}
	return s
}

// bracketed is the name of a client that has none.
func (c Client) bracketed() string {
	if !c.Addr.IsValid() {
		return ""
	}
	return "[" + c.text() + "]"
}
