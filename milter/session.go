package milter

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"strings"
	"time"

	"gatepost/internal/mail"
	"gatepost/milter/wire"

	"github.com/emersion/go-milter"
)

// session is one connection of an MTA: after the negotiation one SMTP session
// after another (QUIT_NC), each with any number of messages.
type session struct {
	srv     *Server
	conn    net.Conn
	buf     *bufio.Reader
	in      wire.Reader
	out     []byte // the answer being made
	agreed  wire.Negotiation
	handler mail.Handler
	smtp    *mail.Session     // nil before CONNECT
	kept    map[string]string // macros of CONNECT and HELO
	macros  map[string]string // of the transaction, on top of kept
	sticky  mail.Verdict      // of CONNECT and HELO, where it could not be answered or lasts for the session
	msg     *message          // nil between two transactions
}

func newSession(s *Server, c net.Conn) *session {
	ses := &session{srv: s, conn: c, buf: bufio.NewReaderSize(newQuickConn(c, &s.waits), 16<<10), kept: map[string]string{}}
	ses.in = wire.Reader{R: ses.buf}
	return ses
}

// mta names the other side, for the log.
func (s *session) mta() string {
	if s.conn.RemoteAddr().Network() == "unix" {
		return "unix"
	}
	return s.conn.RemoteAddr().String()
}

// end gives back what the session holds.
func (s *session) end() {
	s.abort()
	s.newSMTP()
}

func (s *session) newSMTP() {
	s.abort()
	if s.handler != nil {
		s.handler.Close()
	}
	s.handler, s.smtp, s.sticky = nil, nil, mail.Verdict{}
	s.kept = map[string]string{}
}

func (s *session) run(ctx context.Context) error {
	if err := s.negotiate(); err != nil {
		return err
	}
	for {
		p, err := s.next()
		if err != nil {
			return err
		}
		if milter.Code(p.Code) == milter.CodeQuit {
			return nil
		}
		if err := s.handle(ctx, p); err != nil {
			return fmt.Errorf("command %q: %w", p.Code, err)
		}
	}
}

// errStale ends a connection between two SMTP sessions: the next one is to
// negotiate anew.
var errStale = errors.New("filters were configured that want the body")

// next reads a packet. The deadline is set where the read may block.
func (s *session) next() (wire.Packet, error) {
	if s.buf.Buffered() < 5 {
		if err := s.conn.SetReadDeadline(time.Now().Add(s.srv.cfg.IdleTimeout)); err != nil {
			return wire.Packet{}, err
		}
	}
	return s.in.Next()
}

func (s *session) negotiate() error {
	p, err := s.next()
	if err != nil {
		return err
	}
	if milter.Code(p.Code) != milter.CodeOptNeg {
		return fmt.Errorf("%w: %q before the negotiation", wire.ErrMalformed, p.Code)
	}
	offer, err := wire.DecodeNegotiation(p.Data)
	if err != nil {
		return err
	}
	decides := []mail.Stage{mail.StageConnect, mail.StageHelo, mail.StageMail, mail.StageRcpt}
	if s.srv.deps.Decides != nil {
		decides = s.srv.deps.Decides()
	}
	if s.agreed, err = negotiate(offer, decides, s.srv.declined()); err != nil {
		return err
	}
	s.out = s.agreed.Append(s.out[:0])
	return s.flush()
}

func (s *session) flush() error {
	if err := s.conn.SetWriteDeadline(time.Now().Add(s.srv.cfg.WriteTimeout)); err != nil {
		return err
	}
	_, err := s.conn.Write(s.out)
	s.out = s.out[:0]
	return err
}

// handle does one command. The order is libmilter's state table (engine.c),
// only stricter: what makes no sense ends the connection.
func (s *session) handle(ctx context.Context, p wire.Packet) error {
	switch milter.Code(p.Code) {
	case milter.CodeMacro:
		return s.macro(p.Data)
	case milter.CodeConn:
		return s.connect(ctx, p.Data)
	case milter.CodeHelo:
		return s.helo(ctx, p.Data)
	case milter.CodeMail:
		return s.mail(ctx, p.Data)
	case milter.CodeAbort:
		s.abort()
		return nil
	case milter.CodeQuitNewConn:
		s.newSMTP()
		if s.agreed.Protocol&milter.OptNoBody != 0 && !s.srv.sparesBody() {
			return errStale
		}
		return nil
	case wire.CodeUnknown:
		return s.unknown(ctx, p.Data)
	}
	if s.msg == nil {
		return fmt.Errorf("%w: outside a transaction", wire.ErrMalformed)
	}
	switch milter.Code(p.Code) {
	case milter.CodeRcpt:
		return s.rcpt(ctx, p.Data)
	case milter.CodeData:
		return s.answer(mail.StageData, milter.OptNoDataReply, s.handler.Data(ctx, s.stage(mail.StageData)))
	case milter.CodeHeader:
		if err := s.msg.field(p.Data, s.agreed.Protocol&milter.OptHeaderLeadingSpace != 0); err != nil {
			return err
		}
		return s.answer(mail.StageMessage, milter.OptNoHeaderReply, mail.Verdict{})
	case milter.CodeEOH:
		s.msg.write([]byte("\r\n"))
		return s.answer(mail.StageMessage, milter.OptNoEOHReply, mail.Verdict{})
	case milter.CodeBody:
		s.msg.write(p.Data)
		return s.answer(mail.StageMessage, milter.OptNoBodyReply, mail.Verdict{})
	case milter.CodeEOB:
		s.msg.write(p.Data) // may carry the last chunk
		return s.endOfMessage(ctx)
	}
	return fmt.Errorf("%w: unknown command", wire.ErrMalformed)
}

// macro keeps the values that the MTA sends before a command. Those of CONNECT
// and HELO last for the SMTP session, the others for the transaction.
func (s *session) macro(data []byte) error {
	m, err := wire.DecodeMacros(data)
	if err != nil {
		return err
	}
	into := s.macros
	switch m.For {
	case milter.CodeConn, milter.CodeHelo:
		into = s.kept
	case milter.CodeMail:
		s.macros = map[string]string{}
		into = s.macros
	}
	if into == nil {
		into = map[string]string{}
		s.macros = into
	}
	for _, v := range m.Values {
		into[strings.Trim(v.Name, "{}")] = v.Value
	}
	if s.smtp != nil {
		all := maps.Clone(s.kept)
		maps.Copy(all, s.macros)
		s.smtp.Macros = all
	}
	return nil
}

func (s *session) value(macro string) string {
	if v, ok := s.macros[macro]; ok {
		return v
	}
	return s.kept[macro]
}

func (s *session) connect(ctx context.Context, data []byte) error {
	c, err := wire.DecodeConnect(data)
	if err != nil {
		return err
	}
	if s.smtp != nil {
		return fmt.Errorf("%w: second CONNECT", wire.ErrMalformed)
	}
	s.smtp = &mail.Session{
		ID: mail.NewID(time.Now()), Listener: s.srv.cfg.Name, Via: mail.ViaMilter, Start: time.Now(), Macros: maps.Clone(s.kept),
	}
	if c.Family == wire.FamilyIPv4 || c.Family == wire.FamilyIPv6 {
		// sendmail writes IPv6:2001:db8::1, Postfix 2001:db8::1.
		ip, err := netip.ParseAddr(strings.TrimPrefix(c.Address, "IPv6:"))
		if err != nil {
			return fmt.Errorf("%w: client address: %w", wire.ErrMalformed, err)
		}
		s.smtp.Client = netip.AddrPortFrom(ip.Unmap(), c.Port)
		for _, n := range s.srv.cfg.Trusted {
			s.smtp.Trusted = s.smtp.Trusted || n.Contains(ip.Unmap())
		}
	}
	s.nameClient(c.Host)
	s.handler = s.srv.deps.NewHandler()
	if s.blind(s.handler) {
		// Not every MTA waits for an answer here: it gets one at the end of each message.
		s.sticky = mail.Verdict{Action: mail.TempFail, Reason: "filters were configured after the MTA was told to keep the body"}
	}
	v := s.handler.Connect(ctx, s.envelopeless(mail.StageConnect))
	s.logEnvelope(mail.StageConnect, "", v)
	return s.answer(mail.StageConnect, milter.OptNoConnReply, v)
}

// blind reports whether h looks behind the header, and the MTA was told to keep
// the body.
func (s *session) blind(h mail.Handler) bool {
	if s.agreed.Protocol&milter.OptNoBody == 0 {
		return false
	}
	b, ok := h.(bodiless)
	return !ok || b.ReadsBody()
}

// nameClient notes what the MTA knows of the client's name: a verified one,
// where it vouches for it (Postfix gives no other, sendmail says so in
// {client_resolve}), the one that the address claims, and what became of the
// look-up. Postfix does not tell a name that is missing from one that could not
// be looked up now.
func (s *session) nameClient(host string) {
	how := mail.Resolve(s.value("client_resolve"))
	if how == "" || how == mail.ResolveOK {
		s.smtp.Name = hostName(host)
	}
	s.smtp.PTR = hostName(s.value("client_ptr"))
	switch how {
	case mail.ResolveOK, mail.ResolveFail, mail.ResolveForged, mail.ResolveTemp:
		s.smtp.Resolve = how
		return
	}
	switch {
	case s.smtp.Name != "":
		s.smtp.Resolve = mail.ResolveOK
	case s.smtp.PTR != "":
		s.smtp.Resolve = mail.ResolveForged
	}
}

// hostName is a host's name in its canonical form, "" where there is none.
func hostName(s string) string {
	name, err := mail.ParseDomain(s)
	if err != nil || strings.HasPrefix(name, "[") || name == "unknown" {
		return ""
	}
	return name
}

func (s *session) helo(ctx context.Context, data []byte) error {
	name, err := wire.DecodeText(data)
	if err != nil {
		return err
	}
	if s.smtp == nil {
		return fmt.Errorf("%w: HELO before CONNECT", wire.ErrMalformed)
	}
	s.smtp.Helo = mail.CleanText(name)
	if v := s.value("tls_version"); v != "" {
		s.smtp.TLS = &mail.TLS{Version: v, Cipher: s.value("cipher"), Subject: s.value("cert_subject"), Verified: s.value("verify") == "OK"}
	}
	v := s.handler.Helo(ctx, s.envelopeless(mail.StageHelo))
	s.logEnvelope(mail.StageHelo, "", v)
	return s.answer(mail.StageHelo, milter.OptNoHeloReply, v)
}

// unknown passes on a command that the MTA doesn't know and refuses anyway. Only
// a refusal in other words is an answer.
func (s *session) unknown(ctx context.Context, data []byte) error {
	line, err := wire.DecodeText(data)
	if err != nil {
		return err
	}
	if s.smtp == nil {
		return fmt.Errorf("%w: unknown command before CONNECT", wire.ErrMalformed)
	}
	if s.agreed.Protocol&milter.OptNoUnknownReply != 0 {
		return nil
	}
	tx := s.envelopeless(mail.StageHelo)
	if s.msg != nil {
		tx = s.stage(mail.StageMail)
	}
	v := mail.Unknown(ctx, s.handler, tx, line)
	if v.Action < mail.TempFail {
		v = mail.Verdict{}
	}
	return s.answer(tx.Stage, milter.OptNoUnknownReply, v)
}

// envelopeless is the transaction of the stages before MAIL.
func (s *session) envelopeless(stage mail.Stage) *mail.Transaction {
	return &mail.Transaction{Stage: stage, Session: s.smtp, Start: s.smtp.Start}
}
