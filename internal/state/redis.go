package state

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Redis is a Store that several gateways share: one server, one behind
// Sentinels, or a Cluster. Its clock is that of the server. In a Cluster each
// set is on one node; counters, rates and greylists are spread.
type Redis struct {
	cfg     Config
	o       Options
	client  redis.UniversalClient
	scripts scripts
}

// NewRedis makes a store; it connects when it is asked something.
func NewRedis(cfg Config, o Options) (*Redis, error) {
	o = o.withDefaults()
	client, err := newClient(cfg, o)
	if err != nil {
		return nil, err
	}
	return &Redis{cfg: cfg, o: o, client: client, scripts: loadScripts(source("prelude"))}, nil
}

// Name is for people.
func (r *Redis) Name() string { return r.cfg.String() }

// Close closes the connections.
func (r *Redis) Close() error {
	if err := r.client.Close(); err != nil {
		return fmt.Errorf("state: closing %s: %w", r.Name(), err)
	}
	return nil
}

// run is one round trip, or two where the server does not know the script yet.
func (r *Redis) run(ctx context.Context, s *redis.Script, keys []string, args ...any) *redis.Cmd {
	inTime, cancel := context.WithTimeout(ctx, r.o.Timeout)
	defer cancel()
	cmd := s.Run(inTime, r.client, keys, args...)
	if err := cmd.Err(); err != nil {
		cmd.SetErr(r.explain(ctx, err))
	}
	return cmd
}

// explain tells a server that can't answer from an answer that is an error.
func (r *Redis) explain(ctx context.Context, err error) error {
	switch text := err.Error(); {
	case ctx.Err() != nil:
		return ctx.Err() // nobody waits
	case errors.Is(err, errShape), isAnswer(err) && (strings.Contains(text, "WRONGTYPE") || strings.HasPrefix(text, "GATEPOST ")):
		return fmt.Errorf("state: %s: somebody else's data: %w", r.Name(), err)
	}
	return fmt.Errorf("%w: %s: %w", ErrAway, r.Name(), err)
}

func isAnswer(err error) bool {
	var answer redis.Error
	return errors.As(err, &answer)
}

var errShape = errors.New("an answer of another shape")

// values is an answer of n parts.
func values(cmd *redis.Cmd, n int) ([]any, error) {
	list, err := cmd.Slice()
	if err != nil {
		return nil, err
	}
	if len(list) < n {
		return nil, errShape
	}
	return list, nil
}

func number(v any) int64 {
	n, _ := v.(int64)
	return n
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

// Keys of a set are in one slot, as are a triple and its network.
func (r *Redis) entry(set Set, key string) string {
	return r.cfg.Prefix + "set:{" + string(set) + "}:" + key
}

func (r *Redis) indexes(set Set) []string {
	return []string{r.cfg.Prefix + "index:{" + string(set) + "}", r.cfg.Prefix + "ends:{" + string(set) + "}"}
}

// tag is what the slot of a key depends on, whatever else is in it.
func tag(key string) string {
	sum := sha256.Sum256([]byte(key))
	return "{" + hex.EncodeToString(sum[:8]) + "}:"
}

// Put sets an entry.
func (r *Redis) Put(ctx context.Context, set Set, key, value string, ttl time.Duration) error {
	if err := checkPut(set, key, value, ttl); err != nil {
		return err
	}
	keys := append([]string{r.entry(set, key)}, r.indexes(set)...)
	return r.run(ctx, r.scripts.put, keys, key, value, ttl.Microseconds()).Err()
}

// Get finds the first of the keys that is there.
func (r *Redis) Get(ctx context.Context, set Set, keys ...string) (Entry, bool, error) {
	if err := checkKeys(set, keys); err != nil || len(keys) == 0 {
		return Entry{}, false, err
	}
	var entries []string
	for _, key := range keys {
		entries = append(entries, r.entry(set, key))
	}
	v, err := values(r.run(ctx, r.scripts.get, entries), 3)
	if err != nil {
		return Entry{}, false, err
	}
	i := number(v[0])
	if i < 1 || i > int64(len(keys)) {
		return Entry{}, false, nil
	}
	e, err := r.made(keys[i-1], v[1], v[2])
	return e, err == nil, err
}

// made is an entry whose end is told by our clock.
func (r *Redis) made(key string, value, left any) (Entry, error) {
	if len(key) > maxText || len(text(value)) > maxText {
		return Entry{}, fmt.Errorf("state: %s: somebody else's data: an entry of %d bytes", r.Name(), len(key)+len(text(value)))
	}
	return Entry{Key: key, Value: text(value), Expires: r.o.Now().Add(time.Duration(number(left)) * time.Microsecond)}, nil
}

// Delete removes entries.
func (r *Redis) Delete(ctx context.Context, set Set, keys ...string) (int, error) {
	if err := checkKeys(set, keys); err != nil || len(keys) == 0 {
		return 0, err
	}
	all, args := r.indexes(set), []any{}
	for _, key := range keys {
		all, args = append(all, r.entry(set, key)), append(args, key)
	}
	return r.run(ctx, r.scripts.delete, all, args...).Int()
}

// listAtOnce is how many entries the server looks at while others wait.
const listAtOnce = 1000

// List returns entries in order. It asks as often as it must.
func (r *Redis) List(ctx context.Context, set Set, prefix string, limit int) (list []Entry, err error) {
	if err := checkList(set, prefix, limit); err != nil {
		return nil, err
	}
	from, to := "["+prefix, "+"
	if behind := after(prefix); behind != "" {
		to = "(" + behind
	}
	for from != "" && len(list) < limit {
		v, err := values(r.run(ctx, r.scripts.list, r.indexes(set), from, to, limit-len(list), r.entry(set, ""), listAtOnce), 1)
		if err != nil {
			return nil, err
		}
		from = text(v[0])
		for v = v[1:]; len(v) >= 3; v = v[3:] {
			e, err := r.made(text(v[0]), v[1], v[2])
			if err != nil {
				return nil, err
			}
			list = append(list, e)
		}
	}
	return list, nil
}

// Count adds to a counter.
func (r *Redis) Count(ctx context.Context, key string, n int, window time.Duration) (int, error) {
	if err := checkCount(key, n, window); err != nil {
		return 0, err
	}
	return r.run(ctx, r.scripts.count, []string{r.cfg.Prefix + "count:" + tag(key) + key}, n, window.Microseconds()).Int()
}

// Take asks for n of a rate.
func (r *Redis) Take(ctx context.Context, key string, rate Rate, n int) (time.Duration, error) {
	if err := checkTake(key, rate, n); err != nil {
		return 0, err
	}
	wait, err := r.run(ctx, r.scripts.take, []string{r.cfg.Prefix + "rate:" + tag(key) + key}, rate.Limit, rate.Period.Microseconds(), n).Int64()
	return time.Duration(wait) * time.Microsecond, err
}

func (r *Redis) place(key string) string { return r.cfg.Prefix + "place:" + tag(key) + key }

// Enter notes who is at key.
func (r *Redis) Enter(ctx context.Context, key, id string, limit int, ttl time.Duration) (int, bool, error) {
	if err := checkEnter(key, id, limit, ttl); err != nil {
		return 0, false, err
	}
	v, err := values(r.run(ctx, r.scripts.enter, []string{r.place(key)}, id, limit, ttl.Microseconds()), 2)
	if err != nil {
		return 0, false, err
	}
	return int(number(v[0])), number(v[1]) == 1, nil
}

// Leave takes Enter back.
func (r *Redis) Leave(ctx context.Context, key, id string) error {
	inTime, cancel := context.WithTimeout(ctx, r.o.Timeout)
	defer cancel()
	if err := r.client.ZRem(inTime, r.place(key), id).Err(); err != nil {
		return r.explain(ctx, err)
	}
	return nil
}

// Grey decides by greylisting.
func (r *Redis) Grey(ctx context.Context, t Triple) (Grey, error) {
	if err := t.check(); err != nil {
		return Grey{}, err
	}
	slot := tag(t.Network)
	if t.Auto == 0 {
		slot = tag(t.Key)
	}
	keys := []string{r.cfg.Prefix + "grey:" + slot + t.Key, r.cfg.Prefix + "network:" + slot + t.Network}
	v, err := values(r.run(ctx, r.scripts.grey, keys, t.Delay.Microseconds(), t.Window.Microseconds(), t.Keep.Microseconds(), t.Auto), 4)
	if err != nil {
		return Grey{}, err
	}
	return Grey{Pass: number(v[0]) == 1, Known: number(v[1]) == 1, Auto: number(v[2]) == 1, Wait: time.Duration(number(v[3])) * time.Microsecond}, nil
}

// probe asks whether the server can be written to, and all nodes of a Cluster
// are there.
func (r *Redis) probe(ctx context.Context) error {
	inTime, cancel := context.WithTimeout(ctx, r.o.Timeout)
	defer cancel()
	err := r.client.Set(inTime, r.cfg.Prefix+"probe", "1", time.Second).Err()
	if c, ok := r.client.(*redis.ClusterClient); ok && err == nil {
		err = c.ForEachMaster(inTime, whole)
	}
	if err != nil {
		return r.explain(ctx, err)
	}
	return nil
}

// whole asks a node of a Cluster whether all of them are there.
func whole(ctx context.Context, node *redis.Client) error {
	info, err := node.ClusterInfo(ctx).Result()
	if err == nil && !strings.Contains(info, "cluster_state:ok") {
		return errors.New("the cluster is not whole")
	}
	return err
}
