package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

const durationUnits = "ms, s, m, h or d"

// ParseDuration reads "90s", "1h30m", "5d". A number without a unit is refused:
// nobody remembers whether it meant seconds or minutes.
func ParseDuration(s string) (time.Duration, error) {
	units := map[string]time.Duration{
		"ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour,
	}
	var sum float64
	for rest := s; ; {
		n, unit, next, err := quantity(rest)
		if err != nil {
			return 0, err
		}
		if unit == "" {
			return 0, fmt.Errorf("%q has no unit", s)
		}
		if units[unit] == 0 {
			return 0, fmt.Errorf("%q is no unit of time", unit)
		}
		sum += n * float64(units[unit])
		if rest = next; rest == "" {
			break
		}
	}
	if sum >= math.MaxInt64 {
		return 0, fmt.Errorf("%q is too long", s)
	}
	return time.Duration(sum), nil
}

const sizeUnits = "B, kB, MB, GB, KiB, MiB or GiB"

// ParseSize reads a size as the file has them: "25MB".
func ParseSize(s string) (int64, error) { return parseSize(s) }

// parseSize reads "512kB", "25MB", "1GiB": thousands, or with an i 1024s.
func parseSize(s string) (int64, error) {
	units := map[string]float64{
		"b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
	}
	n, unit, rest, err := quantity(s)
	if err != nil {
		return 0, err
	}
	if unit == "" {
		return 0, fmt.Errorf("%q has no unit", s)
	}
	factor := units[strings.ToLower(unit)]
	if factor == 0 || rest != "" {
		return 0, fmt.Errorf("%q is no unit of size", unit+rest)
	}
	if n*factor >= math.MaxInt64 {
		return 0, fmt.Errorf("%q is too large", s)
	}
	return int64(n * factor), nil
}

// quantity cuts a number and the unit behind it off the front of s.
func quantity(s string) (n float64, unit, rest string, err error) {
	i := 0
	for i < len(s) && (s[i] >= '0' && s[i] <= '9' || s[i] == '.') {
		i++
	}
	if n, err = strconv.ParseFloat(s[:i], 64); err != nil {
		return 0, "", "", fmt.Errorf("%q does not begin with a number", s)
	}
	for i < len(s) && s[i] == ' ' {
		i++
	}
	j := i
	for j < len(s) && (s[j] < '0' || s[j] > '9') && s[j] != '.' {
		j++
	}
	return n, s[i:j], s[j:], nil
}
