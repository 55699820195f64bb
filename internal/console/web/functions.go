package web

import (
	"fmt"
	"html/template"
	"time"

	"gatepost/internal/mail"
)

// functions are for templates; what they return is text, which the templates
// escape.
var functions = template.FuncMap{
	"class": class, "kind": kindWords, "action": actionWord, "words": mail.DecodeWords, "outcome": outcome, "event": eventWords, "client": clientText,
	"more":        func(n, shown int) int { return n - shown },
	"sum":         func(a, b int) int { return a + b },
	"size":        size,
	"whole":       func(f float64) int64 { return int64(f) },
	"took":        took,
	"resultClass": resultClass,
	"ago":         func(t time.Time) string { return age(time.Since(t)) },
	"age":         age,
	"since":       func(unix int64) time.Duration { return time.Since(time.Unix(unix, 0)) },
	"time":        func(t time.Time) string { return t.Format("2006-01-02 15:04:05") },
	"iso":         func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
}

// took is the upper bound of a time; nothing where there was none.
func took(d time.Duration) string {
	if d == 0 {
		return "–"
	}
	return "≤ " + age(d)
}

// resultClass is the class of a tag for how a filter, a delivery or a question
// ended.
func resultClass(result string) string {
	switch result {
	case "ok", "sent":
		return "good"
	case "down", "panic", "failed", "bounced":
		return "bad"
	case "cancelled":
		return "" // it was not needed any more
	}
	return "warn"
}

func size(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1000*1000:
		return fmt.Sprintf("%.0f kB", float64(n)/1000)
	}
	if n < 10e9 {
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.0f GB", float64(n)/1e9)
}

// age is a time in the one unit that matters.
func age(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < 2*time.Hour:
		return fmt.Sprintf("%.0f min", d.Minutes())
	case d < 48*time.Hour:
		return fmt.Sprintf("%.0f h", d.Hours())
	}
	return fmt.Sprintf("%.0f d", d.Hours()/24)
}
