package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"gatepost/internal/config"
	"gatepost/internal/history"
	"gatepost/internal/mail"
)

func (a *app) explainCommand() *cobra.Command {
	var f scanFlags
	c := &cobra.Command{
		Use:   "explain ID|MESSAGE-ID|FILE",
		Short: "Tell what was decided about a message, why, and what became of it",
		Long: `Tells all that is recorded of a message: who sent it, which filters were asked and
how long each took, what they found, which rules matched and where they stand,
what was changed, what the client was told, and every attempt to deliver it.

The message is named by the ID of the log, by its Message-ID, or by a file: a
file is judged as "gatepost scan" does, with the same flags, and told the same
way.`,
		Example: `  gatepost explain 0twxBql9TCSMww3KG33XtS
  gatepost explain '<20261121.1@mail.example.org>'
  gatepost explain --ip 192.0.2.1 --from a@example.org suspicious.eml`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return a.explain(f, args[0]) },
	}
	scanEnvelope(c, &f)
	return c
}

func (a *app) explain(f scanFlags, what string) error {
	id := bareID(what)
	if mail.ValidID(id) {
		return a.withHistory(func(ctx context.Context, h history.Finder) error { return a.explainID(ctx, h, id) })
	}
	if _, err := os.Stat(what); err == nil || what == "-" {
		return a.explainFile(context.Background(), f, what)
	} else if !strings.Contains(what, "@") || !errors.Is(err, fs.ErrNotExist) {
		return exit(exitNoInput, "%q is no ID, no Message-ID, and no file: %w", what, err)
	}
	return a.withHistory(func(ctx context.Context, h history.Finder) error {
		page, err := h.Search(ctx, history.Query{MessageID: what, Descending: true, Limit: 1})
		if err != nil {
			return err
		}
		if len(page.Records) == 0 {
			return exit(exitNoInput, "Message-ID %s: %w", what, history.ErrNotFound)
		}
		return a.explainID(ctx, h, page.Records[0].ID)
	})
}

func (a *app) explainID(ctx context.Context, h history.Finder, id string) error {
	life, err := h.Life(ctx, id)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(life)
	}
	return a.printLife(life)
}

// explainFile judges a file, and tells it as if it were recorded.
func (a *app) explainFile(ctx context.Context, f scanFlags, name string) error {
	cfg, err := config.LoadForScan(a.file)
	if err != nil {
		return because(err)
	}
	s, err := newScanner(cfg, f, a)
	if err != nil {
		return err
	}
	defer s.routes.Close()
	r, err := s.file(ctx, name)
	if err != nil {
		return because(err)
	}
	if a.json {
		err = a.printJSON(history.Life{Records: []history.Record{r.record}})
	} else {
		err = a.printLife(history.Life{Records: []history.Record{r.record}})
	}
	if code := worst([]scanResult{r}); err == nil && code != exitOK {
		return silent(code)
	}
	return err
}
