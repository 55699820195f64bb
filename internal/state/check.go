package state

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// ErrBad is wrapped by errors about what was asked for.
var ErrBad = errors.New("state: a store can't keep that")

const (
	maxText = 1024 // bytes of a key or a value
	maxKeys = 256  // of one call
	maxTTL  = 10 * 366 * 24 * time.Hour
	maxN    = 1 << 20 // of a rate or a counter, at once
	maxList = 1 << 20
)

func checkKey(key string) error {
	if key == "" {
		return fmt.Errorf("%w: a key without text", ErrBad)
	}
	return checkText("key", key)
}

func checkText(what, s string) error {
	if len(s) > maxText {
		return fmt.Errorf("%w: a %s of %d bytes, at most %d", ErrBad, what, len(s), maxText)
	}
	if strings.IndexByte(s, 0) >= 0 {
		return fmt.Errorf("%w: a %s with NUL", ErrBad, what)
	}
	return nil
}

func checkTTL(what string, ttl time.Duration) error {
	if ttl < time.Millisecond || ttl > maxTTL {
		return fmt.Errorf("%w: %s of %v", ErrBad, what, ttl)
	}
	return nil
}

func checkSet(set Set) error {
	if !slices.Contains(Sets(), set) {
		return fmt.Errorf("%w: no set %q", ErrBad, string(set))
	}
	return nil
}

func checkKeys(set Set, keys []string) error {
	if err := checkSet(set); err != nil {
		return err
	}
	if len(keys) > maxKeys {
		return fmt.Errorf("%w: %d keys at once, at most %d", ErrBad, len(keys), maxKeys)
	}
	for _, k := range keys {
		if err := checkKey(k); err != nil {
			return err
		}
	}
	return nil
}

func checkPut(set Set, key, value string, ttl time.Duration) error {
	return errors.Join(checkSet(set), checkKey(key), checkText("value", value), checkTTL("a time to live", ttl))
}

func checkList(set Set, prefix string, limit int) error {
	if limit < 0 || limit > maxList {
		return fmt.Errorf("%w: a list of %d", ErrBad, limit)
	}
	return errors.Join(checkSet(set), checkText("prefix", prefix))
}

func checkCount(key string, n int, window time.Duration) error {
	if n < 0 || n > maxN {
		return fmt.Errorf("%w: to count %d", ErrBad, n)
	}
	return errors.Join(checkKey(key), checkTTL("a window", window))
}

func checkTake(key string, r Rate, n int) error {
	if n < 0 || n > maxN || r.Limit < 1 || r.Limit > maxN {
		return fmt.Errorf("%w: %d of a rate of %d", ErrBad, n, r.Limit)
	}
	return errors.Join(checkKey(key), checkTTL("a period", r.Period))
}

func checkEnter(key, id string, limit int, ttl time.Duration) error {
	if limit < 1 || limit > maxN {
		return fmt.Errorf("%w: a limit of %d", ErrBad, limit)
	}
	return errors.Join(checkKey(key), checkKey(id), checkTTL("a time to live", ttl))
}

func (t Triple) check() error {
	if t.Delay < 0 || t.Auto < 0 || t.Delay >= t.Window {
		return fmt.Errorf("%w: to wait for %v within %v, %d for a network", ErrBad, t.Delay, t.Window, t.Auto)
	}
	err := errors.Join(checkKey(t.Key), checkText("network", t.Network), checkTTL("a window", t.Window), checkTTL("a time to keep", t.Keep))
	if err == nil && t.Auto > 0 && t.Network == "" {
		return fmt.Errorf("%w: a network without text", ErrBad)
	}
	return err
}
