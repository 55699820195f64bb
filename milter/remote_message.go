package milter

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"gatepost/internal/mail"
	"gatepost/milter/wire"

	"github.com/emersion/go-milter"
)

// Message shows the milter the content and turns its changes into edits.
func (r *remote) Message(ctx context.Context, tx *mail.Transaction) mail.Verdict {
	defer func() { r.content = false }()
	if r.silent() {
		return r.absent()
	}
	v, ended, err := r.show(ctx, tx)
	if err != nil {
		return r.failed(tx, err)
	}
	if ended {
		return v
	}
	r.client.Macros(r.macros(milter.CodeEOB, tx, nil))
	edits, a, err := r.client.End(ctx)
	if err != nil {
		return r.failed(tx, err)
	}
	v = r.heard(tx, a)
	if v.Action >= mail.Discard || r.client == nil {
		return v
	}
	exact := r.client.Agreed().Protocol&milter.OptHeaderLeadingSpace != 0
	c, err := Sent{Header: tx.Message.Header, Hidden: own(tx), Exact: exact, Host: r.cfg.Hostname}.Changes(edits)
	if err != nil {
		return r.failed(tx, err)
	}
	v.Edits = c.Edits
	if c.Quarantine {
		v.Action, v.Reason = mail.Quarantine, c.Reason
	}
	return v
}

// own is how many fields an MTA does not show its milters: the Received that it
// has put on top itself.
func own(tx *mail.Transaction) int {
	if len(tx.Message.Header) > 0 && tx.Message.Header[0].Is("Received") {
		return 1
	}
	return 0
}

// show sends header and body. ended reports that the milter has decided.
func (r *remote) show(ctx context.Context, tx *mail.Transaction) (v mail.Verdict, ended bool, err error) {
	steps := []func() (Answer, error){}
	for _, f := range tx.Message.Header[own(tx):] {
		steps = append(steps, func() (Answer, error) { return r.client.Field(ctx, f) })
	}
	steps = append(steps,
		func() (Answer, error) {
			r.client.Macros(r.macros(milter.CodeEOH, tx, nil))
			return r.client.EndOfHeader(ctx)
		},
		func() (Answer, error) { return r.client.Body(ctx, tx.Message.Body()) })
	for _, step := range steps {
		a, err := step()
		if err != nil {
			return v, false, err
		}
		if v = r.heard(tx, a); r.satisfied || v.Action >= mail.Discard {
			return v, true, nil
		}
	}
	return v, false, nil
}

// ConnectOf is the client of a session as Postfix tells of it.
func ConnectOf(s *mail.Session) wire.Connect {
	ip := s.Client.Addr().Unmap()
	c := wire.Connect{Host: s.Name, Family: wire.FamilyUnknown}
	if ip.IsValid() {
		c.Family, c.Port, c.Address = wire.FamilyIPv4, s.Client.Port(), ip.WithZone("").String()
		if ip.Is6() {
			c.Family = wire.FamilyIPv6
		}
		if c.Host == "" {
			c.Host = "[" + c.Address + "]"
		}
	}
	if c.Host == "" {
		c.Host = "unknown"
	}
	return c
}

func envelopeOf(p mail.Path) wire.Envelope { return wire.Envelope{Address: p.Path(), Args: p.Args} }

// defaultMacros are what a milter gets that asks for none, as Postfix has it.
var defaultMacros = map[milter.Code][]string{
	milter.CodeConn: {"j", "v", "_", "daemon_name", "client_addr", "client_name", "client_port", "client_resolve"},
	milter.CodeHelo: {"tls_version", "cipher", "cert_subject", "verify"},
	milter.CodeMail: {"i", "mail_addr", "auth_authen"},
	milter.CodeRcpt: {"i", "rcpt_addr"},
	milter.CodeData: {"i"},
	milter.CodeEOH:  {"i"},
	milter.CodeEOB:  {"i", "msg_id"},
}

var stageOf = map[milter.Code]milter.Stage{
	milter.CodeConn: milter.StageConnect, milter.CodeHelo: milter.StageHelo, milter.CodeMail: milter.StageMailFrom, milter.CodeRcpt: milter.StageRcptTo,
	milter.CodeData: milter.StageData, milter.CodeEOH: milter.StageEOH, milter.CodeEOB: milter.StageEOM,
}

// MacrosFor are the macros that an MTA of that host name sends before a command:
// those that the milter asked for at this stage, as far as they are known, or
// Postfix's own choice where it asked for none.
func MacrosFor(at milter.Code, asked map[milter.Stage][]string, hostname string, tx *mail.Transaction, rcpt *mail.Path) wire.Macros {
	names, ok := asked[stageOf[at]]
	if !ok {
		names = defaultMacros[at]
	}
	known := macroValues(hostname, tx, rcpt)
	m := wire.Macros{For: at}
	for _, name := range names {
		name = strings.Trim(name, "{}")
		if len(name) > 1 {
			name = "{" + name + "}"
		}
		value := known[strings.Trim(name, "{}")]
		if value == "" || slices.ContainsFunc(m.Values, func(v wire.Macro) bool { return v.Name == name }) {
			continue
		}
		m.Values = append(m.Values, wire.Macro{Name: name, Value: value})
	}
	return m
}

// macroValues are all macros that we know of a transaction.
func macroValues(hostname string, tx *mail.Transaction, rcpt *mail.Path) map[string]string {
	s := tx.Session
	c := ConnectOf(s)
	known := map[string]string{
		"j": hostname, "v": "Gatepost", "daemon_name": s.Listener, "i": tx.ID, "auth_authen": s.User,
		"client_addr": c.Address, "client_name": "unknown", "client_resolve": "FAIL", "_": "unknown [" + c.Address + "]",
	}
	if s.Name != "" {
		known["client_name"], known["client_resolve"], known["_"] = s.Name, "OK", s.Name+" ["+c.Address+"]"
	}
	if c.Port != 0 {
		known["client_port"] = strconv.Itoa(int(c.Port))
	}
	if t := s.TLS; t != nil {
		known["tls_version"], known["cipher"], known["cert_subject"], known["verify"] = t.Version, t.Cipher, t.Subject, "NO"
		if t.Verified {
			known["verify"] = "OK"
		}
	}
	if tx.Stage >= mail.StageMail {
		known["mail_addr"] = tx.Envelope.Sender.String()
	}
	if rcpt != nil {
		known["rcpt_addr"] = rcpt.String()
	}
	if tx.Message != nil {
		known["msg_id"] = tx.Message.Header.Get("Message-Id")
	}
	return known
}
