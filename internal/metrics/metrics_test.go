package metrics

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"
)

func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	srv := httptest.NewServer(m.Handler())
	defer srv.Close()
	resp, err := http.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("status %d, %v: %s", resp.StatusCode, err, b)
	}
	return string(b)
}

// TestNames holds the names and labels that dashboards are built on.
func TestNames(t *testing.T) {
	m := New("1.2.3")
	now := time.Unix(1_700_000_000, 0)
	free, failing := 4096.0, error(nil)
	asked := 0
	m.Gather(Gathered{
		Queues: func() map[string]Queue {
			asked++
			return map[string]Queue{"hold": {}, "retry": {Messages: 2, Oldest: now.Add(-time.Minute)}, "slow": {Messages: 1, Oldest: now.Add(time.Hour)}}
		},
		SpoolFree: func() (float64, error) { return free, failing },
		Now:       func() time.Time { return now },
	})
	m.Reloaded(now, true)
	m.Reloaded(now.Add(time.Hour), false)
	m.Connection("mx", "accepted")
	m.Active("mx", 3)
	m.Active("mx", -1)
	m.Message("mx", "reject", "policy", 5000)
	m.Recipient("mx", "accept")
	m.Filter("clamav", "ok", 20*time.Millisecond)
	m.Filter("clamav", "down", 0)
	m.FilterUp("clamav", true)
	m.FilterUp("spamassassin", false)
	m.Attempt("example.com", "sent", time.Second)
	m.Attempt(". somebody.example", "deferred", time.Second)

	got := scrape(t, m)
	for _, want := range []string{
		`gatepost_build_info{goversion="go`,
		`gatepost_config_last_reload_successful 0`,
		`gatepost_config_last_reload_success_timestamp_seconds 1.7e+09`,
		`gatepost_connections_active{listener="mx"} 2`,
		`gatepost_connections_total{listener="mx",result="accepted"} 1`,
		`gatepost_messages_total{action="reject",listener="mx",reason="policy"} 1`,
		`gatepost_recipients_total{action="accept",listener="mx"} 1`,
		`gatepost_message_size_bytes_bucket{le="16384"} 1`,
		`gatepost_filter_duration_seconds_count{filter="clamav"} 1`,
		`gatepost_filter_results_total{filter="clamav",result="down"} 1`,
		`gatepost_filter_up{filter="clamav"} 1`,
		`gatepost_filter_up{filter="spamassassin"} 0`,
		`gatepost_queue_messages{queue="retry"} 2`,
		`gatepost_queue_messages{queue="hold"} 0`,
		`gatepost_queue_oldest_message_age_seconds{queue="retry"} 60`,
		`gatepost_queue_oldest_message_age_seconds{queue="slow"} 0`,
		`gatepost_delivery_attempts_total{result="sent",route="example.com"} 1`,
		`gatepost_delivery_duration_seconds_sum{route="example.com"} 1`,
		`gatepost_delivery_attempts_total{result="deferred",route="."} 1`,
		`gatepost_spool_free_bytes 4096`,
		`go_goroutines `,
		`process_resident_memory_bytes `,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s", want)
		}
	}

	failing = errors.New("statfs")
	if strings.Contains(scrape(t, m), "gatepost_spool_free_bytes") {
		t.Error("a size that is not known is shown")
	}
	if asked != 1 {
		t.Errorf("the queue was read %d times within an instant, want 1", asked)
	}
	now = now.Add(time.Minute)
	scrape(t, m)
	if asked != 2 {
		t.Errorf("the queue was read %d times a minute later, want 2", asked)
	}
}

// TestLabels keeps labels to what the operator names and what we do.
func TestLabels(t *testing.T) {
	m := New("1")
	allowed := map[string]bool{
		"listener": true, "result": true, "action": true, "reason": true, "filter": true, "route": true, "queue": true,
		"version": true, "goversion": true, "le": true, "quantile": true,
	}
	m.Connection("a", "b")
	m.Message("a", "b", "c", 1)
	m.Attempt("a", "b", 1)
	m.Filter("a", "b", 1)
	for _, label := range regexp.MustCompile(`[{,]([a-z_]+)="`).FindAllStringSubmatch(scrape(t, m), -1) {
		if !allowed[label[1]] {
			t.Errorf("label %q", label[1])
		}
	}
}

// TestTwo registries in one process don't meet.
func TestTwo(t *testing.T) {
	New("1")
	New("2")
}
