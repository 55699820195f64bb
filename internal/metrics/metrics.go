// Package metrics counts what the gateway does, for Prometheus. Its methods are
// the Stats that proxy, filters and queue ask for. No label ever holds an
// address, a domain of mail, or an ID: what a stranger chooses must not make
// time series.
package metrics

import (
	"net/http"
	"runtime"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics is a registry of its own with all the gateway's metrics.
type Metrics struct {
	registry *prometheus.Registry

	reloadOK   prometheus.Gauge
	reloadTime prometheus.Gauge

	connectionsActive *prometheus.GaugeVec
	connections       *prometheus.CounterVec
	messages          *prometheus.CounterVec
	recipients        *prometheus.CounterVec
	logins            *prometheus.CounterVec
	recipientAnswers  *prometheus.CounterVec
	guesses           *prometheus.CounterVec
	messageSize       prometheus.Histogram

	filterDuration *prometheus.HistogramVec
	filterResults  *prometheus.CounterVec
	filterUp       *prometheus.GaugeVec

	deliveries       *prometheus.CounterVec
	deliveryDuration *prometheus.HistogramVec
	rescans          *prometheus.CounterVec
	notifications    *prometheus.CounterVec
	storeErrors      *prometheus.CounterVec
	records          *prometheus.CounterVec
	spans            *prometheus.CounterVec
	milterReplies    *prometheus.CounterVec
	releases         *prometheus.CounterVec
	logLost          *prometheus.CounterVec
	dnsQueries       *prometheus.CounterVec

	reputation
	*scanners
}

// New makes the metrics of a gateway of that version.
func New(version string) *Metrics {
	m := &Metrics{
		registry:          prometheus.NewRegistry(),
		reloadOK:          gauge("config_last_reload_successful", "1 when the last reading of the configuration was good, 0 when it was refused."),
		reloadTime:        gauge("config_last_reload_success_timestamp_seconds", "When the configuration in use was read."),
		connectionsActive: gauges("connections_active", "Open SMTP connections.", "listener"),
		connections:       counters("connections_total", "SMTP connections by what became of them at once.", "listener", "result"),
		messages:          counters("messages_total", "Messages by the answer to them.", "listener", "action", "reason"),
		recipients:        counters("recipients_total", "Answers to RCPT.", "listener", "action"),
		logins:            counters("logins_total", "Ends of AUTH.", "listener", "mech", "result"),
		recipientAnswers:  counters("recipient_answers_total", "Answers to whether there is a recipient, by source.", "source", "result"),
		guesses:           counters("recipient_guesses_total", "What was done about clients that ask for recipients that there are not.", "action"),
		messageSize: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: prefix + "message_size_bytes", Help: "Sizes of answered messages.",
			Buckets: prometheus.ExponentialBuckets(1<<10, 4, 9), // 1 kB to 64 MB
		}),
		filterDuration:   durations("filter_duration_seconds", "Time that a filter took for a message.", "filter"),
		filterResults:    counters("filter_results_total", "Messages by how a filter's look at them ended.", "filter", "result"),
		filterUp:         gauges("filter_up", "1 while a filter answers, 0 while it is left alone after failures.", "filter"),
		deliveries:       counters("delivery_attempts_total", "Delivery attempts, by recipient.", "route", "result"),
		rescans:          counters("rescans_total", "Messages that waited for a filter, by what became of them.", "result"),
		deliveryDuration: durations("delivery_duration_seconds", "Time that a delivery took.", "route"),
		notifications:    counters("notifications_total", "Delivery status notifications, by whether the sender is told.", "kind", "result"),
		logLost:          counters("log_lost_lines_total", "Lines of the log that a slow or absent log host did not get.", "output"),
		dnsQueries:       counters("dns_queries_total", "Questions that DNS servers were asked.", "kind", "result"),
		storeErrors:      counters("store_errors_total", "Calls that the shared or embedded store did not answer, so that memory did.", "store", "op"),
	}
	m.records = counters("history_records_total", "What the history was to keep: written, full (its line was), failed, panic.", "result")
	m.spans = counters("trace_spans_total", "Spans of traces: sent, failed (the collector did not take them).", "result")
	m.milterReplies = counters("milter_replies_total", "What milters said at a stage, and what we said to MTAs as one.", "milter", "stage", "reply")
	m.releases = counters("quarantine_releases_total", "Messages that were let out of the quarantine: by an operator, or by a recipient.", "by")
	m.registry.MustRegister(m.records, m.spans, m.milterReplies, m.releases)
	m.reputation = newReputation(m.registry)
	m.scanners = newScanners(m.registry)
	m.registry.MustRegister(
		m.reloadOK, m.reloadTime, m.connectionsActive, m.connections, m.messages, m.recipients, m.logins, m.recipientAnswers, m.guesses, m.messageSize,
		m.filterDuration, m.filterResults, m.filterUp, m.deliveries, m.deliveryDuration, m.rescans, m.notifications, m.storeErrors, m.logLost, m.dnsQueries, buildInfo(version),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return m
}

const prefix = "gatepost_"

func gauge(name, help string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{Name: prefix + name, Help: help})
}

func gauges(name, help string, labels ...string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: prefix + name, Help: help}, labels)
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + name, Help: help}, labels)
}

// durations has buckets from a millisecond to the minutes that a slow scanner
// or next hop takes.
func durations(name, help string, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: prefix + name, Help: help,
		Buckets: []float64{.001, .003, .01, .03, .1, .3, 1, 3, 10, 30, 100, 300},
	}, labels)
}

func buildInfo(version string) prometheus.Collector {
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: prefix + "build_info", Help: "Always 1; the labels say what runs.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
	})
	g.Set(1)
	return g
}

// Handler serves the metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second})
}

// Reloaded notes that the configuration was read at now, and whether it was
// good.
func (m *Metrics) Reloaded(now time.Time, ok bool) {
	if !ok {
		m.reloadOK.Set(0)
		return
	}
	m.reloadOK.Set(1)
	m.reloadTime.Set(float64(now.Unix()))
}

// Connection counts a connection by what became of it at once.
func (m *Metrics) Connection(listener, result string) {
	m.connections.WithLabelValues(listener, result).Inc()
}

// Active changes the number of open connections.
func (m *Metrics) Active(listener string, delta int) {
	m.connectionsActive.WithLabelValues(listener).Add(float64(delta))
}

// Message counts an answered message.
func (m *Metrics) Message(listener, action, reason string, size int64) {
	m.messages.WithLabelValues(listener, action, reason).Inc()
	m.messageSize.Observe(float64(size))
}

// Recipient counts the answer to a RCPT command.
func (m *Metrics) Recipient(listener, action string) {
	m.recipients.WithLabelValues(listener, action).Inc()
}

// Login counts the end of an AUTH.
func (m *Metrics) Login(listener, mech, result string) {
	m.logins.WithLabelValues(listener, mech, result).Inc()
}

// Filter counts a check by how it ended, with its time unless the filter was
// not even asked.
func (m *Metrics) Filter(name, result string, took time.Duration) {
	m.filterResults.WithLabelValues(name, result).Inc()
	if took > 0 {
		m.filterDuration.WithLabelValues(name).Observe(took.Seconds())
	}
}

// FilterUp tells whether a filter answers.
func (m *Metrics) FilterUp(name string, up bool) {
	v := 0.0
	if up {
		v = 1
	}
	m.filterUp.WithLabelValues(name).Set(v)
}

// Attempt counts a delivery attempt for one recipient. A destination is a route
// and, behind a space, the domain that it was found for: a stranger chose that.
func (m *Metrics) Attempt(destination, result string, took time.Duration) {
	route, _, _ := strings.Cut(destination, " ")
	m.deliveries.WithLabelValues(route, result).Inc()
	m.deliveryDuration.WithLabelValues(route).Observe(took.Seconds())
}

// Notification counts a notification that a sender is to have, or why not.
func (m *Metrics) Notification(kind, result string) {
	m.notifications.WithLabelValues(kind, result).Inc()
}

// Rescanned counts what became of a message that waited for a filter.
func (m *Metrics) Rescanned(result string) { m.rescans.WithLabelValues(result).Inc() }

// StoreError counts a call that the store of windows, lists and rates did not
// answer.
func (m *Metrics) StoreError(store, op string) { m.storeErrors.WithLabelValues(store, op).Inc() }

// LogLost counts a line that an output of the log did not get.
func (m *Metrics) LogLost(output string) { m.logLost.WithLabelValues(output).Inc() }

// DNSQuery counts a question that DNS servers were asked.
func (m *Metrics) DNSQuery(kind, result string) { m.dnsQueries.WithLabelValues(kind, result).Inc() }
