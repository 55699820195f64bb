// Package progress shows how far a long command is: a line with a bar and a rate
// on a terminal, and nothing anywhere else.
package progress

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// Meter counts what is done. A nil one counts nothing.
type Meter struct {
	w     io.Writer
	what  string
	total int

	mu    sync.Mutex
	done  int
	begun time.Time
	drawn time.Time
	now   func() time.Time
}

// New makes a meter on w for things that are called what ("records"); total is 0
// where nobody knows how many there are. Whoever has no terminal takes nil.
func New(w io.Writer, what string, total int) *Meter {
	return &Meter{w: w, what: what, total: total, now: time.Now, begun: time.Now()}
}

const (
	drawEvery = 100 * time.Millisecond
	barWidth  = 30
	eraseLine = "\r\x1b[K"
)

// Add notes that n more are done. It may be called by several at a time.
func (m *Meter) Add(n int) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done += n
	if now := m.now(); now.Sub(m.drawn) >= drawEvery {
		m.drawn = now
		_, _ = io.WriteString(m.w, eraseLine+m.line(now)) // only for the eye
	}
}

// At notes that n are done in all.
func (m *Meter) At(n int) {
	if m != nil {
		m.mu.Lock()
		more := n - m.done
		m.mu.Unlock()
		m.Add(more)
	}
}

// End takes the line away, so that what follows begins a clean one.
func (m *Meter) End() {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.drawn.IsZero() {
		_, _ = io.WriteString(m.w, eraseLine)
	}
}

func (m *Meter) line(now time.Time) string {
	var b strings.Builder
	passed := now.Sub(m.begun).Seconds()
	rate := 0.0
	if passed > 0 {
		rate = float64(m.done) / passed
	}
	if m.total <= 0 {
		fmt.Fprintf(&b, "%d %s, %.0f a second", m.done, m.what, rate)
		return b.String()
	}
	done := min(m.done, m.total)
	full := done * barWidth / m.total
	fmt.Fprintf(&b, "[%s%s] %d%%, %d of %d %s, %.0f a second", strings.Repeat("#", full), strings.Repeat(" ", barWidth-full), done*100/m.total, done, m.total, m.what, rate)
	if rate > 0 {
		left := time.Duration(float64(m.total-done) / rate * float64(time.Second))
		fmt.Fprintf(&b, ", %s left", left.Round(time.Second))
	}
	return b.String()
}
