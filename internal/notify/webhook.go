package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// webhook posts notifications as JSON.
type webhook struct {
	client *http.Client
	waits  []time.Duration // before each further attempt
}

// attemptTime bounds one attempt.
const attemptTime = 10 * time.Second

func newWebhook() *webhook {
	return &webhook{
		client: &http.Client{
			Timeout: attemptTime,
			// Who could redirect us could have us ask anything inside.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConns: 1, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: attemptTime, DisableCompression: true},
		},
		waits: []time.Duration{time.Second, 5 * time.Second},
	}
}

// call is what is posted.
type call struct {
	Event
	Host   string `json:"host"`
	Beyond int    `json:"and_more,omitempty"` // of this kind, of which no call told
}

// post posts one event, more than once where it has to.
func (w *webhook) post(ctx context.Context, cfg *Config, e Event, beyond int) error {
	body, err := json.Marshal(call{e, cfg.Hostname, beyond})
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		again, err := w.try(ctx, cfg, body)
		if err == nil || !again || i == len(w.waits) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(w.waits[i]):
		}
	}
}

func (w *webhook) try(ctx context.Context, cfg *Config, body []byte) (again bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, cfg.Webhook, bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "gatepost")
	if len(cfg.Secret) > 0 {
		at := strconv.FormatInt(time.Now().Unix(), 10)
		req.Header.Set("X-Gatepost-Timestamp", at)
		req.Header.Set("X-Gatepost-Signature", "sha256="+Signature(cfg.Secret, at, body))
	}
	resp, err := w.client.Do(req)
	if err != nil {
		return true, fmt.Errorf("notify: webhook: %w", errors.Unwrap(err)) // without the URL, which may have a secret
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // so that the connection can be used again
	if resp.StatusCode/100 == 2 {
		return false, nil
	}
	return resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests, fmt.Errorf("notify: webhook: answered %s", resp.Status)
}

// Signature is the HMAC-SHA256, in hex, of the time, a dot, and the body.
func Signature(secret []byte, at string, body []byte) string {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte(at + "."))
	h.Write(body)
	return hex.EncodeToString(h.Sum(nil))
}

// CheckSecret refuses a secret that can be guessed.
func CheckSecret(secret []byte) error {
	if len(secret) < minSecret {
		return fmt.Errorf("the secret has %d bytes; write at least %d", len(secret), minSecret)
	}
	return nil
}
