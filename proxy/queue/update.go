package queue

import "fmt"

// Update takes over another configuration. What waits keeps its time; from its
// next attempt on it goes by the new one.
func (q *Queue) Update(cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	q.live.Store(&cfg)
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, g := range q.groups {
		g.adopt(&cfg)
	}
	for _, d := range q.dests { // their routes may be of another group now
		d.group = q.groupOf(d.name)
		q.list(d)
	}
	q.recall()
	q.employ(cfg.MaxDeliveries)
	return nil
}
