package state

import (
	"context"
	"time"
)

// Put sets an entry.
func (f *Fallback) Put(ctx context.Context, set Set, key, value string, ttl time.Duration) error {
	w := write{set: set, key: key, value: value, expires: f.o.Now().Add(ttl)}
	_, err := change(ctx, f, "put", func(s Store) (none, error) { return none{}, s.Put(ctx, set, key, value, ttl) }, w)
	return err
}

type none struct{}

// Delete removes entries.
func (f *Fallback) Delete(ctx context.Context, set Set, keys ...string) (int, error) {
	var list []write
	for _, key := range keys {
		list = append(list, write{set: set, key: key})
	}
	return change(ctx, f, "delete", func(s Store) (int, error) { return s.Delete(ctx, set, keys...) }, list...)
}

type found struct {
	Entry
	ok bool
}

// Get finds the first of the keys that is there.
func (f *Fallback) Get(ctx context.Context, set Set, keys ...string) (Entry, bool, error) {
	v, err := ask(ctx, f, "get", func(s Store) (found, error) {
		e, ok, err := s.Get(ctx, set, keys...)
		return found{e, ok}, err
	}, func(v found) { f.local.learn(set, keys, v) })
	return v.Entry, v.ok, err
}

// learn notes what another store has found: keys before that which was found
// are not there.
func (m *Memory) learn(set Set, keys []string, v found) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, key := range keys {
		if v.ok && key == v.Key {
			m.sets[set].put(m.micros(), key, kept{v.Value, v.Expires.UnixMicro()})
			return
		}
		delete(m.sets[set].m, key)
	}
}

// List returns entries in order.
func (f *Fallback) List(ctx context.Context, set Set, prefix string, limit int) ([]Entry, error) {
	return ask(ctx, f, "list", func(s Store) ([]Entry, error) { return s.List(ctx, set, prefix, limit) }, func([]Entry) {})
}

// Count adds to a counter.
func (f *Fallback) Count(ctx context.Context, key string, n int, window time.Duration) (int, error) {
	return ask(ctx, f, "count", func(s Store) (int, error) { return s.Count(ctx, key, n, window) }, func(int) {})
}

// Take asks for n of a rate.
func (f *Fallback) Take(ctx context.Context, key string, r Rate, n int) (time.Duration, error) {
	return ask(ctx, f, "take", func(s Store) (time.Duration, error) { return s.Take(ctx, key, r, n) }, func(time.Duration) {})
}

// Enter notes who is at key.
func (f *Fallback) Enter(ctx context.Context, key, id string, limit int, ttl time.Duration) (int, bool, error) {
	type there struct {
		n  int
		ok bool
	}
	v, err := ask(ctx, f, "enter", func(s Store) (there, error) {
		n, ok, err := s.Enter(ctx, key, id, limit, ttl)
		return there{n, ok}, err
	}, func(there) {})
	return v.n, v.ok, err
}

// Leave takes Enter back.
func (f *Fallback) Leave(ctx context.Context, key, id string) error {
	f.local.hot.leave(key, id) // it may have entered while the store was away
	_, err := ask(ctx, f, "leave", func(s Store) (none, error) { return none{}, s.Leave(ctx, key, id) }, func(none) {})
	return err
}

// Grey decides by greylisting.
func (f *Fallback) Grey(ctx context.Context, t Triple) (Grey, error) {
	return ask(ctx, f, "grey", func(s Store) (Grey, error) { return s.Grey(ctx, t) }, func(g Grey) { f.local.greyed(t, g) })
}

// greyed notes what another store has decided.
func (m *Memory) greyed(t Triple, g Grey) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.micros()
	network, _ := m.networks.get(now, t.Network)
	triple := met{First: now + g.Wait.Microseconds() - t.Delay.Microseconds()}
	triple.Expires = triple.First + t.Window.Microseconds()
	switch {
	case g.Auto:
		network = met{Count: t.Auto, Expires: now + t.Keep.Microseconds()}
		triple = met{}
	case g.Pass:
		triple.Passed, triple.Expires = true, now+t.Keep.Microseconds()
		if !g.Known && t.Auto > 0 {
			network.Count++
			network.Expires = triple.Expires
		}
	}
	m.keep(now, t, triple, network)
}
