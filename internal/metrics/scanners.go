package metrics

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// scanners is what the daemons behind filters say of themselves.
type scanners struct {
	info, age *prometheus.Desc

	mu    sync.Mutex
	known map[string]signatures // by filter
}

type signatures struct {
	version string
	made    time.Time
}

func newScanners(r *prometheus.Registry) *scanners {
	s := &scanners{
		info:  desc("filter_info", "Always 1; the labels say what answers behind a filter.", "filter", "version"),
		age:   desc("clamav_signature_age_seconds", "Age of clamd's signatures.", "filter"),
		known: make(map[string]signatures),
	}
	r.MustRegister(s)
	return s
}

// Signatures notes the version behind a filter, and when its signatures were
// made; zero: it doesn't say. There is one series for each filter: that of an
// old version ends.
func (s *scanners) Signatures(filter, version string, made time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known[filter] = signatures{version, made}
}

// Describe is for the registry.
func (s *scanners) Describe(ch chan<- *prometheus.Desc) { ch <- s.info; ch <- s.age }

// Collect is for the registry.
func (s *scanners) Collect(ch chan<- prometheus.Metric) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for filter, k := range s.known {
		ch <- prometheus.MustNewConstMetric(s.info, prometheus.GaugeValue, 1, filter, k.version)
		if !k.made.IsZero() {
			ch <- prometheus.MustNewConstMetric(s.age, prometheus.GaugeValue, max(0, time.Since(k.made).Seconds()), filter)
		}
	}
}
