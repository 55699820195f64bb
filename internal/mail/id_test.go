package mail

import (
	"testing"
	"time"
)

func TestNewID(t *testing.T) {
	t0 := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	seen := map[string]bool{}
	last := ""
	for i := range 1000 {
		id := NewID(t0.Add(time.Duration(i) * time.Microsecond))
		if !ValidID(id) || seen[id] || id <= last {
			t.Fatalf("ID %q after %q", id, last)
		}
		seen[id], last = true, id
	}
	if a, b := NewID(t0), NewID(t0); a == b {
		t.Errorf("two IDs of one moment are the same: %q", a)
	}
	for _, bad := range []string{"", "../../etc/passwd", last[1:], last + "0", "A" + last[1:]} {
		if ValidID(bad) {
			t.Errorf("ValidID(%q)", bad)
		}
	}
}
