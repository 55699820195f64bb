package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// Query chooses entries; what is set must hold.
type Query struct {
	Who    string    `json:"who,omitempty"`
	ID     string    `json:"id,omitempty"`   // of a message
	What   string    `json:"what,omitempty"` // part of it
	Since  time.Time `json:"since,omitzero"`
	Before time.Time `json:"before,omitzero"`
	Limit  int       `json:"limit,omitempty"` // 0: 100
}

const (
	usual = 100
	most  = 10_000
)

func (q *Query) wants(e *Entry) bool {
	return (q.Who == "" || strings.EqualFold(q.Who, e.Who)) && (q.ID == "" || slices.Contains(e.IDs, q.ID)) &&
		(q.What == "" || strings.Contains(e.What, q.What)) && (q.Before.IsZero() || e.Time.Before(q.Before))
}

// Read returns the newest entries that q chooses, the newest first. Lines that
// are damaged are left out. A file that is not there has none.
func Read(path string, q Query) ([]Entry, error) {
	limit := q.Limit
	if limit <= 0 {
		limit = usual
	}
	limit = min(limit, most)
	found := []Entry{}
	for n := 0; n <= keep; n++ {
		text, err := os.ReadFile(aside(path, n))
		if errors.Is(err, os.ErrNotExist) {
			if n == 0 {
				continue // it was put aside a moment ago
			}
			break
		}
		if err != nil {
			return nil, fmt.Errorf("audit: %w", err)
		}
		more := true
		if found, more = backwards(text, q, limit, found); !more {
			break
		}
	}
	return found, nil
}

// backwards reads the lines of one file from its end. more is false when there is
// nothing to look for in older ones.
func backwards(text []byte, q Query, limit int, found []Entry) (_ []Entry, more bool) {
	for len(text) > 0 {
		text = bytes.TrimRight(text, "\n")
		start := bytes.LastIndexByte(text, '\n') + 1
		line := text[start:]
		text = text[:start]
		var e Entry
		if json.Unmarshal(line, &e) != nil {
			continue
		}
		if !q.Since.IsZero() && e.Time.Before(q.Since) {
			return found, false
		}
		if q.wants(&e) {
			if found = append(found, e); len(found) == limit {
				return found, false
			}
		}
	}
	return found, true
}
