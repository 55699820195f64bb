package console

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"gatepost/internal/console/audit"
	"gatepost/internal/history"
	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// Status is what a running gateway says of itself.
type Status struct {
	Version   string         `json:"version"`
	Hostname  string         `json:"hostname"`
	Config    string         `json:"config"`
	PID       int            `json:"pid"`
	Started   time.Time      `json:"started"`
	Reloaded  time.Time      `json:"reloaded"`
	NotReady  string         `json:"not_ready,omitempty"`
	Listeners []Listener     `json:"listeners"`
	Queue     map[string]int `json:"queue"` // messages by state
	State     StoreStatus    `json:"state"`
	Daemons   []Daemon       `json:"daemons"` // behind filters, those that tell their version
}

// Daemon is a scanner behind a filter.
type Daemon struct {
	Filter     string     `json:"filter"`
	Version    string     `json:"version,omitempty"`    // "": it has not answered yet
	Signatures *time.Time `json:"signatures,omitempty"` // when they were made; nil: it doesn't say
	Late       bool       `json:"late,omitempty"`       // they are older than they may be
}

// Listener is one that is open.
type Listener struct {
	Name    string `json:"name"`
	Address string `json:"address"`
}

// ControlDeps is what the control API acts on.
type ControlDeps struct {
	Queue Queue
	Held  HeldQueue // nil: nobody acts on the quarantine
	// Digests tell recipients of the quarantine; nil: there are none.
	Digests Digests
	State   Store // nil: there is none to look at
	// History finds what was recorded; nil: nothing is.
	History history.Finder
	Status  func() Status
	Reload  func(context.Context) error
	// RuleHits counts what policy rules matched; nil: nobody counts.
	RuleHits func() []RuleHit
	// RuleBook changes the rules; nil: nobody can.
	RuleBook RuleBook
	// Health, Settings and Users tell of the parts, the configuration in use,
	// and who may log in; nil: nobody knows.
	Health   func() Health
	Settings func() []Setting
	Users    func() []User
	// Scan judges a message that is not there to stay; nil: nobody can.
	Scan func(context.Context, ScanRequest) (history.Record, error)
	// Feed shows what happens now; nil: nobody can look on.
	Feed *Feed
	// Audit keeps who did what; nil: nothing is kept.
	Audit *audit.Log
	Log   *slog.Logger
}

// Control is the control API: JSON over HTTP on a unix socket that only root
// and our own user may use.
type Control struct {
	deps     ControlDeps
	path     string
	mux      *http.ServeMux
	routes   []Route
	listener net.Listener
	server   *http.Server
	ending   chan struct{} // closed when Run ends: requests without an end of their own stop
}

// NewControl makes the API for a socket at path; Listen opens it.
func NewControl(path string, deps ControlDeps) *Control {
	c := &Control{deps: deps, path: path, mux: http.NewServeMux(), ending: make(chan struct{})}
	c.route("GET /v1/status", ViewMail, c.status)
	c.route("GET /v1/queue", ViewMail, c.all)
	c.route("POST /v1/queue/list", ViewMail, c.list)
	c.route("POST /v1/queue/shape", ViewSystem, c.shape)
	c.route("GET /v1/queue/{id}", ViewMail, c.show)
	c.route("GET /v1/queue/{id}/content", ViewContent, c.content)
	c.route("POST /v1/queue/{action}", ActQueue, c.act)
	c.route("POST /v1/reload", AdministerIt, c.reload)
	c.handleQuarantine()
	c.handleDigests()
	c.handleState()
	c.handleHistory()
	c.handleRules()
	c.handleRuleBook()
	c.handleSystem()
	c.handleAudit()
	c.handleScan()
	c.handleLive()
	c.handleOpenAPI()
	c.server = newServer(asRoot(c.mux), deps.Log)
	// A large message or a long list may go to a slow terminal.
	c.server.WriteTimeout = 10 * time.Minute
	return c
}

// Listen opens the socket. One that a dead process left behind is replaced.
func (c *Control) Listen() error {
	l, err := listenUnix(c.path)
	if err != nil {
		return fmt.Errorf("console: control socket: %w", err)
	}
	c.listener = l
	return nil
}

// Run serves until ctx ends, then gives running requests a few seconds.
func (c *Control) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, sync.OnceFunc(func() { close(c.ending) }))
	defer stop()
	if err := serve(ctx, c.server, c.listener); err != nil {
		return fmt.Errorf("console: control socket: %w", err)
	}
	return nil
}

func (c *Control) status(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, c.deps.Status())
}

func (c *Control) all(w http.ResponseWriter, r *http.Request) { c.stream(w, r, Filter{}) }

func (c *Control) list(w http.ResponseWriter, r *http.Request) {
	var f Filter
	if !decode(w, r, &f) {
		return
	}
	if err := f.Validate(); err != nil {
		answer(w, http.StatusBadRequest, failure{err.Error()})
		return
	}
	c.stream(w, r, f)
}

// stream writes one JSON object a line: the queue may be long.
func (c *Control) stream(w http.ResponseWriter, r *http.Request, f Filter) {
	id := IdentityOf(r.Context())
	w.Header().Set("Content-Type", jsonLines)
	if f.Recipient != "" && !id.SeesRecipient(asAddress(f.Recipient)) {
		return // or it would tell who else got a message
	}
	out := bufio.NewWriterSize(w, streamBuffer)
	enc := json.NewEncoder(out)
	for m := range c.deps.Queue.List(f) {
		m, ok := m.seenBy(id)
		if ok && enc.Encode(m) != nil {
			return // the client is gone
		}
	}
	_ = out.Flush()
}

// streamBuffer keeps a long answer from being sent in crumbs.
const streamBuffer = 64 << 10

const jsonLines = "application/jsonl"

func (c *Control) shape(w http.ResponseWriter, r *http.Request) {
	var req ShapeRequest
	if !decode(w, r, &req) {
		return
	}
	s, err := MeasureShape(c.deps.Queue, req, time.Now())
	if err != nil {
		answer(w, http.StatusBadRequest, failure{err.Error()})
		return
	}
	answer(w, http.StatusOK, s)
}

func (c *Control) show(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if !mail.ValidID(id) {
		refuse(w, badID(id))
		return
	}
	m, err := c.deps.Queue.Show(id)
	if err != nil {
		refuse(w, err)
		return
	}
	who := IdentityOf(r.Context())
	m, ok := m.seenBy(who)
	if !ok {
		refuse(w, spool.ErrNotFound)
		return
	}
	if !who.Role.May(ViewContent) {
		m.Header = ""
	}
	answer(w, http.StatusOK, m)
}

func (c *Control) content(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if !mail.ValidID(id) {
		refuse(w, badID(id))
		return
	}
	if !c.maySee(w, r, id) {
		return
	}
	body := &lateBody{w: w}
	if err := c.deps.Queue.WriteContent(id, body); err != nil {
		if !body.begun {
			refuse(w, err)
			return
		}
		// The status is sent: only a cut connection tells the client that
		// this was not all.
		panic(http.ErrAbortHandler)
	}
}

// maySee answers those who may not know of a message as if there were none.
func (c *Control) maySee(w http.ResponseWriter, r *http.Request, id string) bool {
	who := IdentityOf(r.Context())
	if who.SeesAll() {
		return true
	}
	m, err := c.deps.Queue.Show(id)
	if err == nil && !who.Sees(m.people()...) {
		err = spool.ErrNotFound
	}
	if err != nil {
		refuse(w, err)
	}
	return err == nil
}

// lateBody sends the header of the answer with the first byte of the content:
// until then it can still be a refusal.
type lateBody struct {
	w     http.ResponseWriter
	begun bool
}

func (b *lateBody) Write(p []byte) (int, error) {
	if !b.begun {
		b.begun = true
		b.w.Header().Set("Content-Type", "message/rfc822")
		b.w.Header().Set("X-Content-Type-Options", "nosniff")
	}
	return b.w.Write(p)
}

// maxRequest is room for a million IDs.
const maxRequest = 32 << 20

// decode reads a request; one that is no good is answered here.
func decode(w http.ResponseWriter, r *http.Request, into any) bool {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		answer(w, http.StatusBadRequest, failure{err.Error()})
		return false
	}
	return true
}

// actionLine is one line of the answer to an action: in a dry run the messages
// that are chosen, and at the end what became of it.
type actionLine struct {
	Message *Message `json:"message,omitempty"`
	Result  *Result  `json:"result,omitempty"`
	Error   string   `json:"error,omitempty"`
}

func (c *Control) act(w http.ResponseWriter, r *http.Request) {
	action := Action(r.PathValue("action"))
	if err := action.Validate(); err != nil {
		answer(w, http.StatusNotFound, failure{err.Error()})
		return
	}
	var req Request
	if !decode(w, r, &req) {
		return
	}
	if err := req.validate(action); err != nil {
		answer(w, http.StatusBadRequest, failure{err.Error()})
		return
	}
	n := noteOf(r.Context())
	n.none, n.ids = req.DryRun, req.IDs
	if what := req; len(what.IDs) > 0 || !what.Filter.IsZero() || what.All {
		what.IDs = nil
		n.about(what)
	}
	// A large action takes its time, and ends when the client goes.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{})
	out := bufio.NewWriterSize(w, streamBuffer)
	defer out.Flush()
	enc := json.NewEncoder(out)
	result, err := Apply(r.Context(), c.deps.Queue, action, req, func(m Message) error {
		w.Header().Set("Content-Type", jsonLines)
		return enc.Encode(actionLine{Message: &m})
	})
	switch {
	case errors.Is(err, ErrTooMany):
		answer(w, http.StatusConflict, failure{err.Error()})
	case err != nil: // the client is gone
		n.failed = true
		_ = enc.Encode(actionLine{Error: err.Error()})
	default:
		w.Header().Set("Content-Type", jsonLines)
		_ = enc.Encode(actionLine{Result: &result})
		n.outcome(result)
	}
}

func (c *Control) reload(w http.ResponseWriter, r *http.Request) {
	if err := c.deps.Reload(r.Context()); err != nil {
		answer(w, http.StatusUnprocessableEntity, failure{err.Error()})
		return
	}
	answer(w, http.StatusOK, struct{}{})
}

var errBadID = errors.New("not a message ID")

func badID(id string) error { return fmt.Errorf("%q is %w", id, errBadID) }

// failure is the answer to what could not be done.
type failure struct {
	Error string `json:"error"`
}

func refuse(w http.ResponseWriter, err error) {
	code := http.StatusInternalServerError
	switch {
	case errors.Is(err, errBadID):
		code = http.StatusBadRequest
	case errors.Is(err, spool.ErrNotFound):
		code = http.StatusNotFound
	}
	answer(w, code, failure{err.Error()})
}

func answer(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}
