package console

import (
	"context"
	"net/http"
	"time"
)

// RuleHit is how often a policy rule matched, or an entry of a list, since the
// gateway was started.
type RuleHit struct {
	Rule    string    `json:"rule"` // of an entry "list:NAME: ENTRY"
	Where   string    `json:"where"`
	Count   int64     `json:"count"`
	Skipped int64     `json:"skipped"` // it could not be asked
	Last    time.Time `json:"last"`
	Observe bool      `json:"observe,omitempty"`
}

func (c *Control) handleRules() {
	if c.deps.RuleHits != nil {
		c.route("GET /v1/rules/hits", ViewSystem, func(w http.ResponseWriter, _ *http.Request) {
			answer(w, http.StatusOK, struct {
				Hits []RuleHit `json:"hits"`
			}{c.deps.RuleHits()})
		})
	}
}

// RuleHits asks how often each rule matched.
func (c *Client) RuleHits(ctx context.Context) ([]RuleHit, error) {
	var got struct {
		Hits []RuleHit `json:"hits"`
	}
	err := c.call(ctx, http.MethodGet, "rules/hits", nil, &got)
	return got.Hits, err
}
