package forward

import (
	"crypto/tls"
	"strings"

	"gatepost/internal/mail"
)

// requiresTLS reports whether the sender wants protection all the way
// (RFC 8689 2).
func requiresTLS(env mail.Envelope) bool {
	_, ok := env.Sender.Arg("REQUIRETLS")
	return ok
}

// fits reports why a connection may not carry a message that requires TLS: the
// next hop must have proved who it is, the way to its name must be known for
// sure, and it must promise the same (RFC 8689 4.2.1).
func (h hop) fits(c *conn, t *transaction) *failure {
	switch {
	case !t.requireTLS, h.network == "unix": // nobody is on that way
		return nil
	case c.tls == "":
		return needsTLS("the connection is not encrypted")
	case !h.surelyFound(c.security):
		return needsTLS("neither DNSSEC nor MTA-STS vouches for the MX records of " + h.domain)
	case !c.verified():
		return needsTLS("the certificate of the next hop can't be verified")
	case !c.ext.requireTLS:
		return needsTLS("the next hop does not offer REQUIRETLS")
	}
	return nil
}

// surelyFound reports whether nobody on the way can have chosen the host.
func (h hop) surelyFound(is security) bool {
	return h.domain == "" || h.secure || is.tls == TLSSTS
}

// verified reports whether the peer has proved to be the host that was meant,
// whatever the policy asked for.
func (c *conn) verified() bool {
	tc, ok := c.conn.(*tls.Conn)
	if !ok {
		return false
	}
	switch {
	case c.security.tls == TLSVerify, c.security.tls == TLSSTS, c.security.tls == TLSDANE && c.security.tlsa != "":
		return true // or there were no connection
	}
	return verifyChain(c.host.rootCAs, tc.ConnectionState().PeerCertificates, []string{c.host.name}) == nil
}

// needsTLS fails a message: nobody may send it on in another way.
func needsTLS(why string) *failure {
	return &failure{final: true, reply: mail.Reply{Code: 550, Detail: "7.30", Text: "REQUIRETLS support required: " + why}}
}

// tlsOptional reports whether the sender would rather have this message
// delivered than protected: "TLS-Required: No" (RFC 8689 3). It sets aside what
// the recipient's domain demands, not what a route does.
func (t *transaction) tlsOptional() bool {
	if t.requireTLS {
		return false
	}
	m, err := mail.ReadMessage(t.content, t.content.Size())
	if err != nil {
		return false
	}
	return m.Header.Count("TLS-Required") == 1 && strings.EqualFold(strings.TrimSpace(m.Header.Get("TLS-Required")), "no")
}
