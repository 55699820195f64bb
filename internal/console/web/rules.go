package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"gatepost/internal/console"
	"gatepost/proxy/spool"
)

func rulesPage() page {
	return page{
		path: "/rules", title: "Rules & lists", nav: true, needs: console.ViewSystem, file: "rules.html",
		load:  (*Server).rules,
		posts: map[string]action{"apply": (*Server).rulesApply, "rollback": (*Server).rulesRollBack},
	}
}

// rulesView is what judges, how often it did, and who changed it.
type rulesView struct {
	Hits        []console.RuleHit
	Unused      []console.RuleHit
	Generations []ruleGeneration // the newest first
	Log         []ruleEntry
	MayEdit     bool
	NoHits      bool
}

// ruleGeneration is what the API says of one.
type ruleGeneration struct {
	Number  int       `json:"number"`
	Name    string    `json:"name"`
	Time    time.Time `json:"time"`
	Who     string    `json:"who"`
	Reason  string    `json:"reason"`
	From    string    `json:"from"`
	Changes []string  `json:"changes"`
	Rules   []string  `json:"rules"`
	Lists   []struct {
		List    string `json:"list"`
		Entries int    `json:"entries"`
	} `json:"lists"`
	Access int  `json:"access"`
	InUse  bool `json:"-"`
}

// ruleEntry is a line of the log of changes.
type ruleEntry struct {
	Time    time.Time `json:"time"`
	Who     string    `json:"who"`
	From    string    `json:"from"`
	Reason  string    `json:"reason"`
	Forced  bool      `json:"forced"`
	Number  int       `json:"number"`
	Changes []string  `json:"changes"`
	Refused string    `json:"refused"`
}

// mostEntries of the log are shown.
const mostEntries = 30

func (s *Server) rules(r *http.Request) (any, error) {
	ctx := r.Context()
	v := rulesView{MayEdit: console.IdentityOf(ctx).May(console.EditRules)}
	hits, err := s.api.RuleHits(ctx)
	if v.NoHits = errors.Is(err, spool.ErrNotFound); err != nil && !v.NoHits {
		return nil, err
	}
	for _, h := range hits {
		if h.Count == 0 && h.Skipped == 0 {
			v.Unused = append(v.Unused, h)
		} else {
			v.Hits = append(v.Hits, h)
		}
	}
	slices.SortStableFunc(v.Hits, func(a, b console.RuleHit) int { return cmp.Compare(b.Count, a.Count) })
	if v.Generations, err = s.generations(ctx); err != nil {
		return nil, err
	}
	var log struct {
		Entries []ruleEntry `json:"entries"`
	}
	if err := s.api.RuleLog(ctx, &log); err != nil && !errors.Is(err, spool.ErrNotFound) {
		return nil, err
	}
	v.Log = log.Entries[:min(len(log.Entries), mostEntries)]
	return v, nil
}

// generations are those that can be gone back to. The one with the highest number
// is in use.
func (s *Server) generations(ctx context.Context) ([]ruleGeneration, error) {
	var got struct {
		Generations []ruleGeneration `json:"generations"`
	}
	if err := s.api.RuleGenerations(ctx, &got); err != nil && !errors.Is(err, spool.ErrNotFound) {
		return nil, err
	}
	all := got.Generations
	slices.SortFunc(all, func(a, b ruleGeneration) int { return cmp.Compare(b.Number, a.Number) })
	if len(all) > 0 {
		all[0].InUse = true
	}
	return all, nil
}

// rulesApply puts the files, as they are now on the gateway, in use.
func (s *Server) rulesApply(r *http.Request) (said, to string, err error) {
	reason := strings.TrimSpace(r.FormValue("reason"))
	if reason == "" {
		return "", "", &badInput{"Say why, for the log: go back and fill in the reason."}
	}
	out, err := s.api.ApplyRules(r.Context(), console.RuleChange{Reason: reason, Force: r.FormValue("force") == "yes"})
	if err != nil {
		return "", "", err
	}
	return changeWords(out), "", nil
}

func (s *Server) rulesRollBack(r *http.Request) (said, to string, err error) {
	reason := strings.TrimSpace(r.FormValue("reason"))
	number, errNumber := strconv.Atoi(r.FormValue("number"))
	if reason == "" || errNumber != nil {
		return "", "", &badInput{"Say why, for the log: go back and fill in the reason."}
	}
	out, err := s.api.RollBackRules(r.Context(), console.RuleChange{Reason: reason, Number: number})
	if err != nil {
		return "", "", err
	}
	return changeWords(out), "", nil
}

func changeWords(c console.RuleChanged) string {
	if c.Number == 0 {
		return "There was nothing to change."
	}
	said := fmt.Sprintf("Generation %d is in use.", c.Number)
	if len(c.Changes) > 0 {
		said += " " + strings.Join(c.Changes, "; ") + "."
	}
	return said
}

// CanGoBack reports whether what a line made is still kept, and not in use.
func (v rulesView) CanGoBack(e ruleEntry) bool {
	return e.Refused == "" && slices.ContainsFunc(v.Generations, func(g ruleGeneration) bool { return g.Number == e.Number && !g.InUse })
}
