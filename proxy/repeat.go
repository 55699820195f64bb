package proxy

import (
	"container/list"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"gatepost/internal/mail"
)

// repeats remembers messages that were answered 250 to a client that may not
// have read it: its connection ended, or went silent, before it said another
// word. Such a client sends the message again (RFC 1047), and is told 250 once
// more; there is nothing else to do. Who has read his 250 and sends the same
// again means it: that is another message.
//
// It lives in memory: after a restart a repeat is a second message.
type repeats struct {
	mu     sync.Mutex
	places map[repeatKey]*list.Element
	order  list.List // of answered, the newest in front
}

// repeatKey stands for who sends what from whom to whom.
type repeatKey [sha256.Size]byte

// answered is a message that was answered 250.
type answered struct {
	key  repeatKey
	id   string // as which it was taken
	at   time.Time
	open bool // its connection lives
}

const (
	// repeatCost is what it takes to remember one message, about.
	repeatCost = 320
	// silentFor is after what time a client that says nothing more on a
	// connection that lives may not have read our answer: none keeps a
	// connection for so long to do nothing.
	silentFor = 30 * time.Second
)

// add remembers a message. What is too old, or too much for the memory, is
// forgotten.
func (r *repeats) add(a answered, l Limits) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.places == nil {
		r.places = make(map[repeatKey]*list.Element)
	}
	if old := r.places[a.key]; old != nil {
		r.drop(old)
	}
	r.places[a.key] = r.order.PushFront(a)
	for e := r.order.Back(); e != nil; e = r.order.Back() {
		if int64(r.order.Len())*repeatCost <= l.RepeatMemory && a.at.Sub(e.Value.(answered).at) < l.RepeatWindow {
			return
		}
		r.drop(e)
	}
}

func (r *repeats) drop(e *list.Element) {
	delete(r.places, e.Value.(answered).key)
	r.order.Remove(e)
}

// read forgets a message whose client has read the answer.
func (r *repeats) read(key repeatKey, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.places[key]; e != nil && e.Value.(answered).id == id {
		r.drop(e)
	}
}

// lost notes that the connection of a message ended.
func (r *repeats) lost(key repeatKey, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.places[key]; e != nil && e.Value.(answered).id == id {
		a := e.Value.(answered)
		a.open = false
		e.Value = a
	}
}

// find returns the ID as which a message that began then may have come before. A
// message that began before the other was answered is not that one's repeat.
func (r *repeats) find(key repeatKey, began, now time.Time, l Limits) (id string, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.places[key]
	if e == nil {
		return "", false
	}
	a := e.Value.(answered)
	age := now.Sub(a.at)
	return a.id, began.After(a.at) && age < l.RepeatWindow && (!a.open || age >= silentFor)
}

// keyOf makes the key of a message; content is the hash of its text as it came.
func keyOf(tx *mail.Transaction, content hash.Hash, size int64) (key repeatKey) {
	h := sha256.New()
	put := func(s string) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(s)))
		_, _ = h.Write(n[:]) // never fails
		_, _ = io.WriteString(h, s)
	}
	if user := tx.Session.User; user != "" {
		put("user " + user)
	} else {
		put(network(tx.Session.Client.Addr()).String())
	}
	path := func(p mail.Path) string { return p.Path() + " " + strings.Join(p.Args, " ") }
	put(path(tx.Envelope.Sender))
	var to []string
	for _, r := range tx.Envelope.Recipients {
		to = append(to, path(r))
	}
	slices.Sort(to)
	for _, r := range to {
		put(r)
	}
	_ = binary.Write(h, binary.BigEndian, size)
	put(string(content.Sum(nil)))
	h.Sum(key[:0])
	return key
}

// network is whose hosts may stand in for each other: a sender may come again
// from another one.
func network(ip netip.Addr) netip.Prefix {
	bits := 24
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits) // fails for the zero Addr: one key for all unknown
	return p
}

// unread is a 250 that the client may not have read yet.
type unread struct {
	key repeatKey
	id  string
}

// repeated returns the ID as which the message of tx was taken before.
func (s *session) repeated(tx *transaction) (id string, ok bool) {
	if tx.in.hash == nil {
		return "", false
	}
	return s.repeats.find(keyOf(&tx.Transaction, tx.in.hash, tx.in.size), tx.Start, time.Now(), s.set.Limits)
}

// answered notes that the message of tx, or one before that it repeats, is
// answered 250 as id.
func (s *session) answered(tx *transaction, id string) {
	if tx.in.hash == nil || id == "" {
		return
	}
	u := unread{keyOf(&tx.Transaction, tx.in.hash, tx.in.size), id}
	s.repeats.add(answered{key: u.key, id: id, at: time.Now(), open: true}, s.set.Limits)
	s.unread = append(s.unread, u)
}

// caughtUp reports whether all that the client has sent was read. It is asked
// before our answers go out: what comes then was sent by one who has them. What
// came before, pipelined, says nothing of that.
func (s *session) caughtUp() bool {
	pending, _ := peek(s.raw)
	return !pending && len(s.buffered()) == 0
}

// hasRead notes that the client knows our answers.
func (s *session) hasRead() {
	for _, u := range s.unread {
		s.repeats.read(u.key, u.id)
	}
	s.unread = s.unread[:0]
}
