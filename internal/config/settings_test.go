package config

import (
	"strings"
	"testing"
)

// Each key has the place that sets it, or its default, and no secret.
func TestSettings(t *testing.T) {
	c, err := Load("testdata/good/everything.toml")
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]Setting)
	for _, s := range c.Settings {
		if _, twice := found[s.Key]; twice {
			t.Errorf("%s is there twice", s.Key)
		}
		found[s.Key] = s
	}
	for key, want := range map[string]Setting{
		"hostname":                            {Value: `"MX1.example.com."`, Line: 1},
		"limits.max_size":                     {Value: `"25MB"`, Line: 18},
		"limits.login_delay":                  {Value: `"2s"`},
		"listener.inside.limits.max_size":     {Value: `"100MiB"`, Line: 31},
		"history_max_age":                     {Value: `"30d"`},
		"history_max_size":                    {Value: `"2GB"`},
		"queue.first_retry":                   {Value: `"1m30s"`, Line: 86},
		`route."example.com".to`:              {Value: `["smtp://exchange1.example.com:25", "smtp://exchange2.example.com:25"]`, Line: 37},
		`policy.for."vip@example.com".reject`: {},
		"filter.clamav.timeout":               {Value: `"1m"`, Line: 68},
		"log.level":                           {Value: `"debug"`, Line: 91},
	} {
		s := found[key]
		if s.Value != want.Value || s.Line != want.Line || (s.File != "") != (want.Line > 0) {
			t.Errorf("%s = %+v, want %+v", key, s, want)
		}
	}
	if n := len(c.Settings); n < 150 {
		t.Errorf("%d settings", n)
	}
	at := 0
	for i, s := range c.Settings {
		if !strings.Contains(s.Key, ".") {
			at = i
		}
	}
	if at > 20 {
		t.Errorf("a key of the top level is number %d", at)
	}
}

func TestMasked(t *testing.T) {
	tests := []struct{ name, key, text, want string }{
		{"password", "bind_password", `"x"`, `"********"`},
		{"file of a password", "bind_password_file", `"/etc/x"`, `"/etc/x"`},
		{"no password", "password", `""`, `""`},
		{"list of secrets", "secrets", `["x", "y"]`, `"********"`},
		{"webhook", "webhook", `"https://chat.example.com/hooks/abc"`, `"********"`},
		{"address", "state", `"redis://10.0.0.9:6379/0"`, `"redis://10.0.0.9:6379/0"`},
		{"address with a password", "state", `"redis://user:s3cret@10.0.0.9:6379/0"`, `"redis://user:********@10.0.0.9:6379/0"`},
		{"no user", "state", `"redis://:s3cret@10.0.0.9"`, `"redis://:********@10.0.0.9"`},
		{"a slash in it", "state", `"redis://u:s3/cret@10.0.0.9"`, `"redis://u:********@10.0.0.9"`},
		{"two", "to", `["smtp://a", "smtp://u:p@b:25"]`, `["smtp://a", "smtp://u:********@b:25"]`},
		{"user only", "to", `"smtp://user@b:25"`, `"smtp://user@b:25"`},
		{"in the query", "state", `"redis://h?password=x&db=1"`, `"redis://h?********"`},
		{"file in the query", "state", `"redis://h?password_file=/x"`, `"redis://h?password_file=/x"`},
		{"mapping", "domains", `"file:/x"`, `"file:/x"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, hidden := masked(tt.key, tt.text)
			if got != tt.want || hidden != (tt.text != tt.want) {
				t.Errorf("%s, %v; want %s", got, hidden, tt.want)
			}
		})
	}
	if got := toTOML(map[string]any{"user": "a", "password": "x"}); got != `{ password = "********", user = "a" }` {
		t.Errorf("in a table: %s", got)
	}
}
