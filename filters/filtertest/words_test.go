package filtertest_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"gatepost/filters"
	"gatepost/filters/filtertest"
	"gatepost/internal/mail"
)

// Words finds words in messages. It asks nobody.
type Words struct{ words []string }

// Step puts the filter into its place.
func (w *Words) Step() filters.Step {
	return filters.Step{Name: "words", Filter: w, Stages: []mail.Stage{mail.StageMessage}, MaxConcurrent: 100}
}

// Check reports each word once, with a score of 1.
func (w *Words) Check(ctx context.Context, tx *mail.Transaction) (filters.Report, error) {
	var r filters.Report
	found := make(map[string]bool)
	lines := bufio.NewReaderSize(tx.Message.Body(), 4<<10) // a longer line comes in pieces
	for {
		line, err := lines.ReadSlice('\n')
		for _, word := range w.words {
			if !found[word] && strings.Contains(string(line), word) {
				found[word] = true
				r.Findings = append(r.Findings, mail.Finding{Name: "word", Value: word, Score: 1})
			}
		}
		switch {
		case ctx.Err() != nil:
			return filters.Report{}, ctx.Err() // "could not tell" is an error, never clean
		case err == nil || errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF):
			return r, nil
		default:
			return filters.Report{}, fmt.Errorf("words: read the message: %w", err)
		}
	}
}

func TestWords(t *testing.T) {
	filtertest.Run(t, filtertest.Subject{
		New: func(*testing.T) filters.Step { return (&Words{words: []string{"fox", "lottery"}}).Step() },
	})
}
