package web

import (
	"fmt"
	"html/template"
	"time"
)

// functions are for templates; what they return is text, which the templates
// escape.
var functions = template.FuncMap{
	"class": class, "outcome": outcome, "event": eventWords, "client": clientText,
	"more":  func(n, shown int) int { return n - shown },
	"sum":   func(a, b int) int { return a + b },
	"size":  size,
	"ago":   func(t time.Time) string { return age(time.Since(t)) },
	"age":   age,
	"since": func(unix int64) time.Duration { return time.Since(time.Unix(unix, 0)) },
	"time":  func(t time.Time) string { return t.Format("2006-01-02 15:04:05") },
	"iso":   func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
}

func size(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1000*1000:
		return fmt.Sprintf("%.0f kB", float64(n)/1000)
	}
	return fmt.Sprintf("%.1f MB", float64(n)/1e6)
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
