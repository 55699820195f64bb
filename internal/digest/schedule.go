package digest

import (
	"strings"
	"time"
)

var weekdays = map[string]time.Weekday{
	"sunday": time.Sunday, "monday": time.Monday, "tuesday": time.Tuesday, "wednesday": time.Wednesday,
	"thursday": time.Thursday, "friday": time.Friday, "saturday": time.Saturday,
}

// slot is the last moment up to now at which digests were due: one for each day of
// the calendar, also where a change of the clock skips that time of day or has
// it twice.
func (c *Config) slot(now time.Time) time.Time {
	at, _ := time.Parse("15:04", c.At) // it was validated
	y, m, d := now.Date()
	due := time.Date(y, m, d, at.Hour(), at.Minute(), 0, 0, now.Location())
	if due.After(now) {
		due = time.Date(y, m, d-1, at.Hour(), at.Minute(), 0, 0, now.Location())
	}
	return due
}

// weekSlot is the same for weekly ones.
func (c *Config) weekSlot(now time.Time) time.Time {
	due := c.slot(now)
	back := (int(due.Weekday()) - int(weekdays[strings.ToLower(c.Weekday)]) + 7) % 7
	y, m, d := due.Date()
	return time.Date(y, m, d-back, due.Hour(), due.Minute(), 0, 0, due.Location())
}

// since returns from when on messages are new to a recipient who was told last at
// told, zero where that is not known; ok is false where it is not due.
func (c *Config) since(e Every, told, now time.Time) (from time.Time, ok bool) {
	due, period := c.slot(now), 24*time.Hour
	switch e {
	case Daily:
	case Weekly:
		week := c.weekSlot(now)
		if told.IsZero() && !week.Equal(due) {
			return time.Time{}, false // the first comes on its day
		}
		due, period = week, 7*24*time.Hour
	default:
		return time.Time{}, false
	}
	if told.IsZero() {
		return due.Add(-period), true
	}
	return told, told.Before(due)
}
