package proxy

import "time"

// pace is how fast a client must send inside a message. Only the time spent
// waiting for the client counts: our own slowness is not its fault.
type pace struct {
	timeout time.Duration // for any next byte
	grace   time.Duration
	rate    int64 // bytes a second
	bytes   int64
	waited  time.Duration
}

func newPace(l Limits) *pace {
	return &pace{timeout: l.DataTimeout, grace: l.RateGrace, rate: l.MinRate}
}

// left is how long the next read may take.
func (p *pace) left() time.Duration {
	// At most a day: enough for any message, and no overflow.
	earned := min(p.bytes/p.rate, 24*60*60)
	return min(p.timeout, p.grace+time.Duration(earned)*time.Second-p.waited)
}

// fill reads more of a message within the pace.
func (p *pace) fill(w *wire) error {
	start, had := time.Now(), w.w-w.r
	err := w.fill(start.Add(p.left()))
	p.waited += time.Since(start)
	p.bytes += int64(w.w - w.r - had)
	return err
}
