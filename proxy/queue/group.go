package queue

import "time"

// Grouper is what a Deliverer may be as well: it names the group of routes that
// a destination belongs to ("local", "internal", "remote", …). A destination
// without one has the settings of [queue].
type Grouper interface {
	Group(dest string) string
}

// Group is what differs for one group of routes; zero means as in [queue].
type Group struct {
	// MaxDeliveries is how many deliveries to the destinations of the group run
	// at a time; 0 means as many as in total.
	MaxDeliveries int `toml:"max_deliveries"`
	// MaxPerDestination is how many of them go to one destination.
	MaxPerDestination int `toml:"max_per_destination"`
	// FirstRetry is the time from the first attempt to the second one.
	FirstRetry time.Duration `toml:"first_retry"`
	// MaxRetry is the longest time between two attempts.
	MaxRetry time.Duration `toml:"max_retry"`
	// MaxAge is how long a message is tried before it goes back to its sender.
	MaxAge time.Duration `toml:"max_age"`
	// SlowAfter is the age at which a message moves to the slow lane.
	SlowAfter time.Duration `toml:"slow_after"`
	// BounceSlowAfter is the same for our own notifications.
	BounceSlowAfter time.Duration `toml:"bounce_slow_after"`
	// SlowFirstRetry and SlowMaxRetry are the schedule of the slow lane.
	SlowFirstRetry time.Duration `toml:"slow_first_retry"`
	SlowMaxRetry   time.Duration `toml:"slow_max_retry"`
}
