package spool

import (
	"fmt"
	"math"
	"time"

	"gatepost/internal/mail"
)

// What the meta part of a record says.

// content is the meta part of a content record: one entry, or several that
// share a body. The data part holds their headers, one behind the other, and
// the body where it is small.
type content struct {
	entries []Entry // without Header
	headers []int   // length of each header
	body    int64   // length of the body
	large   largeRef
}

// largeRef is the place of a body in a file of its own; the zero value is none.
// The sum is that of the whole file: nobody knew where the body begins while
// the file was written.
type largeRef struct {
	name string
	size int64
	from int64 // offset of the body
	sum  uint32
}

func (c *content) size(i int) int64 { return int64(c.headers[i]) + int64(len(crlf)) + c.body }

// dataSize is the length of the data part.
func (c *content) dataSize() int64 {
	var n int64
	for _, h := range c.headers {
		n += int64(h)
	}
	if c.large.name == "" {
		n += c.body
	}
	return n
}

func (c *content) find(id string) int {
	for i := range c.entries {
		if c.entries[i].ID == id {
			return i
		}
	}
	return -1
}

func (c *content) encode(b []byte) []byte {
	e := encoder{b}
	e.uint(uint64(len(c.entries)))
	for i := range c.entries {
		e.entry(&c.entries[i])
		e.uint(uint64(c.headers[i]))
	}
	e.uint(uint64(c.body))
	e.str(c.large.name)
	if c.large.name != "" {
		e.uint(uint64(c.large.size))
		e.uint(uint64(c.large.from))
		e.uint(uint64(c.large.sum))
	}
	return e.b
}

func decodeContent(version uint8, meta []byte) (*content, error) {
	d := decoder{b: meta}
	c := &content{}
	for n := d.length(); n > 0 && d.err == nil; n-- {
		c.entries = append(c.entries, d.entry(version))
		c.headers = append(c.headers, d.small(maxData))
	}
	c.body = d.size()
	if c.large.name = d.str(); c.large.name != "" {
		c.large.size = d.size()
		c.large.from = d.size()
		c.large.sum = d.sum()
		if !validID(c.large.name) || c.large.size-c.large.from != c.body {
			d.fail(errValue)
		}
	} else if c.body > maxData {
		d.fail(errValue)
	}
	if err := d.end(); err != nil {
		return nil, fmt.Errorf("content record: %w", err)
	}
	if len(c.entries) == 0 {
		return nil, fmt.Errorf("content record: %w", errShort)
	}
	return c, nil
}

func (d *decoder) sum() uint32 {
	v := d.uint()
	if v > math.MaxUint32 {
		d.fail(errValue)
	}
	return uint32(v)
}

func (e *encoder) entry(m *Entry) {
	e.str(m.ID)
	e.str(m.Group)
	e.time(m.Received)
	e.str(string(m.Origin))
	e.path(m.Envelope.Sender)
	e.uint(uint64(len(m.Envelope.Recipients)))
	for _, r := range m.Envelope.Recipients {
		e.path(r)
	}
	e.uint(uint64(m.Body))
	e.state(m.State)
	e.str(m.Reason)
	e.str(m.Client)
	e.str(m.Listener)
	e.str(m.Helo)
	e.str(m.Subject)
	e.float(m.Score)
	e.tagged(m)
}

func (d *decoder) entry(version uint8) Entry {
	m := Entry{ID: d.id(), Group: d.str(), Received: d.time(), Origin: Origin(d.str())}
	m.Envelope.Sender = d.path()
	for n := d.length(); n > 0 && d.err == nil; n-- {
		m.Envelope.Recipients = append(m.Envelope.Recipients, d.path())
	}
	m.Body = d.size()
	m.State = d.state()
	m.Reason, m.Client, m.Listener, m.Helo, m.Subject = d.str(), d.str(), d.str(), d.str(), d.str()
	m.Score = d.float()
	if version >= 2 {
		d.tagged(&m)
	}
	return m
}

func (e *encoder) path(p mail.Path) {
	e.str(p.Local)
	e.str(p.Domain)
	e.uint(uint64(len(p.Args)))
	for _, a := range p.Args {
		e.str(a)
	}
}

func (d *decoder) path() mail.Path {
	p := mail.Path{Address: mail.Address{Local: d.str(), Domain: d.str()}}
	for n := d.length(); n > 0 && d.err == nil; n-- {
		p.Args = append(p.Args, d.str())
	}
	return p
}

func (e *encoder) state(s State) {
	n, _ := s.number()
	e.uint(uint64(n))
}

func (d *decoder) state() State { return states[d.small(len(states)-1)] }

func (d *decoder) id() string {
	id := d.str()
	if d.err == nil && !validID(id) {
		d.fail(errValue)
	}
	return id
}

func encodeProgress(b []byte, id string, p *Progress) []byte {
	e := encoder{b}
	e.str(id)
	e.state(p.State)
	e.str(p.Reason)
	e.uint(uint64(p.Attempts))
	e.time(p.Next)
	e.bool(p.Warned)
	e.uint(uint64(len(p.Recipients)))
	for i := range p.Recipients {
		e.recipient(&p.Recipients[i])
	}
	e.int(int64(p.Age))
	return e.b
}

func decodeProgress(version uint8, meta []byte) (id string, p Progress, err error) {
	d := decoder{b: meta}
	id = d.id()
	p = Progress{State: d.state(), Reason: d.str(), Attempts: d.small(math.MaxInt32), Next: d.time(), Warned: d.bool()}
	for n := d.length(); n > 0 && d.err == nil; n-- {
		p.Recipients = append(p.Recipients, d.recipient())
	}
	if version >= 2 {
		p.Age = time.Duration(d.int())
	}
	if err := d.end(); err != nil {
		return "", Progress{}, fmt.Errorf("progress record: %w", err)
	}
	return id, p, nil
}

// failedAndTold is the number on disk of a failure that the sender has heard of.
const failedAndTold = int(mail.Failed) + 1

func (e *encoder) recipient(r *Recipient) {
	status := int(r.Status)
	if r.Told {
		status = failedAndTold
	}
	e.uint(uint64(status))
	e.uint(uint64(r.Reply.Code))
	e.str(r.Reply.Detail)
	e.str(r.Reply.Text)
	e.str(r.Remote)
	e.uint(uint64(r.Attempts))
	e.time(r.Last)
	e.bool(r.Relayed)
}

func (d *decoder) recipient() Recipient {
	status := d.small(failedAndTold)
	return Recipient{
		Status:   mail.Status(min(status, int(mail.Failed))),
		Told:     status == failedAndTold,
		Reply:    mail.Reply{Code: d.small(math.MaxInt32), Detail: d.str(), Text: d.str()},
		Remote:   d.str(),
		Attempts: d.small(math.MaxInt32),
		Last:     d.time(),
		Relayed:  d.bool(),
	}
}

func encodeRemoved(b []byte, id string) []byte {
	e := encoder{b}
	e.str(id)
	return e.b
}

func decodeRemoved(meta []byte) (string, error) {
	d := decoder{b: meta}
	id := d.id()
	return id, d.end()
}
