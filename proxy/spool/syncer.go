package spool

import "sync"

// syncer lets many share one sync. Whoever needs one takes a ticket after its
// change and waits until a sync that began later is done.
type syncer struct {
	fn func() error

	mu      sync.Mutex
	idle    sync.Cond
	running bool
	started uint64 // rounds
	done    uint64
	failed  uint64 // the last round that failed
	err     error
}

func newSyncer(fn func() error) *syncer {
	sy := &syncer{fn: fn}
	sy.idle.L = &sy.mu
	return sy
}

// ticket names the first round that covers what was done so far.
func (sy *syncer) ticket() uint64 {
	sy.mu.Lock()
	defer sy.mu.Unlock()
	return sy.started + 1
}

// wait returns when the ticket's round is over, and an error when it or one
// after it failed.
func (sy *syncer) wait(ticket uint64) error {
	sy.mu.Lock()
	defer sy.mu.Unlock()
	for sy.done < ticket {
		if sy.running {
			sy.idle.Wait()
			continue
		}
		sy.round()
	}
	if sy.failed >= ticket {
		return sy.err
	}
	return nil
}

func (sy *syncer) round() {
	sy.running = true
	sy.started++
	sy.mu.Unlock()
	err := sy.fn()
	sy.mu.Lock()
	sy.running = false
	sy.done = sy.started
	if err != nil {
		sy.failed, sy.err = sy.done, err
	}
	sy.idle.Broadcast()
}
