package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"gatepost/filters/spamassassin"
	"gatepost/internal/config"
	"gatepost/internal/mail"
	"gatepost/proxy"
)

// learnFlags say what is learned, and from whom.
type learnFlags struct {
	lessons      map[spamassassin.Lesson]*bool
	user, filter string
}

func (a *app) learnCommand() *cobra.Command {
	f := learnFlags{lessons: make(map[spamassassin.Lesson]*bool)}
	c := &cobra.Command{
		Use:   "learn --spam|--ham|--forget|--report|--revoke FILE…",
		Short: "Tell SpamAssassin what messages are",
		Long: `Tells the spamd of the configuration what messages are; it must have been started
with --allow-tell. "-" is standard input. Files with LF at the ends of their lines
are sent with CRLF.

spamd does not say why it learned nothing: that it knew the message already, or
that it could not write its data. Exits with 69 when there is no spamd that takes
lessons, with 65 when a message is too large.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return a.learn(ctx, f, args)
		},
	}
	texts := map[spamassassin.Lesson]string{
		spamassassin.Spam: "they are spam", spamassassin.Ham: "they are wanted", spamassassin.Forget: "forget what was learned of them",
		spamassassin.Report: "they are spam; report them to the public lists that spamd is set up for", spamassassin.Revoke: "they are wanted; take reports back",
	}
	var names []string
	for _, l := range spamassassin.Lessons() {
		f.lessons[l] = c.Flags().Bool(string(l), false, texts[l])
		names = append(names, string(l))
	}
	c.MarkFlagsOneRequired(names...)
	c.MarkFlagsMutuallyExclusive(names...)
	c.Flags().StringVar(&f.user, "user", "", "the `name` of the user whose data learns (default: that of the configuration)")
	c.Flags().StringVar(&f.filter, "filter", "", "the `name` of a filter of the kind spamassassin (default: all of them)")
	return c
}

// learned is what became of one message.
type learned struct {
	File   string `json:"file"`
	Filter string `json:"filter"`
	Lesson string `json:"lesson"`
	News   bool   `json:"learned"`
}

func (a *app) learn(ctx context.Context, f learnFlags, names []string) error {
	cfg, err := config.LoadForScan(a.file)
	if err != nil {
		return because(err)
	}
	all, err := newTeachers(cfg)
	if err != nil {
		return err
	}
	var lesson spamassassin.Lesson
	for l, chosen := range f.lessons {
		if *chosen {
			lesson = l
		}
	}
	for _, name := range names {
		msg, done, err := a.letter(name, limitOf(cfg))
		if err != nil {
			return fmt.Errorf("%s: %w", line(name), err)
		}
		results, err := all.learn(ctx, f.filter, lesson, f.user, msg)
		done()
		for _, r := range results {
			r.File = name
			a.printLearned(r)
		}
		if err != nil {
			return exit(codeOfLesson(err), "%s: %w", line(name), err)
		}
	}
	return nil
}

func limitOf(cfg *config.Config) int64 {
	limit := proxy.DefaultConfig().Limits.MaxSize
	for _, l := range cfg.Listeners {
		limit = max(limit, l.Limits.MaxSize)
	}
	return limit
}

// letter reads a message of a file or standard input; done gives it back.
func (a *app) letter(name string, limit int64) (msg *mail.Message, done func(), err error) {
	var in io.Reader = a.in
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, nil, because(err)
		}
		defer f.Close()
		in = f
	}
	c, err := asSent(in, limit)
	if err != nil {
		return nil, nil, because(err)
	}
	if c.wrong != "" {
		c.file.Close()
		return nil, nil, exit(exitData, "%s", c.wrong)
	}
	if msg, err = mail.ReadMessage(c.file, c.size); err != nil {
		c.file.Close()
		return nil, nil, exit(exitData, "%w", err)
	}
	return msg, func() { c.file.Close() }, nil
}

func codeOfLesson(err error) int {
	switch {
	case errors.Is(err, spamassassin.ErrTooLarge):
		return exitData
	case errors.Is(err, errNoTeacher):
		return exitConfig
	}
	return exitUnavailable
}

func (a *app) printLearned(r learned) {
	if a.json {
		_ = a.printJSON(r) // standard output is gone: so are we
		return
	}
	what := "learned it as " + r.Lesson
	switch {
	case !r.News:
		what = "learned nothing new"
	case r.Lesson == string(spamassassin.Forget):
		what = "forgot it"
	}
	fmt.Fprintf(a.out, "%s: %s %s\n", line(r.File), r.Filter, what)
}

// teachers are the filters that learn, with their names.
type teachers []teacher

type teacher struct {
	name string
	learner
}

type learner interface {
	Learn(ctx context.Context, lesson spamassassin.Lesson, user string, m *mail.Message) (news bool, err error)
}

func newTeachers(cfg *config.Config) (teachers, error) {
	var all teachers
	for _, f := range cfg.Filters {
		if f.SpamAssassin == nil {
			continue
		}
		made, err := spamassassin.New(*f.SpamAssassin)
		if err != nil {
			return nil, because(err)
		}
		all = append(all, teacher{f.Name, made})
	}
	return all, nil
}

var errNoTeacher = errors.New("no filter of the kind spamassassin")

// learn tells all of them, or the one of that name, what a message is. It
// returns what those before the one that failed had to say.
func (all teachers) learn(ctx context.Context, name string, lesson spamassassin.Lesson, user string, m *mail.Message) ([]learned, error) {
	var results []learned
	for _, one := range all {
		if name != "" && one.name != name {
			continue
		}
		news, err := one.Learn(ctx, lesson, user, m)
		if err != nil {
			return results, err
		}
		results = append(results, learned{Filter: one.name, Lesson: string(lesson), News: news})
	}
	switch {
	case len(results) > 0:
		return results, nil
	case len(all) == 0:
		return nil, errNoTeacher
	}
	var names []string
	for _, one := range all {
		names = append(names, one.name)
	}
	slices.Sort(names)
	return nil, fmt.Errorf("%w that is called %q; there are: %s", errNoTeacher, name, strings.Join(names, " "))
}
