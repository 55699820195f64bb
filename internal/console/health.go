package console

import (
	"context"
	"net/http"
	"time"
)

// Health is how the parts of a running gateway are, and how fast.
type Health struct {
	Time         time.Time       `json:"time"`
	Over         time.Duration   `json:"over"` // what Latency and Results are of: this long ago until Time
	Filters      []FilterHealth  `json:"filters"`
	NextHops     []NextHopHealth `json:"next_hops"`
	Lists        []ListHealth    `json:"lists"`
	Certificates []Certificate   `json:"certificates"`
	Lanes        []LaneHealth    `json:"lanes"`
	SpoolFree    float64         `json:"spool_free"` // bytes
	Connections  int             `json:"connections"`
	Messages     map[string]int  `json:"messages"` // answered since the start, by action
}

// FilterHealth is one filter, in the order in which they stand.
type FilterHealth struct {
	Name       string         `json:"name"`
	Stages     []string       `json:"stages"`
	OnError    string         `json:"on_error"`
	Timeout    time.Duration  `json:"timeout"`
	Concurrent int            `json:"max_concurrent"`
	Busy       int            `json:"busy"`             // checks that run now
	Shadow     bool           `json:"shadow,omitempty"` // watches only
	Modifies   bool           `json:"modifies,omitempty"`
	Down       bool           `json:"down,omitempty"` // it is left alone after failures
	Results    map[string]int `json:"results"`        // how its looks ended
	Latency    Latency        `json:"latency"`
}

// Latency is how long something took. Its parts are upper bounds: half, and 95 of
// 100, took no longer.
type Latency struct {
	Count int           `json:"count"`
	Mean  time.Duration `json:"mean"`
	Half  time.Duration `json:"half"`
	Most  time.Duration `json:"most"` // 95 of 100
}

// NextHopHealth is one destination.
type NextHopHealth struct {
	Name     string         `json:"name"`
	State    string         `json:"state"` // "open", "paused", "probing"; "" while nothing waits for it
	Waiting  int            `json:"waiting"`
	Active   int            `json:"active"`
	Failures int            `json:"failures,omitempty"` // to reach it, in a row
	Reply    string         `json:"reply,omitempty"`    // the last failure
	Results  map[string]int `json:"results"`
	Latency  Latency        `json:"latency"`
}

// ListHealth is one DNS list.
type ListHealth struct {
	Name    string         `json:"name"`
	Down    bool           `json:"down,omitempty"` // switched off after failures
	Results map[string]int `json:"results"`
}

// Certificate is one of a listener.
type Certificate struct {
	Name string    `json:"name"`
	Ends time.Time `json:"ends"`
}

// LaneHealth is one lane of the queue.
type LaneHealth struct {
	Lane     string    `json:"lane"`
	Messages int       `json:"messages"`
	Oldest   time.Time `json:"oldest,omitzero"` // when the oldest came
}

// Setting is a key of the configuration.
type Setting struct {
	Key    string `json:"key"`
	Value  string `json:"value"`            // as TOML; secrets are masked
	File   string `json:"file,omitempty"`   // where it is set; "": it is the default
	Line   int    `json:"line,omitempty"`   // the same
	Masked bool   `json:"masked,omitempty"` // Value does not show it
}

// Split cuts the key into its section, which may have quoted parts, and the rest.
func (s Setting) Split() (section, key string) {
	quoted, at := false, -1
	for i, c := range s.Key {
		switch {
		case c == '"':
			quoted = !quoted
		case c == '.' && !quoted:
			at = i
		}
	}
	return s.Key[:max(at, 0)], s.Key[at+1:]
}

// User is somebody who may log in to the console.
type User struct {
	Name    string   `json:"name"`
	Role    string   `json:"role,omitempty"`
	Domains []string `json:"domains,omitempty"`
	Senders []string `json:"senders,omitempty"`
}

type settings struct {
	Settings []Setting `json:"settings"`
}

type userList struct {
	Users []User `json:"users"`
}

func (c *Control) handleSystem() {
	if c.deps.Health != nil {
		c.route("GET /v1/health", ViewSystem, func(w http.ResponseWriter, _ *http.Request) {
			answer(w, http.StatusOK, c.deps.Health())
		})
	}
	if c.deps.Settings != nil {
		c.route("GET /v1/settings", ViewSystem, func(w http.ResponseWriter, _ *http.Request) {
			answer(w, http.StatusOK, settings{c.deps.Settings()})
		})
	}
	if c.deps.Users != nil {
		c.route("GET /v1/users", AdministerIt, func(w http.ResponseWriter, _ *http.Request) {
			answer(w, http.StatusOK, userList{c.deps.Users()})
		})
	}
}

// Health asks how the parts are.
func (c *Client) Health(ctx context.Context) (h Health, err error) {
	err = c.call(ctx, http.MethodGet, "health", nil, &h)
	return h, err
}

// Settings asks for the configuration in use.
func (c *Client) Settings(ctx context.Context) ([]Setting, error) {
	var s settings
	err := c.call(ctx, http.MethodGet, "settings", nil, &s)
	return s.Settings, err
}

// Users asks who may log in.
func (c *Client) Users(ctx context.Context) ([]User, error) {
	var u userList
	err := c.call(ctx, http.MethodGet, "users", nil, &u)
	return u.Users, err
}
