package config

import (
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	tests := []struct {
		in   string
		want time.Duration
		ok   bool
	}{
		{"60s", time.Minute, true},
		{"5m", 5 * time.Minute, true},
		{"5d", 120 * time.Hour, true},
		{"1d12h", 36 * time.Hour, true},
		{"1h 30m", 0, false},
		{"1.5h", 90 * time.Minute, true},
		{"250ms", 250 * time.Millisecond, true},
		{"0s", 0, true},
		{"60", 0, false},
		{"", 0, false},
		{"-5s", 0, false},
		{"5 minutes", 0, false},
		{"5M", 0, false},
		{"1e3s", 0, false},
		{"999999999999d", 0, false},
		{"1.2.3s", 0, false},
	}
	for _, tt := range tests {
		got, err := ParseDuration(tt.in)
		if (err == nil) != tt.ok || got != tt.want {
			t.Errorf("ParseDuration(%q) = %v, %v; want %v, ok %v", tt.in, got, err, tt.want, tt.ok)
		}
	}
}

func TestParseSize(t *testing.T) {
	tests := []struct {
		in   string
		want int64
		ok   bool
	}{
		{"25MB", 25_000_000, true},
		{"512kB", 512_000, true},
		{"512 kB", 512_000, true},
		{"1GiB", 1 << 30, true},
		{"1.5KiB", 1536, true},
		{"0B", 0, true},
		{"100", 0, false},
		{"25M", 0, false},
		{"25MB5", 0, false},
		{"-1MB", 0, false},
		{"9999999999GB", 0, false},
		{"MB", 0, false},
	}
	for _, tt := range tests {
		got, err := parseSize(tt.in)
		if (err == nil) != tt.ok || got != tt.want {
			t.Errorf("parseSize(%q) = %v, %v; want %v, ok %v", tt.in, got, err, tt.want, tt.ok)
		}
	}
}
