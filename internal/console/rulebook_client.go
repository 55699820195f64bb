package console

import (
	"context"
	"net/http"
)

// RuleGenerations reads what can be gone back to into a struct with "generations".
func (c *Client) RuleGenerations(ctx context.Context, into any) error {
	return c.call(ctx, http.MethodGet, "rules/generations", nil, into)
}

// Rehearse reads what other rules would have made of recorded mail.
func (c *Client) Rehearse(ctx context.Context, req Rehearsal, into any) error {
	return c.call(ctx, http.MethodPost, "rules/rehearse", req, into)
}
