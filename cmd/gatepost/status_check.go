package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"gatepost/internal/console"
)

// grade is a state in the words of Nagios; its number is the exit code.
type grade int

const (
	gradeOK grade = iota
	gradeWarning
	gradeCritical
	gradeUnknown
)

func (g grade) String() string { return [...]string{"OK", "WARNING", "CRITICAL", "UNKNOWN"}[g] }

// limits are what a check calls too much.
type limits struct {
	warning, critical       int // messages that wait
	warningAge, criticalAge time.Duration
}

func usualLimits() limits {
	return limits{warning: 1000, critical: 5000, warningAge: 4 * time.Hour, criticalAge: 24 * time.Hour}
}

func (l limits) validate() error {
	if l.warning < 1 || l.critical < l.warning || l.warningAge <= 0 || l.criticalAge < l.warningAge {
		return exit(exitUsage, "the critical limits must not be below those of a warning, and those above 0")
	}
	return nil
}

// complaint is one thing that is not well.
type complaint struct {
	grade grade
	text  string
}

// certificate ends: renewing takes days, not minutes.
const (
	certificateWarning  = 14 * 24 * time.Hour
	certificateCritical = 3 * 24 * time.Hour
)

// complaints are what is not well, the worst first.
func (l limits) complaints(s console.Status, h console.Health) []complaint {
	var all []complaint
	add := func(g grade, format string, args ...any) {
		all = append(all, complaint{g, fmt.Sprintf(format, args...)})
	}
	if s.NotReady != "" {
		add(gradeCritical, "takes no mail: %s", s.NotReady)
	}
	for _, f := range h.Filters {
		switch {
		case !f.Down:
		case f.Shadow || f.OnError == "continue":
			add(gradeWarning, "filter %s is down, mail passes without it", f.Name)
		default:
			add(gradeCritical, "filter %s is down: %s", f.Name, f.OnError)
		}
	}
	n, age := waitingMail(h)
	switch {
	case n >= l.critical:
		add(gradeCritical, "%s wait", count(n, "message"))
	case n >= l.warning:
		add(gradeWarning, "%s wait", count(n, "message"))
	}
	switch {
	case age >= l.criticalAge:
		add(gradeCritical, "the oldest message waits for %s", age)
	case age >= l.warningAge:
		add(gradeWarning, "the oldest message waits for %s", age)
	}
	for _, c := range h.Certificates {
		switch left := c.Ends.Sub(h.Time); {
		case left < certificateCritical:
			add(gradeCritical, "the certificate of %s ends on %s", c.Name, c.Ends.Format(time.DateOnly))
		case left < certificateWarning:
			add(gradeWarning, "the certificate of %s ends on %s", c.Name, c.Ends.Format(time.DateOnly))
		}
	}
	if s.State.Away != "" {
		add(gradeWarning, "%s is away: %s", s.State.Name, s.State.Away)
	}
	for _, d := range s.Daemons {
		if d.Late {
			add(gradeWarning, "the signatures of %s are late", d.Filter)
		}
	}
	for _, list := range h.Lists {
		if list.Down {
			add(gradeWarning, "the list %s is switched off", list.Name)
		}
	}
	slices.SortStableFunc(all, func(a, b complaint) int { return cmp.Compare(b.grade, a.grade) })
	return all
}

// waitingMail is what waits for delivery: what is held waits for people.
func waitingMail(h console.Health) (n int, oldest time.Duration) {
	for _, l := range h.Lanes {
		if l.Lane == "hold" || l.Lane == "corrupt" {
			continue
		}
		n += l.Messages
		if !l.Oldest.IsZero() {
			oldest = max(oldest, h.Time.Sub(l.Oldest).Round(time.Second))
		}
	}
	return n, oldest
}

// figures are the performance data of a Nagios plugin.
func (l limits) figures(h console.Health) string {
	n, age := waitingMail(h)
	held, down := 0, 0
	for _, lane := range h.Lanes {
		if lane.Lane == "hold" {
			held = lane.Messages
		}
	}
	for _, f := range h.Filters {
		if f.Down {
			down++
		}
	}
	return fmt.Sprintf("queue=%d;%d;%d;0 oldest=%ds;%d;%d;0 held=%d;;;0 filters_down=%d;;;0;%d connections=%d;;;0 spool_free=%.0fB;;;0",
		n, l.warning, l.critical, int(age.Seconds()), int(l.warningAge.Seconds()), int(l.criticalAge.Seconds()), held, down, len(h.Filters), h.Connections, h.SpoolFree)
}

// statusCheck is a plugin of Nagios: a line, figures, and an exit code.
func (a *app) statusCheck(l limits) error {
	if err := l.validate(); err != nil {
		return a.plugin(gradeUnknown, err.Error(), "")
	}
	cfg, err := a.load()
	if err != nil {
		return a.plugin(gradeUnknown, "the configuration can't be read: "+err.Error(), "")
	}
	client := console.NewClient(cfg.Control)
	s, err := asked(context.Background(), client.Status)
	if err != nil {
		return a.plugin(gradeCritical, fmt.Sprintf("no gateway answers on %s: %v", cfg.Control, err), "")
	}
	h, err := asked(context.Background(), client.Health)
	if err != nil {
		return a.plugin(gradeCritical, fmt.Sprintf("the gateway does not tell how it is: %v", err), "")
	}
	found := l.complaints(s, h)
	if len(found) > 0 {
		texts := make([]string, len(found))
		for i, c := range found {
			texts[i] = c.text
		}
		return a.plugin(found[0].grade, strings.Join(texts, "; "), l.figures(h))
	}
	n, _ := waitingMail(h)
	return a.plugin(gradeOK, fmt.Sprintf("%s wait, %s up", count(n, "message"), count(len(h.Filters), "filter")), l.figures(h))
}

// plugin prints what such a plugin says. A bar in its text would begin figures.
func (a *app) plugin(g grade, text, figures string) error {
	text = strings.ReplaceAll(line(text), "|", "/")
	if a.json {
		if err := a.printJSON(map[string]any{"state": g.String(), "text": text, "figures": figures}); err != nil {
			return err
		}
	} else {
		if figures != "" {
			text += " | " + figures
		}
		fmt.Fprintf(a.out, "GATEPOST %s - %s\n", g, text)
	}
	if g == gradeOK {
		return nil
	}
	return silent(int(g))
}
