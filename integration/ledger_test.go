package integration

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// ledger compares what clients were told with what arrived. Every message has
// its own ID, from which its bytes and its recipients follow.
type ledger struct {
	t *testing.T

	mu       sync.Mutex
	told     map[string]bool        // true: answered 250; false: refused; absent: never answered
	arrived  map[string][]time.Time // by ID and recipient
	notified map[string][]time.Time // notifications, by the ID of what failed
	kills    []time.Time
	bytes    int64
}

func newLedger(t *testing.T) *ledger {
	return &ledger{t: t, told: map[string]bool{}, arrived: map[string][]time.Time{}, notified: map[string][]time.Time{}}
}

// Recipients: their names tell the next hop what to do with them.
const (
	taken = "ok"   // accepted at once
	later = "late" // 451 at the first time, then accepted
	gone  = "gone" // 550 always: the sender gets a notification
)

// plan is what follows from an ID.
type plan struct {
	size       int
	recipients []string // local parts without ID
}

// planOf: most messages are small; each fifth is large; recipients vary.
func planOf(n int) plan {
	p := plan{size: 300 + n%7*500, recipients: []string{taken}}
	if n%5 == 4 {
		p.size = 300_000
	}
	switch n % 10 {
	case 2, 7:
		p.recipients = []string{taken, taken + "2", taken + "3"}
	case 3:
		p.recipients = []string{taken, later}
	case 5, 9:
		p.recipients = []string{taken, gone}
	case 8:
		p.recipients = []string{gone}
	}
	return p
}

func messageID(n int) string { return fmt.Sprintf("id%06d", n) }

func numberOf(id string) int {
	var n int
	_, _ = fmt.Sscanf(id, "id%06d", &n)
	return n
}

// letterOf is message n, always the same bytes.
func letterOf(n int) testkit.Letter {
	p, id := planOf(n), messageID(n)
	l := testkit.Letter{From: "sender-" + id + "@example.com"}
	for _, r := range p.recipients {
		l.To = append(l.To, r+"-"+id+"@example.com")
	}
	l.Data = fmt.Appendf(nil, "Subject: %s\r\nX-Test: %s\r\n\r\n%s\r\n", id, id, testkit.Filler(p.size))
	return l
}

// answered notes what the client was told.
func (l *ledger) answered(n int, res testkit.Result) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case res.Err != nil: // nobody knows
	case res.Accepted():
		l.told[messageID(n)] = true
	default:
		l.told[messageID(n)] = false
	}
}

func (l *ledger) killed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kills = append(l.kills, time.Now())
}

// rule makes the next hop treat recipients by their names.
func (l *ledger) rule() func(verb, arg string) string {
	seen := map[string]bool{}
	return func(verb, arg string) string {
		switch {
		case verb != "RCPT":
			return ""
		case strings.Contains(arg, "<"+gone+"-"):
			return "550 5.1.1 nobody of that name"
		case strings.Contains(arg, "<"+later+"-") && !seen[arg]:
			seen[arg] = true
			return "451 4.2.0 come again"
		}
		return ""
	}
}

// note takes a message from the next hop.
func (l *ledger) note(m testkit.Mail) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bytes += int64(len(m.Data))
	if strings.HasPrefix(m.From, "<>") {
		for _, to := range m.To {
			id := between(to, "<sender-", "@")
			l.notified[id] = append(l.notified[id], now)
			if !bytes.Contains(m.Data, []byte(gone+"-"+id)) {
				l.t.Errorf("the notification for %s does not name the recipient:\n%s", id, m.Data)
			}
		}
		return
	}
	id := field(string(m.Data[:min(len(m.Data), 4000)]), "X-Test")
	if want := letterOf(numberOf(id)).Data; !bytes.HasSuffix(m.Data, want) {
		l.t.Errorf("%q arrived changed: %d octets, want the last %d as sent", id, len(m.Data), len(want))
	}
	for _, to := range m.To {
		to = between(to, "<", "@")
		if !strings.HasSuffix(to, "-"+id) {
			l.t.Errorf("%s arrived for %s", id, to)
		}
		l.arrived[to] = append(l.arrived[to], now)
	}
}

func between(s, before, after string) string {
	_, s, _ = strings.Cut(s, before)
	s, _, _ = strings.Cut(s, after)
	return s
}

// missing lists what was promised and is not there yet.
func (l *ledger) missing() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []string
	for id, promised := range l.told {
		if !promised {
			continue
		}
		for _, r := range planOf(numberOf(id)).recipients {
			if r == gone && len(l.notified[id]) == 0 {
				list = append(list, id+": no notification")
			}
			if r != gone && len(l.arrived[r+"-"+id]) == 0 {
				list = append(list, id+": not at "+r)
			}
		}
	}
	return list
}

// check compares everything. A message may come a second time only when the
// gateway was killed between the two.
func (l *ledger) check() {
	l.t.Helper()
	if m := l.missing(); len(m) > 0 {
		l.t.Errorf("%d promises not kept: %.20q", len(m), m)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	duplicates := 0
	for to, times := range l.arrived {
		_, id, _ := strings.Cut(to, "-")
		if promised, answered := l.told[id]; answered && !promised {
			l.t.Errorf("%s was refused and arrived at %s", id, to)
		}
		duplicates += l.duplicates(to, times)
	}
	for id, times := range l.notified {
		if promised, answered := l.told[id]; answered && !promised {
			l.t.Errorf("%s was refused, and its sender notified", id)
		}
		duplicates += l.duplicates("notification for "+id, times)
	}
	accepted := 0
	for _, promised := range l.told {
		if promised {
			accepted++
		}
	}
	l.t.Logf("%d kills; %d messages accepted, %d refused; %d deliveries (%d MB), %d duplicates, %d notifications",
		len(l.kills), accepted, len(l.told)-accepted, len(l.arrived), l.bytes>>20, duplicates, len(l.notified))
}

func (l *ledger) duplicates(what string, times []time.Time) int {
	for i := 1; i < len(times); i++ {
		// What a killed gateway has sent is noted a little after its death.
		if l.killsBetween(times[i-1].Add(-time.Second), times[i]) == 0 {
			l.t.Errorf("%s came %d times, and no kill explains it: %v, %v", what, len(times), times[i-1].Format("05.000"), times[i].Format("05.000"))
		}
	}
	return len(times) - 1
}

func (l *ledger) killsBetween(from, to time.Time) int {
	n := 0
	for _, k := range l.kills {
		if !k.Before(from) && !k.After(to) {
			n++
		}
	}
	return n
}
