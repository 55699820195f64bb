package metrics

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

const packaging = "../../packaging"

// everything is a gateway that has counted each thing once.
func everything() *Metrics {
	m := New("1.2.3")
	m.Gather(Gathered{
		Queues:       func() map[string]Queue { return map[string]Queue{"fresh": {Messages: 1, Oldest: time.Now()}} },
		SpoolFree:    func() (float64, error) { return 1, nil },
		Certificates: func() map[string]time.Time { return map[string]time.Time{"mx": time.Now()} },
		Now:          time.Now,
	})
	m.Reloaded(time.Now(), true)
	m.Connection("mx", "accepted")
	m.Active("mx", 1)
	m.Message("mx", "accept", "policy", 1000)
	m.Recipient("mx", "accept")
	m.Filter("clamav", "ok", time.Second)
	m.FilterUp("clamav", true)
	m.Attempt("example.com", "sent", time.Second)
	m.Notification("failure", "sent")
	m.StoreError("redis", "get")
	m.LogLost("siem")
	m.DNSQuery("TXT", "ok")
	return m
}

func promtool(t *testing.T, stdin string, args ...string) {
	t.Helper()
	cmd := exec.Command(testkit.Program(t, "promtool", "prometheus"), args...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %v: %v\n%s", args, err, out)
	}
}

func TestPromtool(t *testing.T) {
	promtool(t, scrape(t, everything()), "check", "metrics")
	promtool(t, "", "check", "rules", filepath.Join(packaging, "prometheus/gatepost.rules.yml"))
	promtool(t, "", "test", "rules", filepath.Join(packaging, "prometheus/gatepost.test.yml"))
}

// elsewhere are metrics that other packages register or Prometheus makes.
var elsewhere = map[string]bool{"gatepost_clamav_signature_age_seconds": true}

// What alerts and the dashboard ask for is what we have.
func TestPackagedQueries(t *testing.T) {
	have := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^(gatepost_\w+)`).FindAllString(scrape(t, everything()), -1) {
		have[m] = true
	}
	rules, err := os.ReadFile(filepath.Join(packaging, "prometheus/gatepost.rules.yml"))
	if err != nil {
		t.Fatal(err)
	}
	queries := regexp.MustCompile(`(?m)^\s+expr: .*$`).FindAllString(string(rules), -1)
	for _, e := range dashboard(t) {
		queries = append(queries, e)
	}
	if len(queries) < 20 {
		t.Fatalf("only %d queries", len(queries))
	}
	for _, q := range queries {
		for _, m := range regexp.MustCompile(`gatepost_\w+`).FindAllString(q, -1) {
			if !have[m] && !elsewhere[m] {
				t.Errorf("%s: there is no %s", q, m)
			}
		}
	}
}

// dashboard returns the queries of the dashboard, by the titles of its panels.
func dashboard(t *testing.T) map[string]string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(packaging, "grafana/gatepost.json"))
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		UID    string `json:"uid"`
		Panels []struct {
			ID      int    `json:"id"`
			Type    string `json:"type"`
			Title   string `json:"title"`
			Targets []struct {
				Expr       string `json:"expr"`
				Datasource struct {
					UID string `json:"uid"`
				} `json:"datasource"`
			} `json:"targets"`
		} `json:"panels"`
		Templating struct {
			List []struct {
				Name string `json:"name"`
			} `json:"list"`
		} `json:"templating"`
	}
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	if d.UID != "gatepost" || len(d.Templating.List) != 2 {
		t.Errorf("uid %q, %d variables", d.UID, len(d.Templating.List))
	}
	all, rows, ids := make(map[string]string), []string(nil), make(map[int]bool)
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("two panels have the ID %d", p.ID)
		}
		ids[p.ID] = true
		if p.Type == "row" {
			rows = append(rows, p.Title)
			continue
		}
		for _, target := range p.Targets {
			all[p.Title] = target.Expr
			if target.Datasource.UID != "${datasource}" {
				t.Errorf("%s asks %q", p.Title, target.Datasource.UID)
			}
		}
	}
	if got := strings.Join(rows, " "); got != "Traffic Filters Queue Delivery Store" {
		t.Errorf("rows %s", got)
	}
	return all
}

// Every query of the dashboard can be read.
func TestDashboard(t *testing.T) {
	var rules strings.Builder
	rules.WriteString("groups:\n- name: dashboard\n  rules:\n")
	for title, expr := range dashboard(t) {
		expr = strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*").Replace(expr)
		name, _ := json.Marshal("x:" + regexp.MustCompile(`\W`).ReplaceAllString(title, "_"))
		text, _ := json.Marshal(expr)
		rules.WriteString("  - record: " + string(name) + "\n    expr: " + string(text) + "\n")
	}
	path := filepath.Join(t.TempDir(), "rules.yml")
	if err := os.WriteFile(path, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "", "check", "rules", path)
}
