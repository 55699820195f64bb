package state

import (
	"fmt"
	"math/big"
	"path/filepath"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// stores are all that a property is tried with.
func stores(t *testing.T) map[string]func(c *clock, n int) Store {
	s := 0
	return map[string]func(c *clock, n int) Store{
		"memory": func(c *clock, _ int) Store { return NewMemory(c.now) },
		"sqlite": func(c *clock, n int) Store {
			s++
			return openSQLite(t, filepath.Join(t.TempDir(), fmt.Sprint(s, ".db")), Options{Now: c.now})
		},
	}
}

// A rate is a bucket that drips evenly, and Take answers when it will have room,
// to the microsecond. The model counts in fractions.
func TestTakeProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := newClock()
		m := NewMemory(c.now)
		r := Rate{Limit: rapid.IntRange(1, 50).Draw(rt, "limit"), Period: time.Duration(rapid.IntRange(1000, 5_000_000).Draw(rt, "period")) * time.Microsecond}
		period, each := big.NewRat(r.Period.Microseconds(), 1), big.NewRat(r.Period.Microseconds(), int64(r.Limit))
		level, zero := new(big.Rat), new(big.Rat) // in microseconds
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			n := rapid.IntRange(1, r.Limit+1).Draw(rt, "n")
			wait, err := m.Take(t.Context(), "k", r, n)
			if err != nil {
				rt.Fatal(err)
			}
			after := new(big.Rat).Add(level, new(big.Rat).Mul(each, big.NewRat(int64(n), 1)))
			over, _ := new(big.Rat).Sub(after, period).Float64()
			switch {
			case wait == 0 && over > 2*tolerance:
				rt.Fatalf("%d of %v were had, %v too early", n, r, over)
			case wait > 0 && over <= -tolerance:
				rt.Fatalf("%d of %v were not had, wait %v, room for %v", n, r, wait, -over)
			case wait > 0 && (float64(wait.Microseconds())-over > 2 || over-float64(wait.Microseconds()) > 2):
				rt.Fatalf("wait %v, want %vµs", wait, over)
			}
			if wait == 0 {
				level = after
			}
			pass := wait // what was promised
			if wait == 0 || n > r.Limit || rapid.Bool().Draw(rt, "otherwise") {
				pass = time.Duration(rapid.IntRange(0, 2_000_000).Draw(rt, "pass")) * time.Microsecond
			}
			c.forward(pass)
			if level.Sub(level, big.NewRat(pass.Microseconds(), 1)); level.Cmp(zero) < 0 {
				level.SetInt64(0)
			}
			if pass == wait && wait > 0 {
				if again, err := m.Take(t.Context(), "k", r, n); again != 0 || err != nil {
					rt.Fatalf("after %v: wait %v again, %v", wait, again, err)
				}
				level.Add(level, new(big.Rat).Mul(each, big.NewRat(int64(n), 1)))
			}
		}
	})
}

// greyModel is greylisting told from the history of a triple.
type greyModel struct {
	first, used map[string]time.Time
	comers      []string // triples that came again
	netUsed     time.Time
}

func (m *greyModel) judge(t Triple, now time.Time) Grey {
	if !m.netUsed.IsZero() && !now.Before(m.netUsed.Add(t.Keep)) {
		m.comers, m.netUsed = nil, time.Time{}
	}
	if t.Auto > 0 && len(m.comers) >= t.Auto {
		m.netUsed = now
		return Grey{Pass: true, Known: true, Auto: true}
	}
	if used, ok := m.used[t.Key]; ok && now.Before(used.Add(t.Keep)) {
		m.used[t.Key] = now
		return Grey{Pass: true, Known: true}
	}
	delete(m.used, t.Key)
	first, tried := m.first[t.Key]
	if !tried || !now.Before(first.Add(t.Window)) {
		m.first[t.Key], first = now, now
	}
	if wait := first.Add(t.Delay).Sub(now); wait > 0 {
		return Grey{Wait: wait}
	}
	delete(m.first, t.Key)
	m.used[t.Key] = now
	if t.Auto > 0 {
		m.comers, m.netUsed = append(m.comers, t.Key), now
	}
	return Grey{Pass: true}
}

func TestGreyProperty(t *testing.T) {
	for name, open := range stores(t) {
		t.Run(name, func(t *testing.T) {
			n := 0
			c := newClock()
			s := open(c, 0)
			rapid.Check(t, func(rt *rapid.T) {
				n++
				net := fmt.Sprint("net", n)
				m := greyModel{first: map[string]time.Time{}, used: map[string]time.Time{}}
				tr := Triple{Network: net, Delay: time.Duration(rapid.IntRange(0, 5).Draw(rt, "delay")) * time.Minute, Auto: rapid.IntRange(0, 3).Draw(rt, "auto")}
				tr.Window = tr.Delay + time.Duration(rapid.IntRange(1, 10).Draw(rt, "window"))*time.Minute
				tr.Keep = 32 * time.Duration(rapid.IntRange(1, 3).Draw(rt, "keep")) * time.Minute
				for range rapid.IntRange(1, 25).Draw(rt, "steps") {
					tr.Key = fmt.Sprint(net, "/", rapid.IntRange(0, 3).Draw(rt, "triple"))
					got, err := s.Grey(t.Context(), tr)
					if want := m.judge(tr, c.now()); err != nil || got != want {
						rt.Fatalf("%+v: %+v, %v; want %+v", tr, got, err, want)
					}
					// A file notes a use when a 32nd of Keep has gone.
					c.forward(time.Duration(rapid.SampledFrom([]int{0, 4, 8, 20, 120}).Draw(rt, "minutes")) * time.Minute)
				}
			})
		})
	}
}
