package metrics

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Queue is the messages of one kind in the queue.
type Queue struct {
	Messages int
	Oldest   time.Time // when the oldest was received; zero when there is none
}

// Gathered is what is asked for when somebody looks, not counted.
type Gathered struct {
	Queues    func() map[string]Queue
	SpoolFree func() (bytes float64, err error)
	// Held counts messages of the quarantine by why they are held; nil: nobody
	// knows.
	Held func() map[string]int
	// Certificates tells when those of the listeners end; nil: there are none.
	Certificates func() map[string]time.Time
	Now          func() time.Time
}

// Gather adds what is asked for when somebody looks. It is called once, before
// Handler serves.
func (m *Metrics) Gather(g Gathered) {
	m.registry.MustRegister(&gathered{
		Gathered: g,
		messages: desc("queue_messages", "Messages in the queue.", "queue"),
		oldest:   desc("queue_oldest_message_age_seconds", "Age of the oldest message in the queue.", "queue"),
		free:     desc("spool_free_bytes", "Free bytes on the disk of the spool."),
		heldOf:   desc("quarantine_messages", "Messages of the quarantine, by why they are held.", "kind"),
		ends:     desc("tls_certificate_not_after_timestamp_seconds", "When the certificate of a listener ends.", "name"),
	})
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prefix+name, help, labels, nil)
}

type gathered struct {
	Gathered
	messages, oldest, free, ends, heldOf *prometheus.Desc

	mu    sync.Mutex
	asked time.Time
	known map[string]Queue
	held  map[string]int
}

// fresh is how long what is known of the queue is good enough: to look may mean
// to read much of it.
const fresh = 5 * time.Second

func (g *gathered) queues() (map[string]Queue, map[string]int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now := g.Now(); g.known == nil || now.Sub(g.asked) >= fresh {
		g.known, g.asked = g.Queues(), now
		if g.Held != nil {
			g.held = g.Held()
		}
	}
	return g.known, g.held
}

// Describe is for the registry.
func (g *gathered) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(g, ch) }

// Collect is for the registry.
func (g *gathered) Collect(ch chan<- prometheus.Metric) {
	lanes, held := g.queues()
	for kind, n := range held {
		ch <- prometheus.MustNewConstMetric(g.heldOf, prometheus.GaugeValue, float64(n), kind)
	}
	for name, q := range lanes {
		ch <- prometheus.MustNewConstMetric(g.messages, prometheus.GaugeValue, float64(q.Messages), name)
		age := 0.0
		if !q.Oldest.IsZero() {
			age = max(0, g.Now().Sub(q.Oldest).Seconds())
		}
		ch <- prometheus.MustNewConstMetric(g.oldest, prometheus.GaugeValue, age, name)
	}
	if g.Certificates != nil {
		for name, end := range g.Certificates() {
			ch <- prometheus.MustNewConstMetric(g.ends, prometheus.GaugeValue, float64(end.Unix()), name)
		}
	}
	if free, err := g.SpoolFree(); err == nil {
		ch <- prometheus.MustNewConstMetric(g.free, prometheus.GaugeValue, free)
	}
}
