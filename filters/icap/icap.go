package icap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"gatepost/filters"
	"gatepost/internal/mail"
	"gatepost/internal/mime"
)

const name = "icap"

// FindingSuspicious is what the scanner objects to that is no infection. Value:
// its name for it.
const FindingSuspicious = "suspicious"

// Filter asks an ICAP server.
type Filter struct {
	cfg      Config
	backends *filters.Backends
	idle     idle

	mu      sync.Mutex
	service options // what the server said of itself last
}

// New checks the configuration. It does no I/O.
func New(cfg Config) (*Filter, error) {
	cfg = cfg.withDefaults()
	backends, err := filters.ParseBackends(cfg.Address, "tcp", "unix", "tls")
	if err := errors.Join(err, cfg.Validate()); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &Filter{cfg: cfg, backends: backends, idle: idle{limit: cfg.MaxConcurrent}}, nil
}

// Step puts the filter into its place, with the limits of its configuration.
func (f *Filter) Step() filters.Step {
	return filters.Step{
		Name:          name,
		Filter:        f,
		Stages:        []mail.Stage{mail.StageMessage},
		Timeout:       f.cfg.Timeout,
		OnError:       f.cfg.OnError,
		MaxConcurrent: f.cfg.MaxConcurrent,
	}
}

// Run keeps connections for further messages until ctx ends.
func (f *Filter) Run(ctx context.Context) error {
	f.idle.open()
	defer f.idle.close()
	<-ctx.Done()
	return nil
}

// Ping asks the server for its options.
func (f *Filter) Ping(ctx context.Context) error {
	err := f.backends.Do(ctx, func(c net.Conn) error {
		f.forget()
		_, err := f.options(newConn(c))
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: ping: %w", name, err)
	}
	return nil
}

// Check scans the message, then its parts.
func (f *Filter) Check(ctx context.Context, tx *mail.Transaction) (filters.Report, error) {
	if size := int64(len(mailMark)) + tx.Message.Size(); size > f.cfg.MaxSize {
		return report(verdict{result: unseen, name: "too large", text: fmt.Sprintf("%d bytes, max_size is %d", size, f.cfg.MaxSize)}), nil
	}
	ctx, cancel := context.WithTimeout(ctx, f.cfg.Timeout)
	defer cancel()
	v, err := f.scan(ctx, whole(tx.Message))
	if err == nil && v.result == clean && !isPlain(tx) {
		v, err = f.parts(ctx, tx.Message)
	}
	if err != nil {
		return filters.Report{}, fmt.Errorf("%s: %w", name, err)
	}
	return report(v), nil
}

// mailMark makes scanners that look at the first bytes see mail.
const mailMark = "Received: from gatepost\r\n"

func whole(m *mail.Message) object {
	return object{kind: "message/rfc822", open: func() io.Reader { return io.MultiReader(strings.NewReader(mailMark), m.Reader()) }}
}

// isPlain reports that there is nothing in the message but what was sent.
func isPlain(tx *mail.Transaction) bool {
	in := tx.Inside
	return in != nil && len(in.Unseen) == 0 && len(in.Ambiguous) == 0 && (len(in.Parts) == 0 ||
		len(in.Parts) == 1 && in.Parts[0].Size == tx.Message.BodySize() && in.Parts[0].Archive == "")
}

// errGone is that the server told its options and closed the connection.
var errGone = errors.New("the server closed the connection behind its options")

// beyond are the limits of taking apart: over them the scanner has not seen all
// that a mail program could show. What archives did not show is its own affair,
// it opens them itself; a message whose content is elsewhere is one for rules.
var beyond = [...]string{
	mime.OverDepth, mime.OverParts, mime.OverDecoded, mime.OverTime, mime.OverWork, mime.OverHeader, mime.OverReadings, mime.SignedInside, mime.Unreadable,
}

// errFound ends a walk.
var errFound = errors.New("found")

// parts scans what can be read in the message besides the whole of it.
func (f *Filter) parts(ctx context.Context, m *mail.Message) (verdict, error) {
	found := verdict{result: clean}
	var failed error
	limits := f.cfg.Inside
	limits.Time = f.cfg.Timeout
	inside := mime.Walk(ctx, m, limits, func(p mail.Part, content io.Reader) error {
		var v verdict
		if v, failed = f.scan(ctx, part(content)); failed != nil {
			return failed
		}
		if v.result != clean {
			found = v
			found.text = strings.TrimSpace(found.text + " in part " + mail.CleanText(p.Path))
			return errFound
		}
		return nil
	})
	switch {
	case failed != nil:
		return verdict{}, failed
	case ctx.Err() != nil:
		return verdict{}, ctx.Err()
	case found.result != clean:
		return found, nil
	}
	for _, u := range inside.Unseen {
		if slices.Contains(beyond[:], u) {
			return verdict{result: unseen, name: "limit of " + u, text: "a part was not taken out of the message"}, nil
		}
	}
	return found, nil
}

// inMemory is the size up to which a part can be sent again on another
// connection.
const inMemory = 1 << 20

// part is what can be read of a part: that it could not be read to its end, the
// walk tells.
func part(content io.Reader) object {
	content = readable{content}
	head, _ := io.ReadAll(io.LimitReader(content, inMemory)) // which never fails
	o := object{kind: "application/octet-stream", once: len(head) == inMemory}
	o.open = func() io.Reader {
		if !o.once {
			return bytes.NewReader(head)
		}
		return io.MultiReader(bytes.NewReader(head), content)
	}
	return o
}

// readable ends where its content can't be read any more.
type readable struct{ io.Reader }

func (r readable) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil {
		err = io.EOF
	}
	return n, err
}

// report turns the result into a finding.
func report(v verdict) filters.Report {
	f := mail.Finding{Value: v.name, Text: v.text}
	switch v.result {
	case clean:
		f.Name = mail.FindingClean
	case infected:
		f.Name = mail.FindingVirus
	case violation:
		f.Name = FindingSuspicious
	default:
		f.Name = mail.FindingNotScanned
	}
	return filters.Report{Findings: []mail.Finding{f}}
}

// scan sends one object, over a connection that is open already if there is
// one. That may have been closed by the server a moment ago: then, and only
// when nothing was answered on it, another is made.
func (f *Filter) scan(ctx context.Context, o object) (verdict, error) {
	if !o.once {
		if c := f.idle.take(); c != nil {
			v, err := f.over(ctx, c, o)
			if !errors.Is(err, errStale) || ctx.Err() != nil {
				return v, err
			}
		}
	}
	v, err := f.anew(ctx, o)
	if errors.Is(err, errGone) || errors.Is(err, errStale) && !o.once {
		v, err = f.anew(ctx, o)
	}
	return v, err
}

// anew scans over a new connection.
func (f *Filter) anew(ctx context.Context, o object) (verdict, error) {
	var v verdict
	var kept *conn
	err := f.backends.DoKeeping(ctx, func(nc net.Conn) (keep bool, err error) {
		c := newConn(nc)
		if v, err = f.exchange(c, o); err != nil {
			return false, err
		}
		kept = c
		return c.keep && f.idle.wanted(), nil
	})
	if err == nil && kept.keep {
		f.idle.put(kept)
	}
	return v, err
}

// over scans on a connection that was used before.
func (f *Filter) over(ctx context.Context, c *conn, o object) (v verdict, err error) {
	err = filters.Exchange(ctx, c.Conn, func(net.Conn) (keep bool, err error) {
		v, err = f.exchange(c, o)
		return c.keep && f.idle.wanted(), err
	})
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	if err == nil && c.keep {
		f.idle.put(c)
	}
	return v, err
}

// exchange asks for options, where they are not known, and sends the object.
func (f *Filter) exchange(c *conn, o object) (verdict, error) {
	opts, err := f.options(c)
	switch {
	case err != nil:
		return verdict{}, err
	case c.gone:
		return verdict{}, errGone
	}
	v, tag, err := f.modify(c, opts, o)
	if err == nil && tag != opts.tag {
		f.forget() // another version of the service: it may want something else
	}
	return v, err
}

// options returns what the server said of its service.
func (f *Filter) options(c *conn) (options, error) {
	f.mu.Lock()
	known := f.service
	f.mu.Unlock()
	if time.Now().Before(known.until) {
		return known, nil
	}
	fresh, err := f.askOptions(c)
	if err != nil {
		return options{}, err
	}
	f.mu.Lock()
	f.service = fresh
	f.mu.Unlock()
	return fresh, nil
}

func (f *Filter) forget() {
	f.mu.Lock()
	f.service.until = time.Time{}
	f.mu.Unlock()
}

// Version is the tag of the scanner and its signatures, as the server told it
// last; "" when it was not asked yet.
func (f *Filter) Version() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.service.tag
}
