package filters

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
)

// daemon is a filter whose daemon comes and goes.
type daemon struct {
	down, deaf atomic.Bool
	checks     atomic.Int32
	pings      atomic.Int32
}

func (d *daemon) Check(ctx context.Context, _ *mail.Transaction) (Report, error) {
	d.checks.Add(1)
	if d.deaf.Load() {
		<-ctx.Done()
		return Report{}, ctx.Err()
	}
	if d.down.Load() {
		return Report{}, errors.New("connection refused")
	}
	return Report{}, nil
}

func (d *daemon) Ping(context.Context) error {
	d.pings.Add(1)
	if d.down.Load() {
		return errors.New("connection refused")
	}
	return nil
}

func TestBreakerTripsAndRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &daemon{}
		b := newBench(t, Config{}, nil, Step{Name: "av", Filter: d, Timeout: 30 * time.Second})
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- b.Run(ctx) }()

		judge := func(want mail.Action, within time.Duration) {
			t.Helper()
			start := time.Now()
			if v := b.message(t, message("Subject: x\n")); v.Action != want || time.Since(start) > within {
				t.Errorf("%v after %v, want %v within %v", v.Action, time.Since(start), want, within)
			}
		}
		judge(mail.Accept, 0)
		d.deaf.Store(true)
		d.down.Store(true)
		for range 3 {
			judge(mail.TempFail, 30*time.Second)
		}
		asked := d.checks.Load()
		for range 50 {
			judge(mail.TempFail, 0) // at once, and counted
		}
		if d.checks.Load() != asked || b.count.count("av down") != 50 {
			t.Errorf("the daemon was asked %d times while down, %d counted", d.checks.Load()-asked, b.count.count("av down"))
		}
		time.Sleep(10 * time.Second)
		if n := d.pings.Load(); n < 4 {
			t.Errorf("%d probes in 10s", n)
		}
		judge(mail.TempFail, 0)
		d.deaf.Store(false)
		d.down.Store(false)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		judge(mail.Accept, 0)
		if b.count.count("av false") != 1 || b.count.count("av true") != 2 {
			t.Errorf("ups = %v, want true (at start), false, true", b.count.ups)
		}
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
}

func TestBreakerOnProbation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(Breaker{Failures: 3, Probe: time.Second})
		for range 3 {
			b.leave(false)
		}
		if b.up() {
			t.Fatal("not tripped after 3 failures")
		}
		if !b.probed(true) || !b.up() {
			t.Fatal("not back after a probe")
		}
		if !b.leave(false) || b.up() {
			t.Error("a failure on probation does not trip it")
		}
		b.probed(true)
		b.leave(true)
		b.leave(false)
		if !b.up() {
			t.Error("one failure after a success trips it")
		}
	})
}

// Messages that wait for their turn learn at once that the filter went down.
func TestTrippedBreakerWakesThoseWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &daemon{}
		d.deaf.Store(true)
		b := newBench(t, Config{}, nil, Step{Name: "av", Filter: d, Timeout: 10 * time.Second, MaxConcurrent: 3})
		start := time.Now()
		done := make(chan mail.Verdict)
		const n = 20
		for range n {
			go func() { done <- b.message(t, message("Subject: x\n")) }()
		}
		for range n {
			if v := <-done; v.Action != mail.TempFail {
				t.Errorf("action = %v", v.Action)
			}
		}
		// Seven rounds without a breaker. Two at most with it: a turn may pass
		// on before the third failure is recorded.
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("took %v, want two timeouts at most", took)
		}
	})
}

// A filter that can't be pinged comes back by a message that tries.
func TestBreakerWithoutPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		var checks atomic.Int32
		f := checkFunc(func(context.Context, *mail.Transaction) (Report, error) {
			checks.Add(1)
			if down.Load() {
				return Report{}, errors.New("down")
			}
			return Report{}, nil
		})
		down.Store(true)
		b := newBench(t, Config{}, nil, Step{Name: "f", Filter: f, OnError: Refuse, Breaker: Breaker{Failures: 1}})
		b.message(t, message("Subject: x\n"))
		for range 5 {
			b.message(t, message("Subject: x\n"))
		}
		if checks.Load() != 1 {
			t.Errorf("asked %d times, want once", checks.Load())
		}
		h := b.Handler()
		if v := h.Connect(t.Context(), &mail.Transaction{}); v.Reply.Code != 421 {
			t.Errorf("connect: %+v, want 421", v)
		}
		down.Store(false)
		time.Sleep(10 * time.Second)
		if v := h.Connect(t.Context(), &mail.Transaction{}); v.Action != mail.Accept {
			t.Errorf("connect: %+v, want a way in for the message that tries", v)
		}
		if v := b.message(t, message("Subject: x\n")); v.Action != mail.Accept {
			t.Errorf("action = %v, want accept", v.Action)
		}
	})
}

func TestRefuseAtConnect(t *testing.T) {
	d := &daemon{}
	d.down.Store(true)
	cfg := Config{OnErrorByListener: map[string]OnError{"relay": Continue}}
	b := newBench(t, cfg, nil, Step{Name: "av", Filter: d, OnError: Refuse})
	connect := func(listener string) mail.Verdict {
		return b.Handler().Connect(t.Context(), &mail.Transaction{Session: &mail.Session{Listener: listener}})
	}
	if v := connect("mx"); v.Action != mail.Accept {
		t.Errorf("before it is known to be down: %v", v.Action)
	}
	for range 3 {
		b.message(t, message("Subject: x\n"))
	}
	if v := connect("mx"); v.Action != mail.TempFail || v.Reply.String() != "421 4.3.2 "+textClosed {
		t.Errorf("while down: %v %q", v.Action, v.Reply)
	}
	if v := connect("relay"); v.Action != mail.Accept {
		t.Errorf("listener with its own on_error: %v", v.Action)
	}
}

func TestCancelledChecksDoNotTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Config{}, nil,
			Step{Name: "slow", Filter: finds(time.Minute / 2)},
			Step{Name: "av", Filter: finds(0, virus("Eicar"))})
		for range 5 {
			b.message(t, message("Subject: x\n"))
			synctest.Wait()
		}
		if b.count.count("slow false") != 0 || b.count.count("slow cancelled") != 5 {
			t.Errorf("ups = %v, results = %v", b.count.ups, b.count.results)
		}
	})
}
