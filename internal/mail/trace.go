package mail

import "strings"

// MaxPasses is how often a message may come through one host before that is a
// loop.
const MaxPasses = 5

// Passes counts the Received fields that a host has added: "by HOST" (RFC 5321
// 4.4).
func (h Header) Passes(host string) int {
	n := 0
	for _, f := range h {
		if f.Is("Received") && receivedBy(f.Value(), host) {
			n++
		}
	}
	return n
}

func receivedBy(value, host string) bool {
	words := strings.Fields(value)
	for i, w := range words {
		if i > 0 && strings.EqualFold(words[i-1], "by") && strings.EqualFold(strings.TrimRight(w, ";."), host) {
			return true
		}
	}
	return false
}
