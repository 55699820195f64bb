package forward

import (
	"fmt"
	"strconv"
	"strings"

	"gatepost/internal/mail"
)

// XClient is how a next hop is told who brought a message.
type XClient string

// The ways.
const (
	XClientNone    XClient = "none"
	XClientForward XClient = "xforward" // for its log
	XClientFull    XClient = "xclient"  // it judges as if the client were connected to it
)

// Validate reports a way that there is not.
func (x XClient) Validate() error {
	switch x {
	case "", XClientNone, XClientForward, XClientFull:
		return nil
	}
	return fmt.Errorf("xclient %q: want none, xforward or xclient", string(x))
}

// What stands for a value that is not known, or can't be looked up now.
const (
	unavailable     = "[UNAVAILABLE]"
	temporarilyGone = "[TEMPUNAVAIL]"
)

// attribute is a fact as XCLIENT and XFORWARD name it.
type attribute struct{ name, value string }

// attributes are the facts of a message that a next hop knows the names of.
func attributes(f mail.Facts, known []string) []attribute {
	addr := f.ClientAddr.Addr().Unmap()
	port := ""
	if f.ClientAddr.IsValid() {
		port = strconv.Itoa(int(f.ClientAddr.Port()))
	}
	text := ""
	if addr.IsValid() {
		text = addr.WithZone("").String()
		if addr.Is6() {
			text = "IPV6:" + text
		}
	}
	// SMTP or ESMTP is all that Postfix takes.
	proto := ""
	if f.Proto != "" {
		proto = "SMTP"
		if strings.HasPrefix(strings.TrimPrefix(f.Proto, "UTF8"), "E") || strings.HasPrefix(f.Proto, "UTF8") {
			proto = "ESMTP"
		}
	}
	var found []attribute
	for _, a := range []attribute{
		{"NAME", f.ClientName}, {"ADDR", text}, {"PORT", port}, {"PROTO", proto},
		{"HELO", f.Helo}, {"LOGIN", f.User}, {"IDENT", f.ID},
	} {
		for _, name := range known {
			if strings.EqualFold(a.name, name) {
				found = append(found, a)
			}
		}
	}
	return found
}

// maxXLine is the longest command, its CRLF included (RFC 5321 4.5.3.1.4).
const maxXLine = 512

// maxXValue keeps one attribute well below a line.
const maxXValue = 400

// xcommands writes attributes as one or more commands.
func xcommands(verb string, attributes []attribute) []string {
	var all []string
	line := verb
	for _, a := range attributes {
		word := " " + a.name + "=" + xvalue(a.value)
		if len(line)+len(word)+2 > maxXLine {
			all = append(all, line)
			line = verb
		}
		line += word
	}
	if line != verb {
		all = append(all, line)
	}
	return all
}

// xvalue encodes a value as xtext (RFC 3461 4). One that is too long is as
// unknown as none: half a name is another name.
func xvalue(s string) string {
	text := mail.Xtext(s)
	if text == "" || len(text) > maxXValue {
		return unavailable
	}
	return text
}

// introduces reports whether a message comes with an XCLIENT. Our own
// notifications come from us.
func (h *host) introduces(f mail.Facts) bool {
	return h.introduce == XClientFull && f.ClientAddr.IsValid()
}

// introduce tells the next hop whose message comes. A failure leaves the
// connection unusable.
func (c *conn) introduce(f mail.Facts) *failure {
	switch {
	case c.host.introduces(f):
		return c.xclient(f)
	case c.host.introduce == XClientForward && len(c.ext.xforward) > 0 && f.ClientAddr.IsValid():
		return c.xforward(f)
	}
	return nil
}

// xclient makes the next hop believe that the client itself is connected. If it
// does not, it would take us for the client, and pass on from us what it would
// not from him: so there is nothing then.
func (c *conn) xclient(f mail.Facts) *failure {
	f.ID = "" // one client, many messages
	if c.client == f {
		return nil
	}
	if len(c.ext.xclient) == 0 {
		return badXClient("the next hop does not offer us XCLIENT; is our address in its smtpd_authorized_xclient_hosts?")
	}
	c.client = mail.Facts{}
	for _, command := range xcommands("XCLIENT", attributes(f, c.ext.xclient)) {
		r, err := c.ask(command, c.host.command)
		switch {
		case err != nil:
			return broken("waiting for the answer to XCLIENT", err)
		case r.Code == 421:
			return hungUp(r)
		case r.Code != 220:
			return badXClient("XCLIENT was refused: %s", r)
		}
	}
	// The session begins anew. What the client said in its EHLO is said again:
	// Postfix puts what it hears now above HELO.
	if failed := c.helloAs(f.Helo); failed != nil {
		return failed
	}
	c.client = f
	return nil
}

func badXClient(format string, args ...any) *failure {
	return &failure{loud: true, reply: mail.Reply{Code: 451, Detail: "7.1", Text: fmt.Sprintf(format, args...)}}
}

// xforward tells the next hop what to write into its log. That it does not want
// to know is no reason to keep the message.
func (c *conn) xforward(f mail.Facts) *failure {
	for _, command := range xcommands("XFORWARD", attributes(f, c.ext.xforward)) {
		r, err := c.ask(command, c.host.command)
		switch {
		case err != nil:
			return broken("waiting for the answer to XFORWARD", err)
		case r.Code == 421:
			return hungUp(r)
		case r.Code != 250:
			c.ext.xforward = nil
			return nil
		}
	}
	return nil
}
