package testkit

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// Prometheus is Debian's prometheus, which scrapes one target each second.
type Prometheus struct {
	Addr string

	dir, target string
	process
}

// NewPrometheus prepares one for a target "host:port".
func NewPrometheus(dir, target string) (*Prometheus, error) {
	addr, err := FreeAddr()
	if err != nil {
		return nil, err
	}
	return &Prometheus{Addr: addr, dir: filepath.Join(dir, "prometheus"), target: target}, nil
}

// Start starts it, and returns when it answers.
func (p *Prometheus) Start() error {
	path, err := find("prometheus", "prometheus")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(p.dir, 0o755); err != nil {
		return err
	}
	file := filepath.Join(p.dir, "prometheus.yml")
	text := fmt.Sprintf("global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\nscrape_configs:\n- job_name: gatepost\n  static_configs:\n  - targets: [%q]\n", p.target)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return err
	}
	p.path, p.log = path, filepath.Join(p.dir, "log")
	p.args = []string{"--config.file=" + file, "--storage.tsdb.path=" + filepath.Join(p.dir, "data"), "--web.listen-address=" + p.Addr}
	return p.start(func() error {
		resp, err := http.Get("http://" + p.Addr + "/-/ready")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("status %d", resp.StatusCode)
		}
		return nil
	})
}

// Stop ends it.
func (p *Prometheus) Stop() error { return p.stop() }

// Query returns how many series an expression has now.
func (p *Prometheus) Query(expr string) (int, error) {
	client := http.Client{Timeout: 10 * time.Second}
	resp, err := client.Get("http://" + p.Addr + "/api/v1/query?query=" + url.QueryEscape(expr))
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var answer struct {
		Status string `json:"status"`
		Error  string `json:"error"`
		Data   struct {
			Result []json.RawMessage `json:"result"`
		} `json:"data"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return 0, err
	}
	if answer.Status != "success" {
		return 0, fmt.Errorf("testkit: prometheus: %s: %s", expr, answer.Error)
	}
	return len(answer.Data.Result), nil
}
