package console

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"gatepost/proxy/spool"
)

// Client speaks to the control API of a running gateway.
type Client struct{ http *http.Client }

// NewClient makes a client for the socket at path. It connects when it is asked
// something.
func NewClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		d := net.Dialer{Timeout: 5 * time.Second}
		return d.DialContext(ctx, "unix", path)
	}
	return &Client{&http.Client{Transport: &http.Transport{DialContext: dial, DisableCompression: true, ReadBufferSize: streamBuffer}}}
}

// ClientOf makes a client of the API in this process: who asks is told by the
// context of each call (WithIdentity).
func ClientOf(h http.Handler) *Client { return &Client{&http.Client{Transport: inProcess{h}}} }

// Refusal is the gateway's word that something can't be done. A message that is
// not there is spool.ErrNotFound, too, and one too many ErrTooMany.
type Refusal struct {
	Text   string
	Status int // of HTTP; 0: it came within an answer
	cause  error
}

func (r *Refusal) Error() string { return r.Text }

// Unwrap returns spool.ErrNotFound, ErrTooMany or nil.
func (r *Refusal) Unwrap() error { return r.cause }

// Status asks how the gateway is.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	err := c.call(ctx, http.MethodGet, "status", nil, &s)
	return s, err
}

// Reload makes the gateway read its configuration again.
func (c *Client) Reload(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "reload", nil, &struct{}{})
}

// List calls yield with each message that f chooses until it returns an error.
func (c *Client) List(ctx context.Context, f Filter, yield func(Message) error) error {
	return c.stream(ctx, "queue/list", f, yield)
}

// stream asks for messages, one a line.
func (c *Client) stream(ctx context.Context, path string, f Filter, yield func(Message) error) error {
	resp, err := c.do(ctx, http.MethodPost, path, f)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(resp.Body)
	for {
		var m Message
		if err := dec.Decode(&m); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("console: list of the queue: %w", err)
		}
		if err := yield(m); err != nil {
			return err
		}
	}
}

// Shape counts messages by domain and age.
func (c *Client) Shape(ctx context.Context, req ShapeRequest) (Shape, error) {
	var s Shape
	err := c.call(ctx, http.MethodPost, "queue/shape", req, &s)
	return s, err
}

// Show describes one message.
func (c *Client) Show(ctx context.Context, id string) (Message, error) {
	var m Message
	err := c.call(ctx, http.MethodGet, "queue/"+url.PathEscape(id), nil, &m)
	return m, err
}

// Content writes a message to w.
func (c *Client) Content(ctx context.Context, id string, w io.Writer) error {
	resp, err := c.do(ctx, http.MethodGet, "queue/"+url.PathEscape(id)+"/content", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("console: content of %s: %w", id, err)
	}
	return nil
}

// Apply acts on messages.
func (c *Client) Apply(ctx context.Context, action Action, req Request) (Result, error) {
	return c.DryRun(ctx, action, req, func(Message) error { return nil })
}

// DryRun is Apply for a request that may be one for a dry run: then yield is
// called with each message that would be acted on.
func (c *Client) DryRun(ctx context.Context, action Action, req Request, yield func(Message) error) (Result, error) {
	resp, err := c.do(ctx, http.MethodPost, "queue/"+string(action), req)
	if err != nil {
		return Result{}, err
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(resp.Body)
	for {
		var a actionLine
		if err := dec.Decode(&a); err != nil {
			return Result{}, fmt.Errorf("console: answer to %s: %w", action, noEOF(err))
		}
		switch {
		case a.Result != nil:
			return *a.Result, nil
		case a.Error != "":
			return Result{}, &Refusal{Text: a.Error}
		case a.Message != nil:
			if err := yield(*a.Message); err != nil {
				return Result{}, err
			}
		}
	}
}

// noEOF is the error of an answer that ended early.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	resp, err := c.do(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("console: answer to %s: %w", path, err)
	}
	return nil
}

// do sends a request and turns a refusal into an error.
func (c *Client) do(ctx context.Context, method, path string, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://gatepost/v1/"+path, body)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	var f failure
	if err := json.NewDecoder(resp.Body).Decode(&f); err != nil || f.Error == "" {
		f.Error = resp.Status
	}
	refusal := &Refusal{Text: f.Error, Status: resp.StatusCode}
	switch resp.StatusCode {
	case http.StatusNotFound:
		refusal.cause = spool.ErrNotFound
	case http.StatusConflict:
		refusal.cause = ErrTooMany
	}
	return nil, refusal
}
