package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"gatepost/internal/testkit"
)

// row is what became of one message.
type row struct{ what, answer, why, where string }

// samples in the order of the table.
var samples = []struct{ file, what, from, to string }{
	{"clean.eml", "a clean note", "ann@sender.example", "you@example.com"},
	{"gtube.eml", "GTUBE, the spam test", "spam@sender.example", "you@example.com"},
	{"eicar.eml", "EICAR, the virus test, in a zip", "virus@sender.example", "you@example.com"},
	{"exe-in-zip.eml", "an .exe in a zip", "billing@sender.example", "you@example.com"},
	{"forged-sender.eml", "a forged sender: the boss", "boss@example.com", "you@example.com"},
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
		rows = append(rows, row{sample.what, short(res.Reply.String(), 44), short(d.why(), 60), s.whereIs(res, d, headerOf(string(data), "Message-ID"))})
	}
	return rows, nil
}

// decision is the gateway's log line about one message or recipient.
type decision struct {
	Msg, Action, Reason, Rules, Reply string
	Score                             float64
}

// decision waits for the line that the gateway logs behind that place.
func (s *site) decision(from int) decision {
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		for line := range strings.Lines(s.gateway.Log()[from:]) {
			var d decision
			if json.Unmarshal([]byte(line), &d) == nil && d.Action != "" && d.Reply != "" {
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
		return "nowhere: the sender was told"
	}
	if d.Action == "quarantine" {
		return "held in quarantine"
	}
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if file := s.mailbox.find(messageID); file != "" {
			return "delivered"
		}
	}
	return "in the queue"
}

func printTable(w io.Writer, rows []row) {
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(t, "MESSAGE\tANSWER\tWHY\tNOW")
	for _, r := range rows {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", r.what, r.answer, r.why, r.where)
	}
	_ = t.Flush() // to the screen
}

func short(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}
