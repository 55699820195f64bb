package web

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"gatepost/internal/history"
)

func TestParseSearch(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	prefix := netip.MustParsePrefix
	for _, tt := range []struct {
		words string
		want  []history.Query
		wrong string // part of it
	}{
		{words: "", want: []history.Query{{}}},
		{words: "Minutes of Monday", want: []history.Query{{Subject: "Minutes of Monday"}}},
		{words: `subject:"two words" from:a@b.example`, want: []history.Query{{Subject: "two words", From: "a@b.example"}}},
		{words: `subject:"no end`, want: []history.Query{{Subject: "no end"}}},
		{words: "TO:x@example.com Is:Held", want: []history.Query{{To: "x@example.com", Action: "quarantine"}}},
		{words: "is:reject", want: []history.Query{{Action: "reject"}}},
		{words: "is:purple", want: []history.Query{{}}, wrong: "is:purple: is nothing that mail can be"},
		{words: "192.0.2.1", want: []history.Query{{Client: prefix("192.0.2.1/32")}}},
		{words: "2001:db8::/32", want: []history.Query{{Client: prefix("2001:db8::/32")}}},
		{words: "ip:192.0.2.0/24 hello", want: []history.Query{{Client: prefix("192.0.2.0/24"), Subject: "hello"}}},
		{words: "ip:nowhere", want: []history.Query{{}}, wrong: "is no address"},
		{words: "<1@x.example>", want: []history.Query{{MessageID: "<1@x.example>"}}},
		{words: "a@x.example", want: []history.Query{{From: "a@x.example"}, {To: "a@x.example"}, {MessageID: "<a@x.example>"}}},
		{words: "example.org is:held", want: []history.Query{{Action: "quarantine", From: "@example.org"}, {Action: "quarantine", To: "@example.org"}, {Action: "quarantine", Subject: "example.org"}}},
		{words: "since:24h", want: []history.Query{{Since: now.Add(-24 * time.Hour)}}},
		{words: "since:7d until:2026-11-20", want: []history.Query{{Since: now.Add(-7 * 24 * time.Hour), Until: now.Truncate(24 * time.Hour).Add(-24 * time.Hour)}}},
		{words: "since:2026-11-20T10:30", want: []history.Query{{Since: time.Date(2026, 11, 20, 10, 30, 0, 0, time.UTC)}}},
		{words: "since:-5h", want: []history.Query{{}}, wrong: "is no time"},
		{words: "since:999999999d", want: []history.Query{{}}, wrong: "is no time"},
		{words: "Re: your order", want: []history.Query{{Subject: "Re: your order"}}},
		{words: "http://x.example/", want: []history.Query{{Subject: "http://x.example/"}}},
		{words: "hash:ABCDEF host:Evil.Example", want: []history.Query{{SHA256: "abcdef", Host: "evil.example"}}},
	} {
		got, wrong := parseSearch(tt.words, now)
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%q:\ngot  %+v\nwant %+v", tt.words, got, tt.want)
		}
		if all := strings.Join(wrong, "; "); !strings.Contains(all, tt.wrong) || (tt.wrong == "") != (all == "") {
			t.Errorf("%q: wrong %q, want %q", tt.words, all, tt.wrong)
		}
	}
}

func FuzzParseSearch(f *testing.F) {
	for _, s := range []string{"from:a to:b is:held", `subject:"x y`, "192.0.2.0/24", "since:7d", "::1", "a@b", `"`, "is:", ":", "since:99999999999999999999d"} {
		f.Add(s)
	}
	now := time.Now()
	f.Fuzz(func(t *testing.T, words string) {
		queries, _ := parseSearch(words, now)
		if len(queries) < 1 || len(queries) > 3 {
			t.Errorf("%d queries", len(queries))
		}
	})
}

func TestSafeCell(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "plain": "plain", "=cmd|' /C calc'!A0": "'=cmd|' /C calc'!A0", "+1": "'+1", "-1": "'-1", "@SUM(A1)": "'@SUM(A1)", "\t=1": "'\t=1", "\r=1": "'\r=1", "\n=1": "'\n=1", " =1": "' =1", "＝1": "'＝1", "a=1": "a=1",
	} {
		if got := safeCell(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestWaterfall(t *testing.T) {
	ms := time.Millisecond
	asked := func(stage string, start, took time.Duration) history.Asked {
		return history.Asked{Filter: "f", Stage: stage, Start: start, Took: took}
	}
	for _, tt := range []struct {
		name  string
		in    []history.Asked
		want  [][2]int
		scale time.Duration
	}{
		{"nothing", nil, nil, 0},
		{"only the envelope", []history.Asked{asked("rcpt", 0, ms)}, nil, 0},
		{"side by side, then behind", []history.Asked{asked("connect", 0, ms), asked("message", 500*ms, 50*ms), asked("message", 500*ms, 100*ms), asked("message", 600*ms, 100*ms)}, [][2]int{{0, 250}, {0, 500}, {500, 500}}, 200 * ms},
		{"too short to be seen", []history.Asked{asked("message", 0, 1000*ms), asked("message", 1000*ms, 0)}, [][2]int{{0, 1000}, {997, 3}}, 1000 * ms},
		{"no time at all", []history.Asked{asked("message", 5, 0)}, [][2]int{{0, 3}}, time.Microsecond},
		{"so long that thousandths of it overflow", []history.Asked{asked("message", 0, 1<<62)}, [][2]int{{0, 1000}}, 1 << 62},
	} {
		bars, scale := waterfall(tt.in)
		var got [][2]int
		for _, b := range bars {
			got = append(got, [2]int{b.At, b.Width})
		}
		if !reflect.DeepEqual(got, tt.want) || scale != tt.scale {
			t.Errorf("%s: %v of %v, want %v of %v", tt.name, got, scale, tt.want, tt.scale)
		}
	}
}

func TestOutcome(t *testing.T) {
	for want, r := range map[string]history.Record{
		"Accepted":                              {Action: "accept", Stage: "message"},
		"Accepted, because: a friend":           {Action: "accept", Reason: "a friend"},
		"Refused for its recipient, because: x": {Action: "reject", Stage: "rcpt", Reason: "x"},
		"Held in quarantine, because: spam":     {Action: "quarantine", Stage: "message", Reason: "spam"},
		"Put off when the server connected: the sender's server will try again": {Action: "tempfail", Stage: "connect"},
		"Accepted and dropped": {Action: "discard"},
	} {
		if got := outcome(r); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
