package progress

import (
	"strings"
	"sync"
	"testing"
	"time"
)

func TestMeter(t *testing.T) {
	for _, tt := range []struct {
		name  string
		total int
		done  int
		want  string
	}{
		{"nobody knows how many", 0, 50, "50 files, 10 a second"},
		{"half", 100, 50, "[###############               ] 50%, 50 of 100 files, 10 a second, 5s left"},
		{"all", 100, 100, "[##############################] 100%, 100 of 100 files, 20 a second, 0s left"},
		{"more than all", 100, 150, "[##############################] 100%, 100 of 100 files, 30 a second, 0s left"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b strings.Builder
			m := New(&b, "files", tt.total)
			m.now = func() time.Time { return m.begun.Add(5 * time.Second) }
			m.At(tt.done)
			if got := b.String(); got != eraseLine+tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			m.Add(1) // too soon to draw
			m.End()
			if got := b.String(); got != eraseLine+tt.want+eraseLine {
				t.Errorf("at the end %q", got)
			}
		})
	}
}

func TestNoTerminal(t *testing.T) {
	var m *Meter
	m.Add(1)
	m.At(5)
	m.End()
}

func TestSeveral(t *testing.T) {
	var b strings.Builder
	m := New(&b, "files", 0)
	m.now = func() time.Time { return m.begun }
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			for range 100 {
				m.Add(1)
			}
		})
	}
	wg.Wait()
	if m.done != 1000 {
		t.Errorf("%d done, want 1000", m.done)
	}
}
