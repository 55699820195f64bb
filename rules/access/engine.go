package access

import (
	"cmp"
	"fmt"
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

// RecipientHit is the line that blocks a recipient or not: of the address, of
// the user where the domain is local, of the domain. RELAY, OK and SKIP say
// nothing here.
func (e *Engine) RecipientHit(to Mailbox, tr *Trace) (Hit, bool) {
	if !e.BlocklistRecipients {
		return Hit{}, false
	}
	h, ok := e.recipientHit(to, tr)
	if ok && (h.Says == OK || h.Says == RELAY || h.Says == SKIP) {
		return Hit{}, false
	}
	return h, ok
}

func (e *Engine) recipientHit(to Mailbox, tr *Trace) (Hit, bool) {
	if to.Domain != "" {
		if h, ok := e.Table.Full(To, to, tr); ok {
			return h, true
		}
	}
	if _, local := e.Local.Has(to.Domain); local || to.Domain == "" {
		if h, ok := e.Table.User(To, to.Local, tr); ok {
			return h, true
		}
	}
	return e.Table.Domain(To, to.Domain, tr)
}

// CheckRcpt is asked at RCPT; with delay_checks it asks the others, too.
func (e *Engine) CheckRcpt(q Query, tr *Trace) Answer {
	if q.To == (Mailbox{}) {
		return refuse(553, "0.0", "User address required")
	}
	a := e.rcpt(q, tr)
	if !e.DelayChecks.On() || a.Final {
		return a
	}
	if word, ok := e.Excused(q.To, tr); ok {
		return accept(word, "relay.delay_checks")
	}
	if m := e.CheckMail(q, tr); m.Final {
		return m
	}
	if c := e.CheckRelay(q, tr); c.Final {
		return c
	}
	return a
}

// Excused reports whether delay_checks ask neither for the sender nor for the
// client of this recipient's mail, and sendmail's word for it.
func (e *Engine) Excused(to Mailbox, tr *Trace) (word string, ok bool) {
	switch e.DelayChecks {
	case DelayFriend:
		if h, ok := e.spamHit(to, tr); ok && h.Says == FRIEND {
			return "SPAMFRIEND", true
		}
	case DelayHater:
		if h, ok := e.spamHit(to, tr); !ok || h.Says != HATER {
			return "NOSPAMHATER", true
		}
	}
	return "", false
}

// spamHit is the line Spam: of a recipient. Routes through ourselves are taken
// out; who has no domain is of our own host.
func (e *Engine) spamHit(to Mailbox, tr *Trace) (Hit, bool) {
	to = e.strip(to, func(string) bool { return false })
	if to.Domain == "" {
		to.Domain = e.Hostname
	}
	if h, ok := e.Table.Full(Spam, to, tr); ok {
		return h, true
	}
	if h, ok := e.Table.Domain(Spam, to.Domain, tr); ok {
		return h, true
	}
	if _, local := e.Local.Has(to.Domain); local || to.Domain == "" {
		return e.Table.User(Spam, to.Local, tr)
	}
	return Hit{}, false
}

// rcpt is check_rcpt without delay_checks.
func (e *Engine) rcpt(q Query, tr *Trace) Answer {
	to := e.Strip(q.To, tr)
	if h, ok := e.RecipientHit(to, tr); ok {
		return h.answer(disabled)
	}
	if q.Mech != "" && slices.Contains(e.Mechs, q.Mech) {
		a := accept("RELAY", "logged in with "+q.Mech)
		a.Final = true
		return a
	}
	if why, ok := e.RelaysTo(to, tr); ok {
		return accept("RELAY", why)
	}
	if to.Domain == "" {
		return accept("RELAY", "a local user")
	}
	return e.sendmailClient(q.Client, tr)
}

// sendmailClient is RelaysFor with what only sendmail trusts: programs of its
// own host, and clients with one of its own names.
func (e *Engine) sendmailClient(c Client, tr *Trace) Answer {
	if !c.Addr.IsValid() || c.Addr.IsLoopback() && (c.Addr.Unmap().String() == "127.0.0.1" || c.Addr.Is6()) {
		return accept("RELAY", "our own host")
	}
	if l, ok := e.Local.Has(c.bracketed()); ok {
		return accept("RELAY", l.String())
	}
	a := e.RelaysFor(c, tr)
	if a.Action == mail.Accept || c.Name == "" || c.Resolve != mail.ResolveOK {
		return a
	}
	if l, ok := e.Local.Has(c.Name); ok {
		return accept("RELAY", l.String())
	}
	return a
}

// Strip takes the routes out of a local part, as long as the domain behind is
// one that we relay to: what is left is who the mail would really go to.
func (e *Engine) Strip(to Mailbox, tr *Trace) Mailbox {
	return e.strip(to, func(domain string) bool { return !e.LooseRelayCheck && e.stripsFor(domain, tr) })
}

// strip takes the routes out as long as a domain is local, or another that may.
func (e *Engine) strip(to Mailbox, may func(domain string) bool) Mailbox {
	for strings.ContainsAny(to.Local, hops) {
		if _, local := e.Local.Has(to.Domain); !local && to.Domain != "" && !may(to.Domain) {
			return to
		}
		next := unfold(to.Local)
		if next.Domain == "" {
			return next
		}
		to = next
	}
	return to
}

func (e *Engine) stripsFor(domain string, tr *Trace) bool {
	if e.RelayEntireDomain {
		if _, ok := e.Own.Has(domain); ok {
			return true
		}
	}
	if _, ok := e.Relay.Has(domain); ok {
		return true
	}
	h, ok := e.toDomain(domain, tr)
	return ok && h.Says == RELAY
}

// toDomain is the line of a recipient's domain: with relay_hosts_only that of
// no other domain.
func (e *Engine) toDomain(domain string, tr *Trace) (Hit, bool) {
	if e.RelayHostsOnly {
		return e.Table.Exact(To, domain, tr)
	}
	return e.Table.Domain(To, domain, tr)
}

// RelaysTo says why mail to this recipient is relayed, whoever sends it. Its
// local part must have no route any more.
func (e *Engine) RelaysTo(to Mailbox, tr *Trace) (why string, ok bool) {
	if e.RelayEntireDomain {
		if l, ok := e.Own.traced(ownNames, to.Domain, tr); ok {
			return l.String(), true
		}
	}
	if l, ok := e.Local.traced(localNames, to.Domain, tr); ok {
		return l.String(), true
	}
	if l, ok := e.Relay.traced(relayNames, to.Domain, tr); ok {
		return l.String(), true
	}
	h, ok := e.relayHit(to, tr)
	if !ok || h.Says != RELAY {
		return "", false
	}
	return h.String(), true
}

func (e *Engine) relayHit(to Mailbox, tr *Trace) (Hit, bool) {
	if to.Domain == "" {
		return Hit{}, false
	}
	if e.RelayToFullAddress {
		if e.RelayHostsOnly {
			if h, ok := e.Table.get(To, []byte(strings.ToLower(to.String())), tr); ok {
				return h, true
			}
		} else if h, ok := e.Table.Full(To, to, tr); ok {
			return h, true
		}
	}
	if h, ok := e.toDomain(to.Domain, tr); ok || !e.RelayToFullAddress || e.RelayHostsOnly {
		return h, ok
	}
	return e.Table.Exact(To, to.Local+"@", tr)
}

// RelaysFor says whether a client may relay to anybody: by its address, then by
// its verified name. A client whose name could not be verified is told why not.
func (e *Engine) RelaysFor(c Client, tr *Trace) Answer {
	if l, ok := e.Relay.HasAddr(c.Addr); ok {
		tr.list(relayNames, c.text(), l, true)
		return accept("RELAY", l.String())
	}
	tr.list(relayNames, c.text(), Listed{}, false)
	if c.Addr.IsValid() {
		if h, ok := e.Table.Address(Connect, c.Addr, tr); ok && h.Says == RELAY {
			return accept("RELAY", h.String())
		}
	}
	switch c.Resolve {
	case mail.ResolveTemp:
		return refuse(450, "4.0", "Relaying temporarily denied. Cannot resolve PTR record for "+c.text())
	case mail.ResolveForged:
		return refuse(550, "7.1", "Relaying denied. IP name possibly forged "+cmp.Or(c.Name, c.bracketed()))
	case mail.ResolveFail:
		return refuse(550, "7.1", "Relaying denied. IP name lookup failed "+cmp.Or(c.Name, c.bracketed()))
	}
	if c.Name != "" {
		if a := e.relaysForName(c.Name, tr); a.Action == mail.Accept {
			return a
		}
	}
	text := "Relaying denied"
	if len(e.Mechs) > 0 {
		text += ". Proper authentication required."
	}
	return refuse(550, "7.1", text)
}

func (e *Engine) relaysForName(name string, tr *Trace) Answer {
	if e.RelayEntireDomain {
		if l, ok := e.Own.traced(ownNames, name, tr); ok {
			return accept("RELAY", l.String())
		}
	}
	if l, ok := e.Relay.traced(relayNames, name, tr); ok {
		return accept("RELAY", l.String())
	}
	walk := e.Table.Domain
	if e.RelayHostsOnly {
		walk = e.Table.Exact
	}
	if h, ok := walk(Connect, name, tr); ok && h.Says == RELAY {
		return accept("RELAY", h.String())
	}
	return Answer{}
}

// Warnings are about what the table and the classes say together.
func (e *Engine) Warnings() []string {
	var all []string
	if e.LooseRelayCheck {
		all = append(all, "relay.loose_relay_check does nothing: user%other@ours is never taken for other; remove it")
	}
	for key, s := range e.Table.slots[To] {
		_, domain, isMailbox := strings.Cut(key, "@")
		v := &e.Table.values[s.value]
		if isMailbox && domain == "" && v.refuses() && (e.Local.Empty() || !e.Relay.Empty()) {
			all = append(all, fmt.Sprintf("%s:%d: To:%s counts for the domains of relay.domains and relay.local_host_names_file alone; write the domains behind it for others", e.Table.path, s.line, key))
		}
	}
	slices.Sort(all)
	return all[:min(len(all), maxProblems)]
}
