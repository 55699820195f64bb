package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"gatepost/internal/tomltext"
)

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

func clockOf(t time.Time) Clock {
	return Clock{Hour: t.Hour(), Minute: t.Minute(), Weekday: weekdays[t.Weekday()], Date: t.Format(time.DateOnly)}
}

// hours is a condition on the time: one of its spans.
type hours []hourSpan

// hourSpan is "mon-fri 08:00-18:00": days, all where none are named, and minutes
// of a day. A span over midnight belongs to the day that it begins on.
type hourSpan struct {
	days     [7]bool
	from, to int
}

func (h hours) holds(r *Run) (bool, error) {
	day, minute := int(r.now.Weekday()), r.now.Hour()*60+r.now.Minute()
	return slices.ContainsFunc(h, func(s hourSpan) bool {
		if s.from < s.to {
			return s.days[day] && minute >= s.from && minute < s.to
		}
		return s.days[day] && minute >= s.from || s.days[(day+6)%7] && minute < s.to
	}), nil
}

// readHours reads the key time.
func readHours(s section) hours {
	if !s.has("time") {
		return nil
	}
	var all hours
	for _, text := range s.texts("time") {
		h, err := parseHours(text)
		if err != nil {
			s.wrongErr("time", err)
			continue
		}
		all = append(all, h)
	}
	return all
}

func parseHours(text string) (hourSpan, error) {
	h := hourSpan{to: 24 * 60}
	words := strings.Fields(strings.ToLower(text))
	if len(words) == 0 || len(words) > 2 {
		return h, fmt.Errorf(`%q is no time; write "mon-fri 08:00-18:00"`, clip(text))
	}
	days := true
	for i, word := range words {
		if strings.Contains(word, ":") {
			var err error
			if h.from, h.to, err = parseMinutes(word); err != nil {
				return h, err
			}
			continue
		}
		if i > 0 {
			return h, fmt.Errorf(`%q is no time of a day; write "08:00-18:00"`, clip(word))
		}
		days = false
		if err := h.parseDays(word); err != nil {
			return h, err
		}
	}
	if days {
		h.days = [7]bool{true, true, true, true, true, true, true}
	}
	return h, nil
}

func (h *hourSpan) parseDays(word string) error {
	for _, part := range strings.Split(word, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, to := slices.Index(weekdays, first), slices.Index(weekdays, last)
		for i, name := range []string{first, last} {
			if slices.Index(weekdays, name) < 0 && (i == 0 || isRange) {
				return fmt.Errorf("%q is no day; %s", clip(name), tomltext.DidYouMean(name, weekdays))
			}
		}
		for d := from; ; d = (d + 1) % 7 {
			h.days[d] = true
			if d == to {
				break
			}
		}
	}
	return nil
}

func parseMinutes(word string) (from, to int, err error) {
	bad := fmt.Errorf(`%q is no time of a day; write "08:00-18:00"`, clip(word))
	a, b, ok := strings.Cut(word, "-")
	if !ok {
		return 0, 0, bad
	}
	for i, text := range []string{a, b} {
		hour, minute, _ := strings.Cut(text, ":")
		h, errHour := strconv.Atoi(hour)
		m, errMinute := strconv.Atoi(minute)
		if errHour != nil || errMinute != nil || h < 0 || m < 0 || m > 59 || h*60+m > 24*60 {
			return 0, 0, bad
		}
		if i == 0 {
			from = h*60 + m
		} else {
			to = h*60 + m
		}
	}
	if from == to {
		return 0, 0, fmt.Errorf("%q is no time at all; leave it out for the whole day", clip(word))
	}
	return from, to, nil
}

// moment is when a mail came: tests and recorded mail have times of their own.
func moment(start time.Time) time.Time {
	if start.IsZero() {
		return time.Now()
	}
	return start
}
