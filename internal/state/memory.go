package state

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"
)

// Memory is a Store in this process alone: for tests, and for as long as
// another one is away.
type Memory struct {
	now func() time.Time
	hot *hot

	mu       sync.Mutex
	sets     map[Set]*table[kept]
	triples  table[met]
	networks table[met]
}

type kept struct {
	value   string
	expires int64
}

// memoryRoom is how many of each kind there is room for; more make those go that
// would end first. At the usual lengths, all of it is some 50 MB.
const memoryRoom = 50_000

// NewMemory makes an empty store with that clock; nil is the system's.
func NewMemory(now func() time.Time) *Memory { return newMemory(now, memoryRoom) }

func newMemory(now func() time.Time, room int) *Memory {
	if now == nil {
		now = time.Now
	}
	ends := func(m met) int64 { return m.Expires }
	m := &Memory{
		now: now, hot: newHot(room), sets: make(map[Set]*table[kept]),
		triples: newTable(room, ends), networks: newTable(room, ends),
	}
	for _, s := range Sets() {
		t := newTable(room, func(k kept) int64 { return k.expires })
		m.sets[s] = &t
	}
	return m
}

func (m *Memory) micros() int64 { return m.now().UnixMicro() }

// Put sets an entry.
func (m *Memory) Put(_ context.Context, set Set, key, value string, ttl time.Duration) error {
	if err := checkPut(set, key, value, ttl); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.micros()
	m.sets[set].put(now, strings.Clone(key), kept{strings.Clone(value), now + ttl.Microseconds()})
	return nil
}

// Get finds the first of the keys that is there.
func (m *Memory) Get(_ context.Context, set Set, keys ...string) (Entry, bool, error) {
	if err := checkKeys(set, keys); err != nil {
		return Entry{}, false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.micros()
	for _, key := range keys {
		if k, ok := m.sets[set].get(now, key); ok {
			return k.entry(key), true, nil
		}
	}
	return Entry{}, false, nil
}

func (k kept) entry(key string) Entry {
	return Entry{Key: key, Value: k.value, Expires: time.UnixMicro(k.expires)}
}

// Delete removes entries.
func (m *Memory) Delete(_ context.Context, set Set, keys ...string) (n int, err error) {
	if err := checkKeys(set, keys); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.micros()
	for _, key := range keys {
		if _, ok := m.sets[set].get(now, key); ok {
			n++
		}
		delete(m.sets[set].m, key)
	}
	return n, nil
}

// List returns entries in order.
func (m *Memory) List(_ context.Context, set Set, prefix string, limit int) ([]Entry, error) {
	if err := checkList(set, prefix, limit); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.micros()
	var list []Entry
	for key, k := range m.sets[set].m {
		if k.expires > now && strings.HasPrefix(key, prefix) {
			list = append(list, k.entry(key))
		}
	}
	slices.SortFunc(list, func(a, b Entry) int { return strings.Compare(a.Key, b.Key) })
	return list[:min(len(list), limit)], nil
}

// Count adds to a counter.
func (m *Memory) Count(_ context.Context, key string, n int, window time.Duration) (int, error) {
	if err := checkCount(key, n, window); err != nil {
		return 0, err
	}
	return m.hot.count(m.micros(), strings.Clone(key), n, window), nil
}

// Take asks for n of a rate.
func (m *Memory) Take(_ context.Context, key string, r Rate, n int) (time.Duration, error) {
	if err := checkTake(key, r, n); err != nil {
		return 0, err
	}
	return m.hot.take(m.micros(), strings.Clone(key), r, n), nil
}

// Enter notes who is at key.
func (m *Memory) Enter(_ context.Context, key, id string, limit int, ttl time.Duration) (int, bool, error) {
	if err := checkEnter(key, id, limit, ttl); err != nil {
		return 0, false, err
	}
	n, ok := m.hot.enter(m.micros(), strings.Clone(key), strings.Clone(id), limit, ttl)
	return n, ok, nil
}

// Leave takes Enter back.
func (m *Memory) Leave(_ context.Context, key, id string) error {
	m.hot.leave(key, id)
	return nil
}

// Grey decides by greylisting.
func (m *Memory) Grey(_ context.Context, t Triple) (Grey, error) {
	if err := t.check(); err != nil {
		return Grey{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.micros()
	triple, _ := m.triples.get(now, t.Key)
	network, _ := m.networks.get(now, t.Network)
	g := t.judge(now, &triple, &network)
	m.keep(now, t, triple, network)
	return g, nil
}

func (m *Memory) keep(now int64, t Triple, triple, network met) {
	if triple.Expires > now {
		m.triples.put(now, strings.Clone(t.Key), triple)
	}
	if network.Expires > now {
		m.networks.put(now, strings.Clone(t.Network), network)
	}
}

// Name is "memory".
func (m *Memory) Name() string { return "memory" }

// Close does nothing.
func (m *Memory) Close() error { return nil }
