package console

import (
	"context"
	"errors"
	"net/http"
	"time"

	"gatepost/internal/history"
)

// ScanRequest is a message that is judged as if it came in now. Nothing is
// delivered, kept, counted or remembered of it.
type ScanRequest struct {
	Client     string   `json:"client,omitempty"` // address; "": none, as with "gatepost scan"
	Helo       string   `json:"helo,omitempty"`
	Sender     string   `json:"sender"` // "": the null sender
	Recipients []string `json:"recipients,omitempty"`
	Message    []byte   `json:"message"`
}

// ErrScan is the error of a ScanRequest that no client could make.
var ErrScan = errors.New("not to be judged")

// Bounds of judging on request: mail goes first.
const (
	scansAtOnce = 2
	scanTime    = 2 * time.Minute
)

func (c *Control) handleScan() {
	if c.deps.Scan == nil {
		return
	}
	places := make(chan struct{}, scansAtOnce)
	c.route("POST /v1/scan", ViewSystem, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(scanTime + time.Minute))
		var req ScanRequest
		if !decode(w, r, &req) {
			return
		}
		select {
		case places <- struct{}{}:
			defer func() { <-places }()
		default:
			answer(w, http.StatusTooManyRequests, failure{"other messages are being tested now; try again in a moment"})
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), scanTime)
		defer cancel()
		record, err := c.deps.Scan(ctx, req)
		switch {
		case errors.Is(err, ErrScan):
			answer(w, http.StatusBadRequest, failure{err.Error()})
		case err != nil:
			answer(w, http.StatusInternalServerError, failure{err.Error()})
		default:
			answer(w, http.StatusOK, record)
		}
	})
}

// Scan has a message judged, by the filters and rules that run.
func (c *Client) Scan(ctx context.Context, req ScanRequest) (r history.Record, err error) {
	err = c.call(ctx, http.MethodPost, "scan", req, &r)
	return r, err
}
