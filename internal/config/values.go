package config

import (
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"reflect"
	"strings"
	"time"
)

func (p place) setScalar(f field, v any) {
	switch f.value.Kind() {
	case reflect.String:
		p.setString(f.value, v)
	case reflect.Bool:
		b, ok := v.(bool)
		if !ok {
			p.problem("is "+kindOf(v), "write true or false, without quotes")
			return
		}
		f.value.SetBool(b)
	case reflect.Int, reflect.Int32, reflect.Int64:
		p.setInt(f, v)
	case reflect.Float64:
		p.setFloat(f, v)
	case reflect.Interface:
		f.value.Set(reflect.ValueOf(v))
	default:
		// A field of a kind that no configuration needs: our own mistake.
		p.problem("can't be set: "+f.value.Type().String(), "report this as a bug")
	}
}

func (p place) text(v any) (string, bool) {
	s, ok := v.(string)
	if !ok {
		p.problem("is "+kindOf(v), "write text in quotes")
	}
	return s, ok
}

// setString asks types with a closed set of values, and leaves the default
// where they refuse.
func (p place) setString(dst reflect.Value, v any) {
	s, ok := p.text(v)
	if !ok {
		return
	}
	fresh := reflect.New(dst.Type()).Elem()
	fresh.SetString(s)
	if c, ok := fresh.Interface().(interface{ Validate() error }); ok {
		if err := c.Validate(); err != nil {
			what, do, _ := strings.Cut(strings.TrimLeft(strings.TrimPrefix(err.Error(), p.key), ": "), "; ")
			if key, rest, ok := strings.Cut(what, ": "); ok && quoteKey(key) == key { // the place says it
				what = rest
			}
			p.problem(what, do)
			return
		}
	}
	dst.Set(fresh)
}

func (p place) setInt(f field, v any) {
	if f.size {
		p.setSize(f.value, v)
		return
	}
	n, ok := v.(int64)
	switch {
	case !ok:
		p.problem("is "+kindOf(v), "write a whole number, without quotes")
	case n < 0:
		p.problem("is negative", "write a number of 0 or more")
	case f.value.OverflowInt(n):
		p.problem(fmt.Sprintf("%d is too large", n), "write a smaller number")
	default:
		f.value.SetInt(n)
	}
}

func (p place) setFloat(f field, v any) {
	switch n := v.(type) {
	case int64:
		f.value.SetFloat(float64(n))
	case float64:
		if math.IsNaN(n) || math.IsInf(n, 0) {
			p.problem("is not a finite number", "write a number like 5.0")
			return
		}
		f.value.SetFloat(n)
	default:
		p.problem("is "+kindOf(v), "write a number like 5.0, without quotes")
	}
}

func (p place) setSize(dst reflect.Value, v any) {
	if n, ok := v.(int64); ok {
		p.problem("has no unit", fmt.Sprintf("write \"%dB\" or \"25MB\" (units: %s)", n, sizeUnits))
		return
	}
	s, ok := p.text(v)
	if !ok {
		return
	}
	n, err := parseSize(s)
	if err != nil {
		p.problem(err.Error(), fmt.Sprintf("write a size like \"25MB\" (units: %s)", sizeUnits))
		return
	}
	dst.SetInt(n)
}

func (p place) setDuration(dst *time.Duration, v any) {
	if n, ok := v.(int64); ok {
		p.problem("has no unit", fmt.Sprintf("write \"%ds\" or \"%dm\" (units: %s)", n, n, durationUnits))
		return
	}
	s, ok := p.text(v)
	if !ok {
		return
	}
	d, err := ParseDuration(s)
	if err != nil {
		p.problem(err.Error(), fmt.Sprintf("write a duration like \"60s\" or \"5m\" (units: %s)", durationUnits))
		return
	}
	*dst = d
}

// setPrefix reads a network; a single address is one, too.
func (p place) setPrefix(dst *netip.Prefix, v any) {
	s, ok := p.text(v)
	if !ok {
		return
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		*dst = netip.PrefixFrom(a, a.BitLen())
		return
	}
	n, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		p.problem(fmt.Sprintf("%q is no network", s), `write one like "10.0.0.0/8" or "2001:db8::/32"`)
	case n != n.Masked():
		p.problem(fmt.Sprintf("%q names a host, not a network", s), fmt.Sprintf("write %q for the network or \"%s\" for the host", n.Masked(), n.Addr()))
	default:
		*dst = n
	}
}

// setLevel reads the level of a log by the words that people use.
func (p place) setLevel(dst *slog.Level, v any) {
	s, ok := p.text(v)
	if !ok {
		return
	}
	levels := map[string]slog.Level{
		"debug": slog.LevelDebug, "info": slog.LevelInfo, "warning": slog.LevelWarn, "warn": slog.LevelWarn, "error": slog.LevelError,
	}
	if *dst, ok = levels[s]; !ok {
		p.problem(fmt.Sprintf("%q is no level", s), "write debug, info, warning or error")
	}
}
