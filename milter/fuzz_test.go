package milter

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatepost/internal/mail"
	"gatepost/milter/wire"

	"github.com/emersion/go-milter"
)

// packets makes of fuzz data packets that are framed right: a code, a length,
// and so many bytes, again and again.
func packets(data []byte) [][]byte {
	var out [][]byte
	for len(data) >= 2 {
		n := min(int(data[1]), len(data)-2)
		out = append(out, wire.Append(nil, data[0], data[2:2+n]))
		data = data[2+n:]
	}
	return out
}

// unpack is the way back, for seeds.
func unpack(stream []byte) (data []byte) {
	in := wire.Reader{R: strings.NewReader(string(stream))}
	for {
		p, err := in.Next()
		if err != nil || len(p.Data) > 255 {
			return data
		}
		data = append(append(data, p.Code, byte(len(p.Data))), p.Data...)
	}
}

// dialogueStream is what an MTA says for two messages.
func dialogueStream() []byte {
	var b []byte
	b = wire.Macros{For: 'C', Values: []wire.Macro{{Name: "j", Value: "mx"}, {Name: "v", Value: "8.17.1"}}}.Append(b)
	b = wire.Connect{Host: "h.example", Family: '6', Port: 25, Address: "IPv6:2001:db8::1"}.Append(b)
	b = wire.AppendText(b, 'H', "h")
	for range 2 {
		b = wire.Macros{For: 'M', Values: []wire.Macro{{Name: "i", Value: "4XYZ"}}}.Append(b)
		b = wire.Envelope{Address: "<a@b.example>", Args: []string{"SIZE=1"}}.Append(b, 'M')
		b = wire.Envelope{Address: "<c@b.example>"}.Append(b, 'R')
		b = wire.Envelope{Address: "local"}.Append(b, 'R')
		b = wire.Append(b, 'T')
		b = wire.Header{Name: "Subject", Value: " a\n b"}.Append(b, 'L')
		b = wire.Append(b, 'N')
		b = wire.Append(b, 'B', []byte("body\r\n"))
		b = wire.Append(b, 'E')
	}
	return b
}

// anyVerdict answers with what the fuzzer chose.
type anyVerdict struct {
	choices []byte
	open    *atomic.Int64
}

func (h *anyVerdict) next(rcpts int) mail.Verdict {
	var c byte
	if len(h.choices) > 0 {
		c, h.choices = h.choices[0], h.choices[1:]
	}
	v := mail.Verdict{Action: mail.Action(c % 6)}
	if c&0x08 != 0 && v.Action >= mail.TempFail {
		v.Reply = mail.Reply{Code: 451 + 100*int(v.Action-mail.TempFail), Detail: "7.1", Text: "100% of\nit"}
	}
	if c&0x10 != 0 {
		v.Edits = []mail.Edit{
			mail.InsertHeader{At: int(c >> 5), Field: mail.NewField("X-A", "1")}, mail.ChangeSender{},
			mail.AddRecipient{Recipient: mail.Path{Address: mail.Address{Local: "n", Domain: "x.example"}, Args: []string{"NOTIFY=NEVER"}}},
			mail.ReplaceBody{Body: strings.NewReader("new"), Size: 3},
		}
	}
	if c == 0xff { // a panic is a temporary failure
		panic("chosen by the fuzzer")
	}
	if c&0x20 != 0 {
		for range rcpts {
			v.Recipients = append(v.Recipients, h.next(0))
		}
	}
	return v
}

func (h *anyVerdict) Connect(context.Context, *mail.Transaction) mail.Verdict { return h.next(0) }
func (h *anyVerdict) Helo(context.Context, *mail.Transaction) mail.Verdict    { return h.next(0) }
func (h *anyVerdict) Mail(context.Context, *mail.Transaction) mail.Verdict    { return h.next(0) }
func (h *anyVerdict) Data(context.Context, *mail.Transaction) mail.Verdict    { return h.next(0) }
func (h *anyVerdict) Unknown(context.Context, *mail.Transaction, string) mail.Verdict {
	return h.next(0)
}
func (h *anyVerdict) Abort(*mail.Transaction) {}
func (h *anyVerdict) Close()                  { h.open.Add(-1) }
func (h *anyVerdict) Rcpt(context.Context, *mail.Transaction, mail.Path) mail.Verdict {
	return h.next(0)
}
func (h *anyVerdict) Message(_ context.Context, tx *mail.Transaction) mail.Verdict {
	_, _ = io.Copy(io.Discard, tx.Message.Reader())
	return h.next(len(tx.Envelope.Recipients))
}

// FuzzServer says whatever the fuzzer wants to a server whose handler answers
// whatever the fuzzer wants. The session ends, what it says is packets, and it
// leaves no draft and no handler behind.
func FuzzServer(f *testing.F) {
	offers := map[string]uint32{"all": uint32(wire.AllProtocol), "no bits": 0, "without leading space": 0xfffff}
	for _, bits := range offers {
		// CONNECT, HELO, MAIL, two RCPT, DATA; then the message, and its recipients.
		for _, end := range []string{"\x12", "\x13", "\x15", "\x24\x01\x03", "\x24\x03\x05", "\x36\x12\x15", "\x0b", "\x0a", "\x05", "\x02", "\x03", "\x24\x05\x05", "\xff"} {
			f.Add(true, uint32(wire.AllActions), bits, unpack(dialogueStream()), []byte("\x00\x00\x01\x00\x00\x00"+end))
			f.Add(true, uint32(wire.AllActions), bits, unpack(dialogueStream()), []byte("\x00\x00\x01\x00\x00\x00"+end+"\x00")) // even: the MTA holds
		}
	}
	f.Add(true, uint32(wire.AllActions&^milter.OptRemoveRcpt), uint32(wire.AllProtocol), unpack(dialogueStream()), []byte("\x00\x00\x01\x00\x00\x00\x24\x01\x03"))
	f.Add(true, uint32(0), uint32(wire.AllProtocol), unpack(dialogueStream()), []byte{3, 2, 2, 3, 0x1b})
	f.Add(false, uint32(wire.AllActions), uint32(wire.AllProtocol), dialogueStream(), []byte{0})
	unknown := wire.AppendText(nil, byte(wire.CodeUnknown), "XYZZY")
	heard := append(append(append(unknown, dialogueStream()...), unknown...), envelope('M', "<a@b.example>")...)
	f.Add(true, uint32(wire.AllActions), uint32(0), unpack(heard), []byte{0, 0, 0}) // U comes too early
	f.Add(true, uint32(wire.AllActions), uint32(0), unpack(heard[len(unknown):]), []byte("\x00\x00\x01\x00\x00\x00\x00\x0d\x05"))
	f.Add(false, uint32(wire.AllActions), uint32(wire.AllProtocol), []byte("\x00\x00\x00\x00"), []byte{0})
	f.Add(false, uint32(wire.AllActions), uint32(wire.AllProtocol), []byte("\xff\xff\xff\xffC"), []byte{0})
	f.Add(true, uint32(wire.AllActions), uint32(wire.AllProtocol), []byte("M\x00E\x00K\x00A\x00U\x00Q\x00"), []byte{0})
	f.Fuzz(func(t *testing.T, framed bool, actions, protocol uint32, data, choices []byte) {
		stream := data
		if framed {
			stream = nil
			for _, p := range packets(data) {
				stream = append(stream, p...)
			}
		}
		offer := wire.Negotiation{Version: 6, Actions: milter.OptAction(actions), Protocol: milter.OptProtocol(protocol)}.Append(nil)
		serveOnce(t, append(offer, stream...), choices)
	})
}

// serveOnce gives a stream to a session and reads all that it says.
func serveOnce(t *testing.T, stream, choices []byte) {
	var drafts, handlers atomic.Int64
	cfg := DefaultConfig()
	cfg.Socket, cfg.Quarantine, cfg.MaxSize, cfg.IdleTimeout = "unix:/x", QuarantineHold, 1<<20, 20*time.Millisecond // half a packet ends soon
	if len(choices)%2 == 0 {                                                                                         // both ways to hold
		cfg.Quarantine = QuarantineMTA
	}
	held := 0
	s, err := New(cfg, Deps{
		NewHandler:   func() mail.Handler { handlers.Add(1); return &anyVerdict{choices, &handlers} },
		NewDraft:     func(string) Draft { drafts.Add(1); return &countedDraft{open: &drafts} },
		HearsUnknown: func() bool { return len(choices)%3 == 0 },
		Hold: func(_ context.Context, _ *mail.Transaction, copies []Held) error {
			held += len(copies)
			if held%3 == 0 {
				return io.ErrShortWrite
			}
			return nil
		},
		Log: slog.New(slog.NewTextHandler(sessionAlarm{t}, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() { s.serve(t.Context(), far) })
	wg.Go(func() {
		_ = near.SetWriteDeadline(time.Now().Add(10 * time.Second))
		_, _ = near.Write(stream)
		_, _ = near.Write(wire.Append(nil, 'Q'))
	})
	in := wire.Reader{R: near}
	for {
		_ = near.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := in.Next(); err != nil {
			if err != io.EOF {
				t.Errorf("it answers with %v", err)
			}
			break
		}
	}
	near.Close()
	wg.Wait()
	if n := drafts.Load(); n != 0 {
		t.Errorf("%d drafts are left", n)
	}
	if n := handlers.Load(); n != 0 {
		t.Errorf("%d handlers are left", n)
	}
}

// sessionAlarm fails on a panic of the session; one of the handler is its own.
type sessionAlarm struct{ t *testing.T }

func (a sessionAlarm) Write(b []byte) (int, error) {
	if strings.Contains(string(b), "panicked") && !strings.Contains(string(b), "chosen by the fuzzer") {
		a.t.Errorf("%s", b)
	}
	return len(b), nil
}

// FuzzClient consults a milter that answers whatever the fuzzer wants. Every
// question has an answer in time, and what the edits make is still a message.
func FuzzClient(f *testing.F) {
	yes := unpack(wire.Append(nil, 'c'))
	edits := func() (b []byte) {
		b = wire.Header{Index: 0, Name: "X-A", Value: "1"}.AppendIndexed(b, 'i')
		b = wire.Header{Index: 1, Name: "Subject", Value: ""}.AppendIndexed(b, 'm')
		b = wire.Header{Index: 9, Name: "Subject", Value: "a\nb"}.AppendIndexed(b, 'm')
		b = wire.Header{Name: "X-B", Value: " 2"}.Append(b, 'h')
		b = wire.Envelope{Address: "<n@x.example>", Args: []string{"NOTIFY=NEVER"}}.Append(b, '2')
		b = wire.Envelope{Address: "<n@x.example>"}.Append(b, '+')
		b = wire.Envelope{Address: "<c@b.example>"}.Append(b, '-')
		b = wire.Envelope{Address: "<>"}.Append(b, 'e')
		b = wire.Append(b, 'b', []byte("new body"))
		b = wire.AppendText(b, 'q', "why")
		b = wire.Append(b, 'p')
		return wire.Append(b, 'c')
	}
	agreed := wire.Negotiation{Version: 6, Actions: wire.AllActions, Protocol: milter.OptHeaderLeadingSpace, Macros: map[milter.Stage][]string{milter.StageConnect: {"j"}}}
	seed := func(n wire.Negotiation, answers ...[]byte) {
		all := unpack(n.Append(nil))
		for _, a := range answers {
			all = append(all, a...)
		}
		f.Add(all)
	}
	many := func(n int) (b []byte) {
		for range n {
			b = append(b, yes...)
		}
		return b
	}
	seed(agreed, many(9), unpack(edits()), many(8), unpack(edits()))
	seed(agreed, many(4), unpack(wire.AppendText(nil, 'y', "550 5.7.1 100%% no")), many(9))
	seed(agreed, many(8), unpack(wire.Append(nil, 's')), many(3))
	agreed.Protocol = wire.AllProtocol &^ milter.OptRcptRej
	seed(agreed, unpack(edits()))
	agreed.Protocol = milter.OptNoHeaderReply | milter.OptNoBodyReply | milter.OptNoEOHReply | milter.OptSkip
	seed(agreed, many(5), unpack(edits()), unpack(wire.Append(nil, 'a')))
	seed(wire.Negotiation{Version: 2}, many(20))
	f.Fuzz(func(t *testing.T, data []byte) { consultOnce(t, packets(data)) })
}

// consultOnce holds two messages with a milter of these answers.
func consultOnce(t *testing.T, answers [][]byte) {
	near, far := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer far.Close()
		answerWith(far, answers)
	}()
	defer func() { near.Close(); <-done }()
	cfg := RemoteConfig{ClientConfig: DefaultClientConfig(), Hostname: "mx.example"}
	cfg.Socket, cfg.CommandTimeout, cfg.ContentTimeout, cfg.MaxEditBytes = "unix:/nonexistent", 5*time.Second, 5*time.Second, 10_000
	r, err := NewRemote(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	c := &Client{cfg: cfg.ClientConfig, conn: near, buf: bufio.NewReader(near), patience: cfg.CommandTimeout}
	c.in = wire.Reader{R: c.buf}
	if c.negotiate(t.Context(), offer) != nil {
		return
	}
	h := &remote{Remote: r, client: c}
	defer h.Close()
	start := time.Now()
	d := dialogueOf(2)
	d.header = append(d.header, mail.NewField("X-A", "0"))
	tx := &mail.Transaction{Session: &d.session}
	if v := h.ask(t.Context(), tx, milter.CodeConn, nil, func() (Answer, error) { return c.Connect(t.Context(), ConnectOf(&d.session)) }); v.Action >= mail.TempFail {
		return
	}
	for range 2 {
		d.talk(t.Context(), h)
		if d.tx.Message == nil {
			continue
		}
		env, m := mail.Apply(d.tx.Envelope, d.tx.Message, d.edits)
		again, _, err := mail.SplitHeader(append(m.Header.Bytes(), '\r', '\n'))
		if err != nil || len(again) != len(m.Header) {
			t.Errorf("%d fields became %d, %v:\n%q", len(m.Header), len(again), err, m.Header.Bytes())
		}
		for _, to := range append(env.Recipients, env.Sender) {
			if back, err := mail.ParseAddress(to.String(), true); err != nil || back != to.Address {
				t.Errorf("recipient %q: %v", to, err)
			}
		}
	}
	if took := time.Since(start); took > 4*time.Second {
		t.Errorf("it took %v", took)
	}
}

// answerWith plays the milter: an answer to each command that wants one, and
// all up to a final one at the end of a message.
func answerWith(c net.Conn, answers [][]byte) {
	in := wire.Reader{R: c}
	quiet := map[byte]milter.OptProtocol{
		'C': milter.OptNoConnReply, 'H': milter.OptNoHeloReply, 'M': milter.OptNoMailReply, 'R': milter.OptNoRcptReply,
		'T': milter.OptNoDataReply, 'L': milter.OptNoHeaderReply, 'N': milter.OptNoEOHReply, 'B': milter.OptNoBodyReply,
	}
	var agreed wire.Negotiation
	for len(answers) > 0 {
		p, err := in.Next()
		if err != nil {
			return
		}
		if p.Code == 'D' || p.Code == 'A' || agreed.Protocol&quiet[p.Code] != 0 {
			continue
		}
		if p.Code == 'O' {
			agreed, _ = wire.DecodeNegotiation(answers[0][5:])
		}
		for more := true; more && len(answers) > 0; answers = answers[1:] {
			code := answers[0][4]
			more = code == 'p' || p.Code == 'E' && strings.IndexByte("+-2behimq", code) >= 0
			if _, err := c.Write(answers[0]); err != nil {
				return
			}
		}
	}
}
