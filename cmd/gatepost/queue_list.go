package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"gatepost/internal/console"
)

func (a *app) queueListCommand() *cobra.Command {
	var f console.Filter
	c := &cobra.Command{
		Use:   "list [ID… | -]",
		Short: "List messages, the oldest first",
		Long: `Lists messages as mailq does, the oldest first: "*" behind an ID means that it is
being delivered, "!" that it is held. In brackets is why it waits; a recipient
that has the message is not shown.

With -j it prints one JSON object a line, with the keys of "postqueue -j" and
more; queue_name is the lane. Filters that are given together must all hold.`,
		Example: `  gatepost queue list --domain example.com --older 4h
  gatepost queue list --lane hold --score-above 10
  gatepost queue list -j --null-sender | jq -r .recipients[].address`,
		RunE: func(_ *cobra.Command, args []string) (err error) {
			if err := f.Validate(); err != nil {
				return err
			}
			if f.IDs, err = a.readIDs(args); err != nil {
				return err
			}
			if len(args) > 0 && len(f.IDs) == 0 { // none on standard input: not all of them
				return a.printList(func(func(console.Message) error) error { return nil })
			}
			return a.withQueue(func(ctx context.Context, q admin) error {
				return a.printList(func(yield func(console.Message) error) error { return q.List(ctx, f, yield) })
			})
		},
		ValidArgsFunction: a.completeID,
	}
	filterFlags(c.Flags(), &f)
	completeFilters(c)
	return c
}

func (a *app) printList(each func(yield func(console.Message) error) error) error {
	out := bufio.NewWriter(a.out)
	table := mailq{w: out}
	err := each(func(m console.Message) error { return a.printMessage(&table, m) })
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

// printMessage prints one message of a list.
func (a *app) printMessage(table *mailq, m console.Message) error {
	if !a.json {
		return table.message(m)
	}
	m.Sender = senderName(m) // as postqueue has it
	return writeJSON(table.w, m)
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

// nullSender is how the sender of notifications is shown, who is none.
const nullSender = "MAILER-DAEMON"

func senderName(m console.Message) string {
	if m.Sender == "" {
		return nullSender
	}
	return m.Sender
}
