package metrics

import (
	"testing"
	"time"
)

func TestFigures(t *testing.T) {
	m := New("1")
	r := NewRecent(m)
	for range 90 {
		m.Filter("clamav", "ok", 2*time.Millisecond)
	}
	m.FilterUp("clamav", true)
	r.sample()
	for range 10 {
		m.Filter("clamav", "ok", 20*time.Millisecond)
	}
	m.Filter("clamav", "timeout", 500*time.Second)
	m.FilterUp("clamav", false)
	m.Attempt("exchange", "delivered", time.Second)
	m.ListUp("zen", true)
	m.Look("zen", "listed")
	m.Active("mx", 3)
	now, then, err := r.Now()
	if err != nil {
		t.Fatal(err)
	}
	all, lately := now.Filters["clamav"], now.Filters["clamav"].Since(then.Filters["clamav"])
	if all.Count != 101 || all.Quantile(.5) != 3*time.Millisecond || !all.Down || all.Results["ok"] != 100 {
		t.Errorf("since the start: %+v", all)
	}
	if lately.Count != 11 || lately.Quantile(.5) != 30*time.Millisecond || lately.Results["ok"] != 10 || lately.Results["timeout"] != 1 {
		t.Errorf("lately: %+v", lately)
	}
	if got := lately.Quantile(.99); got != 600*time.Second {
		t.Errorf("beyond all buckets: %v", got)
	}
	if mean := lately.Mean(); mean < 45*time.Second || mean > 46*time.Second {
		t.Errorf("mean %v", mean)
	}
	if d := now.Routes["exchange"].Since(then.Routes["exchange"]); d.Count != 1 || d.Results["delivered"] != 1 || d.Quantile(.5) != time.Second {
		t.Errorf("what was not there then: %+v", d)
	}
	if l := now.Lists["zen"]; l.Down || l.Results["listed"] != 1 || now.Connections != 3 {
		t.Errorf("%+v, %d connections", l, now.Connections)
	}
	if f := now.Filters["none"].Since(nil); f.Count != 0 || f.Quantile(.5) != 0 || f.Mean() != 0 {
		t.Errorf("of nothing: %+v", f)
	}
	for range 2 * r.keep {
		r.sample()
	}
	if len(r.old) != r.keep {
		t.Errorf("%d samples", len(r.old))
	}
}
