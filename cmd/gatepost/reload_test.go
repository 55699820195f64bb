package main

import (
	"log/slog"
	"slices"
	"testing"

	"gatepost/internal/config"
	"gatepost/internal/maillog"
	"gatepost/proxy"
)

func TestNeedRestart(t *testing.T) {
	old := func() *config.Config {
		return &config.Config{
			Spool: "/s", Control: "/c", Log: maillog.DefaultConfig(),
			Listeners: []config.Listener{{Config: proxy.Config{Name: "a", Address: "x:1", Role: proxy.MX}}, {Config: proxy.Config{Name: "b", Address: "x:2"}}},
		}
	}
	tests := []struct {
		name   string
		change func(*config.Config)
		want   []string
	}{
		{"nothing", func(*config.Config) {}, nil},
		{"what can be reloaded", func(c *config.Config) {
			c.Listeners[0].Limits.MaxSize = 7
			c.Log.Level = slog.LevelDebug
			c.Queue.MaxDeliveries = 3
			c.Hostname = "other.example.com"
		}, []string{"hostname"}},
		{"paths", func(c *config.Config) { c.Spool, c.Control, c.Console.Address = "/t", "/d", "y:3" }, []string{"spool", "control", "console.address"}},
		{"the store", func(c *config.Config) { c.Store.Path = "/t" }, []string{"state"}},
		{"log", func(c *config.Config) { c.Log.Format = maillog.JSON }, []string{"log.format"}},
		{"a listener moved", func(c *config.Config) { c.Listeners[0].Address, c.Listeners[0].Role = "x:9", proxy.Relay }, []string{"listener.a.address", "listener.a.role"}},
		{"a listener gone", func(c *config.Config) { c.Listeners = c.Listeners[:1] }, []string{"listener.b"}},
		{"a listener renamed", func(c *config.Config) { c.Listeners[1].Name = "n" }, []string{"listener.b", "listener.n"}},
	}
	for _, tt := range tests {
		fresh := old()
		tt.change(fresh)
		if got := needRestart(old(), fresh); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
