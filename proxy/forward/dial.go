package forward

import (
	"context"
	"crypto/tls"
	"net"
	"strings"
	"time"
)

// connect opens a connection, as far as MAIL. Where encryption is wanted but
// not demanded and the handshake fails, it is tried again in clear, where that
// is of use for the message.
func (h hop) connect(ctx context.Context, want security, clear bool) (*conn, *failure) {
	c, failed := h.open(ctx, want, want.tls != TLSNone)
	if failed != nil && failed.tls && want.tls == TLSOpportunistic && clear && ctx.Err() == nil {
		c, failed = h.open(ctx, want, false)
	}
	if failed != nil && ctx.Err() != nil {
		return nil, interrupted()
	}
	if failed == nil && want.tested {
		h.report(ctx, c)
	}
	return c, failed
}

func (h hop) open(ctx context.Context, want security, encrypt bool) (*conn, *failure) {
	raw, err := h.dial(ctx)
	if err != nil {
		return nil, noConnection(h, err)
	}
	c := &conn{host: h.host, security: want, domain: h.domain, addr: h.addr, link: &link{
		raw: raw, conn: raw,
		in:       newReader(raw),
		remote:   h.remote(raw),
		patience: h.write,
	}}
	stop := context.AfterFunc(ctx, c.abort)
	defer stop()
	failed := c.greet(ctx, encrypt)
	if failed == nil {
		failed = c.choose()
	}
	if failed != nil {
		c.abort()
		failed.remote = c.remote
		return nil, failed
	}
	return c, nil
}

// remote names a connected host: "name[address]:port".
func (h *host) remote(raw net.Conn) string {
	addr, ok := raw.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return h.name
	}
	return h.name + "[" + addr.AddrPort().Addr().Unmap().String() + "]:" + h.port
}

// greet reads the greeting, says hello, encrypts, and logs in.
func (c *conn) greet(ctx context.Context, encrypt bool) *failure {
	if c.host.implicitTLS {
		if failed := c.handshake(ctx); failed != nil {
			return failed
		}
		encrypt = false
	}
	r, err := c.reply(c.host.command)
	if err != nil {
		return broken("waiting for the greeting", err)
	}
	if r.Code/100 != 2 {
		return turnedAway(r)
	}
	failed := c.hello()
	if failed == nil && encrypt {
		failed = c.startTLS(ctx)
	}
	if failed == nil && c.host.account.user != "" {
		failed = c.login()
	}
	return failed
}

func (c *conn) hello() *failure { return c.helloAs(c.host.hostname) }

// helloAs says EHLO, and HELO to whom does not know that (RFC 5321 3.2).
func (c *conn) helloAs(name string) *failure {
	c.ext = extensions{}
	verb := "EHLO "
	if c.host.lmtp {
		verb = "LHLO " // RFC 2033 4.1
	}
	r, err := c.ask(verb+name, c.host.command)
	if err == nil && r.Code/100 == 5 && !c.host.lmtp {
		r, err = c.ask("HELO "+name, c.host.command)
		r.Text, _, _ = strings.Cut(r.Text, "\n") // HELO offers nothing
	}
	if err != nil {
		return broken("saying hello", err)
	}
	if r.Code/100 != 2 {
		return turnedAway(r)
	}
	c.ext = parseExtensions(r.Text)
	return nil
}

// startTLS encrypts (RFC 3207), or returns nil where the policy is content to
// go on in clear.
func (c *conn) startTLS(ctx context.Context) *failure {
	must := c.security.must()
	if !c.ext.startTLS {
		if must {
			return noTLS("7.4", "TLS is required, but was not offered%s", c.because(nil))
		}
		return nil
	}
	r, err := c.ask("STARTTLS", c.host.command)
	switch {
	case err != nil:
		return broken("waiting for the answer to STARTTLS", err)
	case r.Code == 421:
		return hungUp(r)
	case r.Code != 220 && must:
		return noTLS("7.4", "TLS is required, but STARTTLS was refused: %s%s", r, c.because(nil))
	case r.Code != 220:
		return nil
	case c.in.Buffered() > 0:
		// Somebody on the way wants these to be read as if they had come
		// encrypted (CVE-2021-38371).
		return noTLS("7.5", "data behind the answer to STARTTLS")
	}
	if failed := c.handshake(ctx); failed != nil {
		return failed
	}
	return c.hello() // RFC 3207 4.2: forget what was said in clear
}

// handshake puts TLS over the connection.
func (c *conn) handshake(ctx context.Context) *failure {
	tc := tls.Client(c.raw, c.tlsConfig())
	if err := c.raw.SetDeadline(time.Now().Add(c.host.settings.connect)); err != nil {
		return broken("starting TLS", err)
	}
	if err := tc.HandshakeContext(ctx); err != nil {
		failed := noTLS("7.5", "TLS handshake: %s%s", reason(err), c.because(err))
		failed.tls = true
		return failed
	}
	c.conn = tc
	c.in.Reset(tc)
	c.tls = strings.Replace(tls.VersionName(tc.ConnectionState().Version), "TLS ", "TLSv", 1)
	return nil
}

// choose picks who speaks on a connection from here on.
func (c *conn) choose() *failure {
	if !c.host.lmtp {
		c.sender = &smtpSender{link: c.link, host: c.host}
		return nil
	}
	var err error
	c.sender, err = newLMTPSender(c.link, c.host)
	if err != nil {
		return broken("saying hello", err)
	}
	return nil
}
