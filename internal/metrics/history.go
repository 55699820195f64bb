package metrics

// Recorded counts what the history was to keep, by what became of that.
func (m *Metrics) Recorded(result string, n int) { m.records.WithLabelValues(result).Add(float64(n)) }
