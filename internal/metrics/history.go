package metrics

// Recorded counts what the history was to keep, by what became of that.
func (m *Metrics) Recorded(result string, n int) { m.records.WithLabelValues(result).Add(float64(n)) }

// Spans counts spans of traces by what became of them: sent, failed.
func (m *Metrics) Spans(result string, n int) { m.spans.WithLabelValues(result).Add(float64(n)) }

// MilterReply counts what a milter said, or what we said to an MTA as one.
func (m *Metrics) MilterReply(milter, stage, reply string) {
	m.milterReplies.WithLabelValues(milter, stage, reply).Inc()
}

// Released counts messages that were let out of the quarantine.
func (m *Metrics) Released(by string, n int) { m.releases.WithLabelValues(by).Add(float64(n)) }
