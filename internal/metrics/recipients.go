package metrics

// Source counts an answer of a source of recipients.
func (m *Metrics) Source(source, result string) {
	m.recipientAnswers.WithLabelValues(source, result).Inc()
}

// Guess counts what was done about a client that guesses recipients.
func (m *Metrics) Guess(action string) { m.guesses.WithLabelValues(action).Inc() }
