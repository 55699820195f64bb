package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"gatepost/internal/testkit"
)

// row is what became of one message.
type row struct {
	what, now, why, answer string

	id    string
	rules []string // that matched, with what they did
}

// samples in the order of the table.
var samples = []struct{ file, what, from, to string }{
	{"clean.eml", "a clean note", "ann@sender.example", "you@example.com"},
	{"gtube.eml", "GTUBE, the spam test", "spam@sender.example", "you@example.com"},
	{"eicar.eml", "EICAR, the virus test, in a zip", "virus@sender.example", "you@example.com"},
	{"exe-in-zip.eml", "an .exe in a zip", "billing@sender.example", "you@example.com"},
	{"forged-sender.eml", "a forged sender: the boss", "boss@example.com", "you@example.com"},
	{"gift-cards.eml", "what a rule of ours holds", "boss@sender.example", "you@example.com"},
	{"newsletter.eml", "what a rule of ours watches", "news@sender.example", "you@example.com"},
	{"clean.eml", "for a domain that is not ours", "ann@sender.example", "someone@elsewhere.example"},
}

// sendAll sends the samples from outside, one after the other.
func (s *site) sendAll(ctx context.Context, folder string) ([]row, error) {
	var rows []row
	for _, sample := range samples {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		text, err := os.ReadFile(filepath.Join(folder, sample.file))
		if err != nil {
			return nil, err
		}
		data := testkit.Expand(text)
		logged := len(s.gateway.Log())
		res := testkit.Send(s.gateway.Addr, testkit.Letter{From: sample.from, To: []string{sample.to}, Data: data, Args: "BODY=8BITMIME"})
		if res.Err != nil {
			return nil, fmt.Errorf("send %s: %w", sample.file, res.Err)
		}
		d := s.decision(logged)
		now := s.whereIs(res, d, headerOf(string(data), "Message-ID"))
		rows = append(rows, row{what: sample.what, now: now, why: d.why(), answer: res.Reply.String(), id: d.ID})
	}
	return rows, s.askRules(ctx, rows)
}

// decision is the gateway's log line about one message, or about a recipient
// that was refused before.
type decision struct {
	ID, Action, Reason, Reply string
	Score                     float64
}

// decision waits for the line that the gateway logs behind that place.
func (s *site) decision(from int) decision {
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		for line := range strings.Lines(s.gateway.Log()[from:]) {
			var d decision
			if json.Unmarshal([]byte(line), &d) == nil && (d.Action != "" || d.Reason != "") && d.Reply != "" {
				return d
			}
		}
	}
	return decision{}
}

func (d decision) why() string {
	if d.Reason != "" {
		return d.Reason
	}
	return fmt.Sprintf("nothing found, score %.1f", d.Score)
}

// whereIs waits for a message that was accepted.
func (s *site) whereIs(res testkit.Result, d decision, messageID string) string {
	if !res.Accepted() {
		return "refused"
	}
	if d.Action == "quarantine" {
		return "held"
	}
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if file := s.mailbox.find(messageID); file != "" {
			return "delivered"
		}
	}
	return "in queue"
}

// printTable prints for each message what we know, what its sender was told, and
// which rules matched.
func printTable(w io.Writer, rows []row) {
	const format = "%-33s %-10s %s\n"
	fmt.Fprintf(w, format, "MESSAGE", "NOW", "WHY, AND WHAT THE SENDER WAS TOLD")
	for _, r := range rows {
		fmt.Fprintf(w, format, r.what, r.now, r.why)
		fmt.Fprintf(w, format, "", "", "> "+r.answer)
		for _, rule := range r.rules {
			fmt.Fprintf(w, format, "", "", "* "+rule)
		}
	}
}
