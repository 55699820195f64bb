package console

import (
	"context"
	"fmt"
	"net/http"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// Digests are the mails that tell recipients what is held for them.
type Digests interface {
	// Preview is what a recipient would get, nil where nothing is held for it.
	Preview(ctx context.Context, rcpt mail.Address) ([]byte, error)
	// SendNow sends what is new at once, and returns to how many.
	SendNow(ctx context.Context) (int, error)
}

type digestRequest struct {
	Recipient string `json:"recipient"`
}

// DigestMail is a digest as it would go out.
type DigestMail struct {
	Message []byte `json:"message"`
}

type digestsSent struct {
	Sent int `json:"sent"`
}

func (c *Control) handleDigests() {
	if c.deps.Digests == nil {
		return
	}
	c.route("POST /v1/digest/preview", ViewContent, func(w http.ResponseWriter, r *http.Request) {
		var req digestRequest
		if !decode(w, r, &req) {
			return
		}
		noteOf(r.Context()).about(req)
		rcpt, err := mail.ParseAddress(req.Recipient, true)
		if err != nil {
			answer(w, http.StatusBadRequest, failure{err.Error()})
			return
		}
		var m []byte
		if IdentityOf(r.Context()).SeesRecipient(req.Recipient) {
			m, err = c.deps.Digests.Preview(r.Context(), rcpt)
		}
		if err == nil && m == nil {
			err = fmt.Errorf("held mail for %s: %w", rcpt, spool.ErrNotFound)
		}
		if err != nil {
			refuse(w, err)
			return
		}
		answer(w, http.StatusOK, DigestMail{m})
	})
	c.route("POST /v1/digest/send", AdministerIt, func(w http.ResponseWriter, r *http.Request) {
		n, err := c.deps.Digests.SendNow(r.Context())
		if err != nil {
			answer(w, http.StatusServiceUnavailable, failure{err.Error()})
			return
		}
		answer(w, http.StatusOK, digestsSent{n})
	})
}

// PreviewDigest is the digest that a recipient would get now.
func (c *Client) PreviewDigest(ctx context.Context, rcpt string) ([]byte, error) {
	var m DigestMail
	err := c.call(ctx, http.MethodPost, "digest/preview", digestRequest{rcpt}, &m)
	return m.Message, err
}

// SendDigests sends digests now, and returns to how many.
func (c *Client) SendDigests(ctx context.Context) (int, error) {
	var s digestsSent
	err := c.call(ctx, http.MethodPost, "digest/send", struct{}{}, &s)
	return s.Sent, err
}
