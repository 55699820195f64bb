package milter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"gatepost/internal/mail"
	"gatepost/milter/wire"

	"github.com/emersion/go-milter"
)

// OnError is what a milter's failure means for the mail that it was to judge.
type OnError string

// The failure policies.
const (
	OnErrorTempFail OnError = "tempfail" // 451: the client tries again
	OnErrorContinue OnError = "continue" // the mail passes unjudged
)

// Validate reports a policy that there is not.
func (o OnError) Validate() error {
	switch o {
	case "", OnErrorTempFail, OnErrorContinue:
		return nil
	}
	return fmt.Errorf("%q: want tempfail or continue", string(o))
}

// RemoteConfig is a milter that we consult as an MTA does.
type RemoteConfig struct {
	ClientConfig
	Hostname string  // ours: the macro j
	OnError  OnError // default: tempfail
}

// Remote is a milter in the place of our own filters: its handlers ask it at
// every stage and do what Postfix would do with its answers.
type Remote struct {
	cfg RemoteConfig
	log *slog.Logger

	mu   sync.Mutex
	down time.Time // until then nobody tries to connect
}

// NewRemote checks the configuration. It connects to nothing.
func NewRemote(cfg RemoteConfig, log *slog.Logger) (*Remote, error) {
	if _, _, err := ParseSocket(cfg.Socket); err != nil {
		return nil, err
	}
	if err := cfg.OnError.Validate(); err != nil {
		return nil, err
	}
	return &Remote{cfg: cfg, log: log.With("milter", cfg.Socket)}, nil
}

// Handler returns a handler for one connection.
func (r *Remote) Handler() mail.Handler { return &remote{Remote: r} }

// offer is all that Postfix offers, but for the recipients that were refused
// already: nobody is asked about those.
var offer = wire.Negotiation{Version: wire.MaxVersion, Actions: wire.AllActions, Protocol: wire.AllProtocol &^ milter.OptRcptRej}

// pause is how long a milter that could not be reached is left alone, so that
// it costs one message a timeout and not each.
const pause = 5 * time.Second

var errDown = errors.New("could not be reached a moment ago")

func (r *Remote) dial(ctx context.Context) (*Client, error) {
	r.mu.Lock()
	down := time.Now().Before(r.down)
	r.mu.Unlock()
	if down {
		return nil, errDown
	}
	c, err := Dial(ctx, r.cfg.ClientConfig, offer)
	if err != nil && ctx.Err() == nil {
		r.mu.Lock()
		r.down = time.Now().Add(pause)
		r.mu.Unlock()
	}
	return c, err
}

// remote is the milter for one connection. After ACCEPT it is not asked any
// more, after a failure it is tried again with the next message.
type remote struct {
	*Remote
	client    *Client
	content   bool // MAIL was told, and its end not yet
	satisfied bool // with this message
	trusts    bool // with the whole session
}

func (r *remote) Connect(ctx context.Context, tx *mail.Transaction) mail.Verdict {
	if err := r.open(ctx); err != nil {
		return r.failed(tx, err)
	}
	return r.ask(ctx, tx, milter.CodeConn, nil, func() (Answer, error) { return r.client.Connect(ctx, ConnectOf(tx.Session)) })
}

func (r *remote) open(ctx context.Context) (err error) {
	r.client, err = r.dial(ctx)
	return err
}

func (r *remote) Helo(ctx context.Context, tx *mail.Transaction) mail.Verdict {
	return r.ask(ctx, tx, milter.CodeHelo, nil, func() (Answer, error) { return r.client.Helo(ctx, tx.Session.Helo) })
}

func (r *remote) Mail(ctx context.Context, tx *mail.Transaction) mail.Verdict {
	r.satisfied = false
	if r.client == nil && !r.trusts {
		if v, ok := r.again(ctx, tx); !ok {
			return v
		}
	}
	r.content = true
	return r.ask(ctx, tx, milter.CodeMail, nil, func() (Answer, error) { return r.client.Mail(ctx, envelopeOf(tx.Envelope.Sender)) })
}

// again connects after a failure and tells what the milter has missed. A client
// that it refuses now is refused at this message.
func (r *remote) again(ctx context.Context, tx *mail.Transaction) (v mail.Verdict, ok bool) {
	early := *tx
	defer func() { tx.Findings = early.Findings }()
	early.Stage = mail.StageConnect
	if v = r.Connect(ctx, &early); v.Action < mail.TempFail && r.client != nil {
		early.Stage = mail.StageHelo
		v = r.Helo(ctx, &early)
	}
	if v.Action >= mail.TempFail {
		r.drop() // so that the next message is refused, too
	}
	return v, r.client != nil
}

func (r *remote) Rcpt(ctx context.Context, tx *mail.Transaction, rcpt mail.Path) mail.Verdict {
	return r.ask(ctx, tx, milter.CodeRcpt, &rcpt, func() (Answer, error) { return r.client.Rcpt(ctx, envelopeOf(rcpt)) })
}

func (r *remote) Data(ctx context.Context, tx *mail.Transaction) mail.Verdict {
	return r.ask(ctx, tx, milter.CodeData, nil, func() (Answer, error) { return r.client.Data(ctx) })
}

// Unknown tells the milter of a command that nobody knows. Whatever it says, it
// says it of the command alone.
func (r *remote) Unknown(ctx context.Context, tx *mail.Transaction, command string) mail.Verdict {
	if r.silent() {
		return mail.Verdict{}
	}
	a, err := r.client.Unknown(ctx, command)
	if err != nil {
		r.failed(tx, err)
		return mail.Verdict{}
	}
	satisfied, trusts := r.satisfied, r.trusts
	v := r.heard(tx, a)
	r.satisfied, r.trusts = satisfied, trusts
	if v.Action < mail.TempFail {
		return mail.Verdict{}
	}
	return v
}

// silent reports whether there is nothing to ask. A message whose beginning the
// milter didn't see, as it failed then, is not shown to it: what its failure
// means was said.
func (r *remote) silent() bool { return r.client == nil || r.satisfied || r.trusts }

// ask sends a command with its macros and does what the answer says.
func (r *remote) ask(ctx context.Context, tx *mail.Transaction, at milter.Code, rcpt *mail.Path, command func() (Answer, error)) mail.Verdict {
	if r.silent() {
		return r.absent()
	}
	r.client.Macros(r.macros(at, tx, rcpt))
	a, err := command()
	if err != nil {
		return r.failed(tx, err)
	}
	return r.heard(tx, a)
}

func (r *remote) macros(at milter.Code, tx *mail.Transaction, rcpt *mail.Path) wire.Macros {
	return MacrosFor(at, r.client.Agreed().Macros, r.cfg.Hostname, tx, rcpt)
}

// absent is the answer while there is no milter: with tempfail there is no
// message for it to judge, since MAIL was put off.
func (r *remote) absent() mail.Verdict {
	if r.client == nil && !r.trusts && r.cfg.OnError != OnErrorContinue {
		return r.unavailable("the milter failed")
	}
	return mail.Verdict{}
}

func (r *remote) unavailable(why string) mail.Verdict {
	return mail.Verdict{
		Action: mail.TempFail, Reason: why,
		Reply: mail.Reply{Code: 451, Detail: "7.1", Text: "Service unavailable - try again later"},
	}
}

// failed drops the connection and says what that means for the mail.
func (r *remote) failed(tx *mail.Transaction, err error) mail.Verdict {
	r.drop()
	r.content = false
	if !errors.Is(err, errDown) {
		r.log.Warn("milter failed", "id", tx.ID, "stage", tx.Stage.String(), "on_error", string(r.cfg.OnError), "err", err)
	}
	tx.Findings = append(tx.Findings, mail.Finding{Filter: "handler", Name: mail.FindingFailed, Value: string(r.cfg.OnError), Text: err.Error()})
	if r.cfg.OnError == OnErrorContinue {
		return mail.Verdict{Reason: "not judged: the milter failed"}
	}
	return r.unavailable("the milter failed")
}

// heard turns an answer into a verdict. ACCEPT, a refusal and DISCARD end the
// milter's interest: for this recipient, this message, or the session.
func (r *remote) heard(tx *mail.Transaction, a Answer) mail.Verdict {
	early := tx.Stage == mail.StageConnect || tx.Stage == mail.StageHelo
	v := mail.Verdict{Reply: a.Reply}
	switch byte(a.Code) {
	case byte(milter.ActAccept):
		r.trusts, r.satisfied = early, true
		return v
	case byte(milter.ActReject):
		v.Action = mail.Reject
	case byte(milter.ActTempFail):
		v.Action = mail.TempFail
	case byte(milter.ActDiscard):
		if early { // Postfix ignores it; there is no message
			return v
		}
		v.Action = mail.Discard
	case byte(milter.ActReplyCode):
		if v.Action = mail.Reject; a.Reply.Code < 500 {
			v.Action = mail.TempFail
		}
	case codeShutdown:
		v.Action = mail.TempFail
		v.Reply = mail.Reply{Code: 421, Detail: "7.1", Text: "Service unavailable - try again later"}
	case codeConnFail:
		return r.failed(tx, errors.New("it says that its connection failed"))
	default: // continue, skip
		return v
	}
	v.Reason = "the milter said so"
	if tx.Stage != mail.StageRcpt || v.Action == mail.Discard {
		r.satisfied = true
	}
	return v
}

// Abort ends a message that the milter has not seen the end of, nor ended.
func (r *remote) Abort(*mail.Transaction) {
	if r.content && !r.silent() {
		if err := r.client.Abort(context.Background()); err != nil { // bounded by the command timeout
			r.drop()
		}
	}
	r.content, r.satisfied = false, false
}

// Close ends the session.
func (r *remote) Close() { r.drop() }

func (r *remote) drop() {
	if r.client != nil {
		_ = r.client.Close()
		r.client = nil
	}
}
