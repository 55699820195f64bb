package mail

import (
	"crypto/rand"
	"time"
)

// idAlphabet is in ASCII order, so that IDs sort by time, and has no vowels,
// so that none spells a word.
const idAlphabet = "0123456789BCDFGHJKLMNPQRSTVWXZbcdfghjklmnpqrstvwxz"

const (
	idTimeDigits   = 10 // 50^10 microseconds: enough until the year 5064
	idRandomDigits = 12 // 50^12 > 2^64
)

// IDLength is the length of every message ID.
const IDLength = idTimeDigits + idRandomDigits

// NewID returns a message ID: ten digits of time in microseconds, which sort,
// and twelve random ones (67 bits), so that it can't be guessed.
func NewID(now time.Time) string {
	base := uint64(len(idAlphabet))
	var id [IDLength]byte
	t := uint64(now.UnixMicro())
	for i := idTimeDigits - 1; i >= 0; i-- {
		id[i] = idAlphabet[t%base]
		t /= base
	}
	var random [idRandomDigits]byte
	_, _ = rand.Read(random[:]) // crypto/rand.Read never fails (Go 1.24)
	for i, b := range random {
		// 256 % 50 favours the first six letters a little; 12 digits still
		// hold more than 64 bits of entropy.
		id[idTimeDigits+i] = idAlphabet[uint64(b)%base]
	}
	return string(id[:])
}

// ValidID reports whether s has the form of a message ID. What comes from a
// command line or a file name is asked before it is used as one.
func ValidID(s string) bool {
	if len(s) != IDLength {
		return false
	}
	for i := 0; i < len(s); i++ {
		if !isIDDigit(s[i]) {
			return false
		}
	}
	return true
}

func isIDDigit(c byte) bool {
	for i := 0; i < len(idAlphabet); i++ {
		if idAlphabet[i] == c {
			return true
		}
	}
	return false
}
