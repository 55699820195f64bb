package metrics

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
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
		Held:         func() map[string]int { return map[string]int{"spam": 1} },
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
	m.MilterReply("opendkim", "message", "continue")
	m.Released("recipient", 1)
	m.Spans("sent", 1)
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

// promised are the metrics that dashboards of others build on: they keep their
// names, types and labels.
func promised() map[string]string {
	return map[string]string{
		"gatepost_build_info":                                   "gauge goversion,version",
		"gatepost_config_last_reload_successful":                "gauge ",
		"gatepost_config_last_reload_success_timestamp_seconds": "gauge ",
		"gatepost_connections_active":                           "gauge listener",
		"gatepost_connections_total":                            "counter listener,result",
		"gatepost_messages_total":                               "counter action,listener,reason",
		"gatepost_recipients_total":                             "counter action,listener",
		"gatepost_message_size_bytes":                           "histogram ",
		"gatepost_filter_duration_seconds":                      "histogram filter",
		"gatepost_filter_results_total":                         "counter filter,result",
		"gatepost_filter_up":                                    "gauge filter",
		"gatepost_milter_replies_total":                         "counter milter,reply,stage",
		"gatepost_queue_messages":                               "gauge queue",
		"gatepost_queue_oldest_message_age_seconds":             "gauge queue",
		"gatepost_delivery_attempts_total":                      "counter result,route",
		"gatepost_delivery_duration_seconds":                    "histogram route",
		"gatepost_quarantine_messages":                          "gauge kind",
		"gatepost_quarantine_releases_total":                    "counter by",
		"gatepost_store_errors_total":                           "counter op,store",
		"gatepost_dns_queries_total":                            "counter kind,result",
		"gatepost_tls_certificate_not_after_timestamp_seconds":  "gauge name",
		"gatepost_spool_free_bytes":                             "gauge ",
	}
}

func TestPromised(t *testing.T) {
	families, err := everything().registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	for _, f := range families {
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		slices.Sort(labels)
		got[f.GetName()] = strings.ToLower(f.GetType().String()) + " " + strings.Join(labels, ",")
	}
	for name, want := range promised() {
		if got[name] != want {
			t.Errorf("%s: %q, want %q", name, got[name], want)
		}
	}
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
