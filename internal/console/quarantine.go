package console

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// HeldVerb is what can be done with held messages.
type HeldVerb string

// The verbs.
const (
	HeldRelease HeldVerb = "release" // deliver to recipients that it is held for
	HeldDelete  HeldVerb = "delete"  // they never get it; nobody is told
	HeldLearn   HeldVerb = "learn"   // teach the spam filters
	HeldAllow   HeldVerb = "allow"   // its sender, for its recipients
	HeldBlock   HeldVerb = "block"   // the same, the other way
)

// HeldVerbs lists all of them.
func HeldVerbs() []HeldVerb {
	return []HeldVerb{HeldRelease, HeldDelete, HeldLearn, HeldAllow, HeldBlock}
}

// HeldRequest is for messages of the quarantine. What it is for is always
// named: no filter releases anything that nobody has seen in a list.
type HeldRequest struct {
	IDs []string `json:"ids"`
	// Recipients are those of the ones that a message is held for; none: all of
	// them that may be seen.
	Recipients []string `json:"recipients,omitempty"`
	// Approve is why a virus or a banned file is released, or what no filter
	// has judged. Only who may approve can say so.
	Approve string `json:"approve,omitempty"`
	// Lesson is what Learn teaches: spam or ham.
	Lesson string `json:"lesson,omitempty"`
	// For is how long a sender stays allowed or blocked; 0: as configured.
	For time.Duration `json:"for,omitempty"`
}

// HeldQueue does what the requests want. An address is one that the message is
// held for.
type HeldQueue interface {
	// ReleaseTo returns the ID that the message goes as.
	ReleaseTo(ctx context.Context, id string, to []mail.Address) (as string, err error)
	Withdraw(ctx context.Context, id string, of []mail.Address) error
	Learn(ctx context.Context, id, lesson string) error
	// List puts the sender of a message on the list of each of these.
	List(ctx context.Context, id string, of []mail.Address, allow bool, by string, ttl time.Duration) error
}

// mostHeld bounds one request.
const mostHeld = 1000

func (r *HeldRequest) validate(v HeldVerb) error {
	switch {
	case !slices.Contains(HeldVerbs(), v):
		return fmt.Errorf("console: quarantine: no action %q", string(v))
	case len(r.IDs) == 0 || len(r.IDs) > mostHeld:
		return fmt.Errorf("name 1 to %d messages", mostHeld)
	case v == HeldLearn && r.Lesson != "spam" && r.Lesson != "ham":
		return fmt.Errorf("lesson %q: want spam or ham", r.Lesson)
	case v != HeldLearn && r.Lesson != "":
		return errors.New("a lesson belongs to learn")
	case r.For < 0:
		return errors.New("for: is negative")
	}
	return nil
}

// ApplyHeld does something with messages of the quarantine, in the name of who the
// context says. One that fails does not keep the others.
func ApplyHeld(ctx context.Context, q Queue, h HeldQueue, v HeldVerb, req HeldRequest) (Result, error) {
	if err := req.validate(v); err != nil {
		return Result{}, err
	}
	r := Result{Chosen: len(req.IDs)}
	for _, id := range req.IDs {
		if err := ctx.Err(); err != nil {
			return r, fmt.Errorf("console: %s: stopped after %d messages: %w", v, r.Done, err)
		}
		if err := actHeld(ctx, q, h, v, &req, id); err != nil {
			r.fail(err)
			continue
		}
		r.Done++
	}
	return r, nil
}

func actHeld(ctx context.Context, q Queue, h HeldQueue, v HeldVerb, req *HeldRequest, id string) error {
	if !mail.ValidID(id) {
		return badID(id)
	}
	m, err := q.Show(id)
	if err != nil {
		return err
	}
	who := IdentityOf(ctx)
	m, ok := m.seenBy(who)
	if !ok {
		return fmt.Errorf("message %s: %w", id, spool.ErrNotFound)
	}
	if m.Lane != Held {
		return fmt.Errorf("message %s is not held", id)
	}
	to, err := req.recipientsOf(m)
	if err != nil {
		return err
	}
	switch v {
	case HeldRelease:
		if err := req.mayGo(m, who); err != nil {
			return err
		}
		_, err = h.ReleaseTo(ctx, id, to)
	case HeldDelete:
		err = h.Withdraw(ctx, id, to)
	case HeldLearn:
		err = h.Learn(ctx, id, req.Lesson)
	default:
		err = h.List(ctx, id, to, v == HeldAllow, cmp.Or(who.Name, "somebody"), req.For)
	}
	return err
}

// recipientsOf are those that a request means, of the ones that the message is
// held for and that may be seen. Others are none of its business, whoever asks.
func (r *HeldRequest) recipientsOf(m Message) (list []mail.Address, err error) {
	for _, rcpt := range m.Recipients {
		a, err := mail.ParseAddress(rcpt.Address, true)
		if err != nil {
			return nil, fmt.Errorf("message %s: recipient %q: %w", m.ID, rcpt.Address, err)
		}
		list = append(list, a)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("message %s is held for nobody any more", m.ID)
	}
	if len(r.Recipients) == 0 {
		return list, nil
	}
	named := make([]mail.Address, 0, len(r.Recipients))
	for _, text := range r.Recipients {
		a, err := mail.ParseAddress(text, true)
		if err != nil {
			return nil, fmt.Errorf("recipient %q: %w", text, err)
		}
		at := slices.IndexFunc(list, a.Same)
		if at < 0 {
			return nil, fmt.Errorf("message %s is not held for %s", m.ID, text)
		}
		named = append(named, list[at])
	}
	return named, nil
}

// mayGo says why somebody may not release a message.
func (r *HeldRequest) mayGo(m Message, who Identity) error {
	why := ""
	switch {
	case m.Unscanned != "":
		why = "waits for the judgement of " + m.Unscanned
	case m.Kind == mail.HeldVirus:
		why = "is held for a virus"
	case m.Kind == mail.HeldAttachment:
		why = "is held for a banned file"
	default:
		return nil
	}
	switch {
	case !who.Role.May(ApproveHeld):
		return fmt.Errorf("message %s %s: somebody must release it who may approve that", m.ID, why)
	case r.Approve == "":
		return fmt.Errorf("message %s %s: release it with an approval that says why", m.ID, why)
	}
	return nil
}

func (c *Control) handleQuarantine() {
	c.route("POST /v1/quarantine/list", ViewMail, func(w http.ResponseWriter, r *http.Request) {
		var f Filter
		if !decode(w, r, &f) {
			return
		}
		f.Lanes = []string{Held}
		if err := f.Validate(); err != nil {
			answer(w, http.StatusBadRequest, failure{err.Error()})
			return
		}
		c.stream(w, r, f)
	})
	if c.deps.Held == nil {
		return
	}
	for _, v := range HeldVerbs() {
		c.route("POST /v1/quarantine/"+string(v), ActHeld, func(w http.ResponseWriter, r *http.Request) { c.actHeld(w, r, v) })
	}
}

func (c *Control) actHeld(w http.ResponseWriter, r *http.Request, v HeldVerb) {
	var req HeldRequest
	if !decode(w, r, &req) {
		return
	}
	if err := req.validate(v); err != nil {
		answer(w, http.StatusBadRequest, failure{err.Error()})
		return
	}
	n := noteOf(r.Context())
	n.ids = req.IDs
	what := req
	what.IDs = nil
	n.about(what)
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(10 * time.Minute))
	result, err := ApplyHeld(r.Context(), c.deps.Queue, c.deps.Held, v, req)
	if err != nil { // the client is gone
		n.failed = true
		refuse(w, err)
		return
	}
	n.outcome(result)
	answer(w, http.StatusOK, result)
}

// ListHeld calls yield with each held message that f chooses.
func (c *Client) ListHeld(ctx context.Context, f Filter, yield func(Message) error) error {
	return c.stream(ctx, "quarantine/list", f, yield)
}

// ApplyHeld does something with held messages.
func (c *Client) ApplyHeld(ctx context.Context, v HeldVerb, req HeldRequest) (r Result, err error) {
	err = c.call(ctx, http.MethodPost, "quarantine/"+string(v), req, &r)
	return r, err
}
