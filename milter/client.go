package milter

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"gatepost/internal/mail"
	"gatepost/milter/wire"

	"github.com/emersion/go-milter"
)

// Codes that go-milter has no names for.
const (
	codeConnFail = 'f' // SMFIR_CONN_FAIL
	codeShutdown = '4' // SMFIR_SHUTDOWN
)

// ClientConfig says how a child milter is reached and what it may cost.
type ClientConfig struct {
	Socket         string
	ConnectTimeout time.Duration // with the negotiation
	CommandTimeout time.Duration // of one answer; progress renews it
	ContentTimeout time.Duration // the same at the end of a message; 0: CommandTimeout
	// Ahead sends the header without waiting for the answer to each field: they
	// are read before the body, or the end, is answered. A milter reads its
	// commands one by one in any case; an MTA would have sent it no more than up
	// to the first answer that is not "continue" (OutOfStep).
	Ahead bool
	// Turn returns the place that the work of ctx has among others which share a
	// goroutine; nil, as the func itself may be, where there are none.
	Turn         func(ctx context.Context) Turn
	Waits        *Waits // shared by the clients of a milter that answers at once, mostly
	MaxEdits     int    // changes to one message
	MaxEditBytes int    // of all of them; a new body is most of it
}

// Turn is a place among others that share a goroutine. Pause lets them go on
// while an answer is on its way, Leave takes the one whose answer is late, or who
// won't read, to a goroutine of its own.
type Turn interface {
	Pause()
	Leave()
}

// fits is what a socket takes although the child doesn't read now: it has read
// all before.
const fits = 16 << 10

// held is how long others are held up by a child before Leave.
const held = 2 * time.Millisecond

// DefaultClientConfig returns the defaults: Postfix's timeouts, and room for
// any honest milter.
func DefaultClientConfig() ClientConfig {
	return ClientConfig{ConnectTimeout: 30 * time.Second, CommandTimeout: 30 * time.Second, ContentTimeout: 5 * time.Minute, MaxEdits: 1000, MaxEditBytes: 64 << 20}
}

// ErrProtocol is wrapped when the child says what the protocol doesn't allow.
// Its connection is of no more use.
var ErrProtocol = errors.New("milter protocol")

func broken(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrProtocol, fmt.Sprintf(format, args...))
}

// Answer is what a child says to a command.
type Answer struct {
	Code  milter.ActionCode // ActContinue where none was asked for
	Reply mail.Reply        // of ActReplyCode
}

// Edit is a change that a child asks for, in the terms of the protocol: Code
// tells which of the fields are used.
type Edit struct {
	Code     byte // milter.ActAddHeader, …
	Header   wire.Header
	Envelope wire.Envelope
	Body     []byte
	Reason   string // of a quarantine
}

// Client is one connection to a child milter, played by us as the MTA. Its
// methods are called by one goroutine at a time; after an error it is closed.
// What the child doesn't want is not sent, what it won't answer not waited for.
type Client struct {
	cfg    ClientConfig
	conn   net.Conn
	quick  *quickConn // conn, to read from
	buf    *bufio.Reader
	in     wire.Reader
	out    []byte
	agreed wire.Negotiation

	patience time.Duration // with the next answer
	ahead    int           // answers that are still to be read
	lost     bool          // see OutOfStep
}

// Limits on what is sent ahead: the child must be able to write its answers, and
// we what it is to read, with nobody reading on the other side.
const (
	maxAhead     = 64
	maxAheadSize = 16 << 10
)

// Dial connects to a child and negotiates within the offer.
func Dial(ctx context.Context, cfg ClientConfig, offer wire.Negotiation) (*Client, error) {
	network, address, err := ParseSocket(cfg.Socket)
	if err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg, patience: cfg.CommandTimeout}
	if t := c.turn(ctx); t != nil && !atHand(network, address) {
		t.Leave()
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.ConnectTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("milter %s: %w", cfg.Socket, err)
	}
	c.conn, c.quick = conn, newQuickConn(conn, cfg.Waits)
	c.buf = bufio.NewReaderSize(c.quick, 4<<10)
	c.in = wire.Reader{R: c.buf}
	if err := c.negotiate(ctx, offer); err != nil {
		conn.Close()
		return nil, fmt.Errorf("milter %s: negotiate: %w", cfg.Socket, err)
	}
	return c, nil
}

// atHand reports whether it can't take long to connect.
func atHand(network, address string) bool {
	a, err := netip.ParseAddrPort(address)
	return network == "unix" || err == nil && a.Addr().IsLoopback()
}

func (c *Client) negotiate(ctx context.Context, offer wire.Negotiation) error {
	c.out = offer.Append(c.out[:0])
	p, err := c.roundTrip(ctx)
	if err != nil {
		return err
	}
	if milter.Code(p.Code) != milter.CodeOptNeg {
		return broken("%q in place of an answer to the offer", p.Code)
	}
	n, err := wire.DecodeNegotiation(p.Data)
	switch {
	case err != nil:
		return err
	case n.Version < wire.MinVersion || n.Version > offer.Version:
		return broken("version %d, offered was %d", n.Version, offer.Version)
	case n.Actions&^offer.Actions != 0:
		return broken("actions %#x that were not offered", n.Actions&^offer.Actions)
	case n.Protocol&^offer.Protocol != 0:
		return broken("protocol bits %#x that were not offered", n.Protocol&^offer.Protocol)
	}
	c.agreed = n
	return nil
}

// Agreed is what was negotiated.
func (c *Client) Agreed() wire.Negotiation { return c.agreed }

// Close ends the connection with a short goodbye.
func (c *Client) Close() error {
	_ = c.conn.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = c.conn.Write(wire.Append(nil, byte(milter.CodeQuit)))
	return c.conn.Close()
}

// Macros is sent with the next command.
func (c *Client) Macros(m wire.Macros) { c.out = m.Append(c.out) }

// skip and quiet are the bits by which a child declines a command, or answers
// to it none.
type bits struct{ skip, quiet milter.OptProtocol }

// Connect tells of the client.
func (c *Client) Connect(ctx context.Context, e wire.Connect) (Answer, error) {
	return c.command(ctx, bits{milter.OptNoConnect, milter.OptNoConnReply}, e.Append)
}

// Helo tells how the client greets.
func (c *Client) Helo(ctx context.Context, name string) (Answer, error) {
	return c.command(ctx, bits{milter.OptNoHelo, milter.OptNoHeloReply}, func(b []byte) []byte {
		return wire.AppendText(b, byte(milter.CodeHelo), name)
	})
}

// Mail begins a message.
func (c *Client) Mail(ctx context.Context, e wire.Envelope) (Answer, error) {
	return c.command(ctx, bits{milter.OptNoMailFrom, milter.OptNoMailReply}, func(b []byte) []byte { return e.Append(b, byte(milter.CodeMail)) })
}

// Rcpt names a recipient.
func (c *Client) Rcpt(ctx context.Context, e wire.Envelope) (Answer, error) {
	return c.command(ctx, bits{milter.OptNoRcptTo, milter.OptNoRcptReply}, func(b []byte) []byte { return e.Append(b, byte(milter.CodeRcpt)) })
}

// Data tells that the content comes; only version 4 and above knows it.
func (c *Client) Data(ctx context.Context) (Answer, error) { return c.data(ctx, c.command) }

// DataAhead is Data where the content follows at once.
func (c *Client) DataAhead(ctx context.Context) (Answer, error) { return c.data(ctx, c.content) }

type sender func(context.Context, bits, func([]byte) []byte) (Answer, error)

func (c *Client) data(ctx context.Context, send sender) (Answer, error) {
	if c.agreed.Version < 4 {
		return Answer{Code: milter.ActContinue}, nil
	}
	return send(ctx, bits{milter.OptNoData, milter.OptNoDataReply}, func(b []byte) []byte { return wire.Append(b, byte(milter.CodeData)) })
}

// HearsUnknown reports whether the child wants to hear of commands that the MTA
// doesn't know; only version 3 and above can.
func (c *Client) HearsUnknown() bool {
	return c.agreed.Version >= 3 && c.agreed.Protocol&milter.OptNoUnknown == 0
}

// Unknown tells of a command that the MTA doesn't know.
func (c *Client) Unknown(ctx context.Context, line string) (Answer, error) {
	if !c.HearsUnknown() {
		return Answer{Code: milter.ActContinue}, nil
	}
	return c.command(ctx, bits{milter.OptNoUnknown, milter.OptNoUnknownReply}, func(b []byte) []byte {
		return wire.AppendText(b, byte(wire.CodeUnknown), line)
	})
}

// Field sends one header field. libmilter resets a connection on a packet above
// 64 kB, so a longer value is cut for the child's eyes.
func (c *Client) Field(ctx context.Context, f mail.Field) (Answer, error) {
	value := fieldValue(f)
	if c.agreed.Protocol&milter.OptHeaderLeadingSpace == 0 {
		value = strings.TrimPrefix(value, " ")
	}
	name := f.Name()
	if room := wire.MaxBody - len(name) - 2; len(value) > room {
		value = value[:room]
	}
	return c.content(ctx, bits{milter.OptNoHeaders, milter.OptNoHeaderReply}, func(b []byte) []byte {
		return wire.Header{Name: name, Value: value}.Append(b, byte(milter.CodeHeader))
	})
}

// EndOfHeader ends the header.
func (c *Client) EndOfHeader(ctx context.Context) (Answer, error) {
	return c.content(ctx, bits{milter.OptNoEOH, milter.OptNoEOHReply}, func(b []byte) []byte { return wire.Append(b, byte(milter.CodeEOH)) })
}

// Body sends the body in chunks until the child has enough (SMFIR_SKIP) or
// answers with more than "continue".
func (c *Client) Body(ctx context.Context, body io.Reader) (Answer, error) {
	if c.agreed.Protocol&milter.OptNoBody != 0 {
		return Answer{Code: milter.ActContinue}, nil
	}
	const head = 5 // length and command of a packet
	room := int64(wire.MaxBody)
	if s, ok := body.(interface{ Size() int64 }); ok {
		room = min(room, s.Size()+1) // that it is not filled shows the end
	}
	for {
		c.out = slices.Grow(c.out, head+int(room))
		start := len(c.out) + head
		n, err := io.ReadFull(body, c.out[start:start+int(room)])
		if n > 0 {
			send := c.command
			if int64(n) < room {
				send = c.content // the last one can wait for the end
			}
			a, err := send(ctx, bits{milter.OptNoBody, milter.OptNoBodyReply}, func(b []byte) []byte {
				chunk := b[start : start+n] // stands in its place already
				return wire.Append(b, byte(milter.CodeBody), chunk)
			})
			if err != nil || a.Code == milter.ActSkip {
				return Answer{Code: milter.ActContinue}, err
			}
			if a.Code != milter.ActContinue {
				return a, nil
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return Answer{Code: milter.ActContinue}, nil
		}
		if err != nil {
			return Answer{}, c.fail(fmt.Errorf("read the body: %w", err))
		}
	}
}

// Abort ends a message before its end. The child doesn't answer.
func (c *Client) Abort(ctx context.Context) error {
	c.out = wire.Append(c.out, byte(milter.CodeAbort))
	return c.flush(ctx)
}

// QuitNewConnection ends the SMTP session and keeps the connection for another.
func (c *Client) QuitNewConnection(ctx context.Context) error {
	c.out = wire.Append(c.out, byte(milter.CodeQuitNewConn))
	return c.flush(ctx)
}

// content sends a part of the header, ahead of its answer where that is wanted.
func (c *Client) content(ctx context.Context, b bits, encode func([]byte) []byte) (Answer, error) {
	if !c.cfg.Ahead || c.agreed.Protocol&(b.skip|b.quiet) != 0 {
		return c.command(ctx, b, encode)
	}
	c.out = encode(c.out)
	c.ahead++
	if c.ahead < maxAhead && len(c.out) < maxAheadSize {
		return Answer{Code: milter.ActContinue}, nil
	}
	return c.catchUp(ctx)
}

// catchUp reads the answers to what was sent ahead, up to the first that is more
// than "continue".
func (c *Client) catchUp(ctx context.Context) (Answer, error) {
	for ; c.ahead > 0; c.ahead-- {
		a, err := c.hear(ctx)
		if err != nil {
			return a, err
		}
		if a.Code != milter.ActContinue && a.Code != milter.ActSkip {
			c.lost = true
			return a, nil
		}
	}
	return Answer{Code: milter.ActContinue}, nil
}

// OutOfStep reports whether the child answered something that was not the last
// that it was sent. libmilter passes over the rest, others may answer: there is
// no more to say to it.
func (c *Client) OutOfStep() bool { return c.lost }

// command sends one command and waits for its answer, each as far as the child
// wants it.
func (c *Client) command(ctx context.Context, b bits, encode func([]byte) []byte) (Answer, error) {
	if c.agreed.Protocol&b.skip != 0 {
		return Answer{Code: milter.ActContinue}, nil // its macros go with the next command, as libmilter expects
	}
	c.out = encode(c.out)
	if c.agreed.Protocol&b.quiet != 0 {
		if len(c.out) < 64<<10 {
			return Answer{Code: milter.ActContinue}, nil // goes with the next
		}
		return Answer{Code: milter.ActContinue}, c.flush(ctx)
	}
	if a, err := c.catchUp(ctx); err != nil || c.lost {
		return a, err
	}
	return c.hear(ctx)
}

// hear sends what is to be sent and reads an answer.
func (c *Client) hear(ctx context.Context) (Answer, error) {
	for {
		p, err := c.roundTrip(ctx)
		if err != nil {
			return Answer{}, err
		}
		if p.Code == codeProgress {
			continue
		}
		a, err := c.answer(p)
		if err != nil {
			return Answer{}, c.fail(err)
		}
		return a, nil
	}
}

// roundTrip sends what is buffered and reads a packet. Bytes that came before
// the question belong to no question: the child is out of step.
func (c *Client) roundTrip(ctx context.Context) (wire.Packet, error) {
	if c.lost {
		return wire.Packet{}, c.fail(errors.New("nothing can be asked after an answer that came early"))
	}
	if len(c.out) > 0 && c.ahead == 0 && c.buf.Buffered() > 0 {
		return wire.Packet{}, c.fail(broken("an answer that nobody asked for"))
	}
	if err := c.flush(ctx); err != nil {
		return wire.Packet{}, err
	}
	if t := c.turn(ctx); t != nil && c.buf.Buffered() == 0 {
		t.Pause()
		if !c.quick.wait() {
			t.Leave()
		}
	}
	stop := c.arm(ctx, c.patience, c.conn.SetReadDeadline)
	defer stop()
	p, err := c.in.Next()
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return wire.Packet{}, c.fail(fmt.Errorf("wait for an answer: %w", err))
	}
	return p, nil
}

func (c *Client) flush(ctx context.Context) error {
	if len(c.out) == 0 {
		return nil
	}
	rest := c.out
	if t := c.turn(ctx); t != nil && len(rest) > fits {
		_ = c.conn.SetWriteDeadline(time.Now().Add(held))
		n, err := c.conn.Write(rest)
		if rest = rest[n:]; errors.Is(err, os.ErrDeadlineExceeded) {
			t.Leave()
		}
	}
	var err error
	if len(rest) > 0 {
		stop := c.arm(ctx, c.cfg.CommandTimeout, c.conn.SetWriteDeadline)
		_, err = c.conn.Write(rest)
		stop()
	}
	c.out = c.out[:0]
	if err != nil {
		return c.fail(fmt.Errorf("send: %w", err))
	}
	return nil
}

// turn is nil where nobody is held up.
func (c *Client) turn(ctx context.Context) Turn {
	if c.cfg.Turn == nil {
		return nil
	}
	return c.cfg.Turn(ctx)
}

// arm sets a deadline, and one at once when ctx ends.
func (c *Client) arm(ctx context.Context, wait time.Duration, set func(time.Time) error) (stop func() bool) {
	_ = set(time.Now().Add(wait))
	return context.AfterFunc(ctx, func() { _ = set(time.Unix(1, 0)) })
}

// fail closes the connection: after an error nobody knows what the next bytes
// would be.
func (c *Client) fail(err error) error {
	c.conn.Close()
	return err
}

// answer checks a reply to a command.
func (c *Client) answer(p wire.Packet) (Answer, error) {
	a := Answer{Code: milter.ActionCode(p.Code)}
	switch {
	case a.Code == milter.ActReplyCode:
		text, err := wire.DecodeText(p.Data)
		if err != nil {
			return a, err
		}
		a.Reply, err = parseReplyCode(text)
		return a, err
	case a.Code == milter.ActSkip && c.agreed.Protocol&milter.OptSkip == 0:
		return a, broken("SKIP that was not negotiated")
	case strings.IndexByte("cartds", p.Code) >= 0, p.Code == codeConnFail, p.Code == codeShutdown:
		if len(p.Data) > 0 {
			return a, broken("%q with data", p.Code)
		}
		return a, nil
	}
	return a, broken("unexpected answer %q", p.Code)
}

// parseReplyCode reads "550 5.7.1 text", of one line or several. The text is a
// format in both MTAs: %% is a per cent sign, a single one is none.
func parseReplyCode(text string) (mail.Reply, error) {
	var reply mail.Reply
	for i, line := range strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n") {
		r, ok := mail.ParseReply(line)
		if !ok || r.Code < 400 || i > 0 && r.Code != reply.Code {
			return reply, broken("reply %q", text)
		}
		r.Text = strings.ReplaceAll(strings.ReplaceAll(strings.ReplaceAll(r.Text, "%%", "\x00"), "%", ""), "\x00", "%")
		if i == 0 {
			reply = r
		} else {
			reply.Text += "\n" + r.Text
		}
	}
	return reply, nil
}

// End ends the message and returns the child's changes and its last word.
func (c *Client) End(ctx context.Context) ([]Edit, Answer, error) {
	c.out = wire.Append(c.out, byte(milter.CodeEOB))
	c.patience = cmp.Or(c.cfg.ContentTimeout, c.cfg.CommandTimeout)
	defer func() { c.patience = c.cfg.CommandTimeout }()
	if a, err := c.catchUp(ctx); err != nil || c.lost {
		return nil, a, err
	}
	var edits []Edit
	size := 0
	for {
		p, err := c.roundTrip(ctx)
		if err != nil {
			return nil, Answer{}, err
		}
		if p.Code == codeProgress {
			continue
		}
		e, isEdit, err := c.edit(p)
		if err != nil {
			return nil, Answer{}, c.fail(err)
		}
		if !isEdit {
			a, err := c.answer(p)
			if err != nil {
				return nil, Answer{}, c.fail(err)
			}
			return edits, a, nil
		}
		size += len(p.Data)
		if len(edits) == c.cfg.MaxEdits || size > c.cfg.MaxEditBytes {
			return nil, Answer{}, c.fail(broken("more than %d changes or %d bytes of them", c.cfg.MaxEdits, c.cfg.MaxEditBytes))
		}
		edits = append(edits, e)
	}
}

// edit reads a change, if p is one, and checks that it was negotiated.
func (c *Client) edit(p wire.Packet) (Edit, bool, error) {
	e := Edit{Code: p.Code}
	var need milter.OptAction
	var err error
	switch p.Code {
	case byte(milter.ActAddHeader):
		need = milter.OptAddHeader
		e.Header, err = wire.DecodeHeader(p.Data)
	case byte(milter.ActInsertHeader):
		need = milter.OptAddHeader
		e.Header, err = wire.DecodeIndexedHeader(p.Data)
	case byte(milter.ActChangeHeader):
		need = milter.OptChangeHeader
		e.Header, err = wire.DecodeIndexedHeader(p.Data)
	case byte(milter.ActAddRcpt):
		need = milter.OptAddRcpt
		e.Envelope, err = wire.DecodeEnvelope(p.Data)
	case codeAddRcptArgs:
		need = milter.OptAddRcptWithArgs
		e.Envelope, err = wire.DecodeEnvelope(p.Data)
	case byte(milter.ActDelRcpt):
		need = milter.OptRemoveRcpt
		e.Envelope, err = wire.DecodeEnvelope(p.Data)
	case byte(milter.ActChangeFrom):
		need = milter.OptChangeFrom
		e.Envelope, err = wire.DecodeEnvelope(p.Data)
	case byte(milter.ActReplBody):
		need = milter.OptChangeBody
		e.Body = append([]byte(nil), p.Data...)
	case byte(milter.ActQuarantine):
		need = milter.OptQuarantine
		e.Reason, err = wire.DecodeText(p.Data)
	default:
		return e, false, nil
	}
	if err == nil && c.agreed.Actions&need == 0 {
		err = broken("change %q that was not negotiated", p.Code)
	}
	return e, true, err
}
