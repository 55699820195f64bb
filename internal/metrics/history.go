package metrics

// Recorded counts what the history was to keep, by what became of that.
func (m *Metrics) Recorded(result string, n int) { m.records.WithLabelValues(result).Add(float64(n)) }

// Spans counts spans of traces by what became of them: sent, failed.
func (m *Metrics) Spans(result string, n int) { m.spans.WithLabelValues(result).Add(float64(n)) }
