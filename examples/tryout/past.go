package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"gatepost/internal/testkit"
)

// historyPatience is how long the history may take to have a message: it is
// written behind the answer.
const historyPatience = 10 * time.Second

// ask runs a command of the gateway until its answer is complete, or until
// patience ends; what it answers then will do, unless it failed.
func (s *site) ask(ctx context.Context, complete func(testkit.CLIResult) bool, args ...string) (testkit.CLIResult, error) {
	for end := time.Now().Add(historyPatience); ; {
		res, err := s.gateway.Run(args...)
		if err != nil || ctx.Err() != nil {
			return res, cmp.Or(err, ctx.Err())
		}
		if complete(res) {
			return res, nil
		}
		if time.Now().After(end) {
			if res.Code != 0 {
				return res, fmt.Errorf("gatepost %s: exit %d: %s", strings.Join(args, " "), res.Code, res.Stderr)
			}
			return res, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// explained is what is used of "gatepost explain --json".
type explained struct {
	Records []struct {
		Rules []struct {
			Rule, Where, Did string
			Observe          bool
		}
	}
}

// askRules asks the gateway which policy rules matched each message.
func (s *site) askRules(ctx context.Context, rows []row) error {
	for i := range rows {
		if rows[i].id == "" {
			continue // refused before it was a message
		}
		res, err := s.ask(ctx, func(r testkit.CLIResult) bool { return r.Code == 0 }, "explain", "--json", rows[i].id)
		if err != nil {
			return err
		}
		var told explained
		if err := json.Unmarshal([]byte(res.Stdout), &told); err != nil {
			return fmt.Errorf("gatepost explain %s: %w", rows[i].id, err)
		}
		rows[i].rules = told.policies()
	}
	return nil
}

// policies are the hits of rule files; others are of the access map.
func (e explained) policies() (said []string) {
	for _, record := range e.Records {
		for _, r := range record.Rules {
			file, _, _ := strings.Cut(filepath.Base(r.Where), ":")
			if filepath.Ext(file) != ".toml" {
				continue
			}
			does := "did"
			if r.Observe {
				does = "only watches, would do"
			}
			said = append(said, fmt.Sprintf("rule %s (%s) %s: %s", r.Rule, filepath.Base(r.Where), does, r.Did))
		}
	}
	return said
}

// printHistory prints what "gatepost trace" answers.
func (s *site) printHistory(ctx context.Context, w io.Writer, rows int) error {
	all := func(r testkit.CLIResult) bool { return r.Code == 0 && strings.Count(r.Stdout, "\n") > rows }
	res, err := s.ask(ctx, all, "trace", "--since", "1h")
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "\nThe same in the history, as \"gatepost trace --since 1h\" lists it:\n\n%s", res.Stdout)
	if !strings.HasSuffix(res.Stdout, "\n") {
		fmt.Fprintln(w)
	}
	return nil
}

// explainable is the message to look at first: one that is held, else the last.
func explainable(rows []row) (id string) {
	for _, r := range rows {
		if r.now == "held" {
			return r.id
		}
		if r.id != "" {
			id = r.id
		}
	}
	return id
}
