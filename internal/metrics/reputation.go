package metrics

import "github.com/prometheus/client_golang/prometheus"

// reputation counts what is known of who sends. Names of lists are those of the
// configuration.
type reputation struct {
	looks   *prometheus.CounterVec
	listUp  *prometheus.GaugeVec
	blocked *prometheus.CounterVec
}

func newReputation(r *prometheus.Registry) reputation {
	m := reputation{
		looks:   counters("dnsbl_answers_total", "Answers of DNS lists.", "list", "result"),
		listUp:  gauges("dnsbl_list_up", "1 while a DNS list is asked, 0 while it is switched off.", "list"),
		blocked: counters("clients_blocked_total", "Clients that were put on the blocklist, by what for.", "what"),
	}
	r.MustRegister(m.looks, m.listUp, m.blocked)
	return m
}

// Look counts an answer of a DNS list.
func (m *reputation) Look(list, result string) { m.looks.WithLabelValues(list, result).Inc() }

// ListUp tells whether a DNS list is asked.
func (m *reputation) ListUp(list string, up bool) {
	v := 0.0
	if up {
		v = 1
	}
	m.listUp.WithLabelValues(list).Set(v)
}

// Blocked counts a client that is blocked from now on.
func (m *reputation) Blocked(what string) { m.blocked.WithLabelValues(what).Inc() }
