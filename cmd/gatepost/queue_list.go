package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"time"

	"gatepost/internal/console"
)

func (a *app) queueList(ctx context.Context, q admin, f console.Filter) error {
	out := bufio.NewWriter(a.out)
	table := mailq{w: out}
	err := q.List(ctx, f, func(m console.Message) error {
		if a.json {
			line := app{out: out}
			return line.printJSON(m)
		}
		return table.message(m)
	})
	if err != nil {
		_ = out.Flush()
		return queueError(err)
	}
	if !a.json {
		table.total()
	}
	if err := out.Flush(); err != nil {
		return exit(exitSystem, "writing: %w", err)
	}
	return nil
}

// mailq prints the list in the form that scripts know from Postfix.
type mailq struct {
	w        io.Writer
	messages int
	bytes    int64
}

const (
	idWidth   = 24           // of an ID with its mark
	addressAt = idWidth + 31 // below the sender
)

func (t *mailq) message(m console.Message) error {
	if t.messages == 0 {
		fmt.Fprintf(t.w, "%-*s --Size-- ----Arrival Time---- -Sender/Recipient-------\n", idWidth, "-Queue ID-")
	}
	t.messages++
	t.bytes += m.Size
	mark := ""
	switch {
	case m.Lane == console.Held:
		mark = "!"
	case m.Active:
		mark = "*"
	}
	arrival := time.Unix(m.Arrival, 0).Format("Mon Jan _2 15:04:05")
	fmt.Fprintf(t.w, "%-*s %8d %-20s %s\n", idWidth, m.ID+mark, m.Size, arrival, line(senderName(m)))
	if m.Reason != "" {
		fmt.Fprintf(t.w, "%*s(%s)\n", idWidth, "", line(m.Reason))
	}
	last := ""
	for _, r := range m.Recipients {
		if r.Reason != last {
			fmt.Fprintf(t.w, "%*s(%s)\n", idWidth, "", line(r.Reason))
			last = r.Reason
		}
		fmt.Fprintf(t.w, "%*s%s\n", addressAt, "", line(r.Address))
	}
	_, err := fmt.Fprintln(t.w)
	return err
}

func (t *mailq) total() {
	if t.messages == 0 {
		fmt.Fprintln(t.w, "Mail queue is empty")
		return
	}
	fmt.Fprintf(t.w, "-- %d Kbytes in %s.\n", (t.bytes+1023)/1024, count(t.messages, "Request"))
}

// senderName is the sender; notifications have none.
func senderName(m console.Message) string {
	if m.Sender == "" {
		return "MAILER-DAEMON"
	}
	return m.Sender
}
