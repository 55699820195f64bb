package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"gatepost/internal/console"
)

func TestComplaints(t *testing.T) {
	now := time.Now()
	lane := func(name string, n int, age time.Duration) console.Health {
		return console.Health{Lanes: []console.LaneHealth{{Lane: name, Messages: n, Oldest: now.Add(-age)}}}
	}
	filter := func(onError string, shadow bool) console.Health {
		return console.Health{Filters: []console.FilterHealth{{Name: "f", Down: true, OnError: onError, Shadow: shadow}}}
	}
	ends := func(in time.Duration) console.Health {
		return console.Health{Certificates: []console.Certificate{{Name: "mx", Ends: now.Add(in)}}}
	}
	for _, tt := range []struct {
		name   string
		status console.Status
		health console.Health
		want   grade
		text   string
	}{
		{"nothing", console.Status{}, lane("retry", 10, time.Hour), gradeOK, ""},
		{"no mail is taken", console.Status{NotReady: "disk full"}, console.Health{}, gradeCritical, "disk full"},
		{"a filter is down", console.Status{}, filter("tempfail", false), gradeCritical, "filter f is down: tempfail"},
		{"mail passes without it", console.Status{}, filter("continue", false), gradeWarning, "without it"},
		{"it only watches", console.Status{}, filter("tempfail", true), gradeWarning, "without it"},
		{"many wait", console.Status{}, lane("fresh", 1000, 0), gradeWarning, "1000 messages wait"},
		{"too many wait", console.Status{}, lane("slow", 5000, 0), gradeCritical, "5000 messages wait"},
		{"old mail", console.Status{}, lane("retry", 1, 5*time.Hour), gradeWarning, "waits for 5h"},
		{"very old mail", console.Status{}, lane("retry", 1, 25*time.Hour), gradeCritical, "waits for 25h"},
		{"held mail may be old, and much", console.Status{}, lane("hold", 9000, 900*time.Hour), gradeOK, ""},
		{"a certificate", console.Status{}, ends(100 * time.Hour), gradeWarning, "certificate of mx"},
		{"a certificate that ended", console.Status{}, ends(-time.Hour), gradeCritical, "certificate of mx"},
		{"a good certificate", console.Status{}, ends(1000 * time.Hour), gradeOK, ""},
		{"a store", console.Status{State: console.StoreStatus{Name: "redis", Away: "refused"}}, console.Health{}, gradeWarning, "redis is away"},
		{"late signatures", console.Status{Daemons: []console.Daemon{{Filter: "clamav", Late: true}}}, console.Health{}, gradeWarning, "clamav are late"},
		{"a list", console.Status{}, console.Health{Lists: []console.ListHealth{{Name: "zen", Down: true}}}, gradeWarning, "zen"},
		{"the worst is first", console.Status{NotReady: "full", Daemons: []console.Daemon{{Filter: "clamav", Late: true}}}, lane("fresh", 1000, 0), gradeCritical, "full"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.health.Time = now
			all := usualLimits().complaints(tt.status, tt.health)
			if tt.want == gradeOK {
				if len(all) != 0 {
					t.Errorf("complains: %v", all)
				}
				return
			}
			if len(all) == 0 || all[0].grade != tt.want || !strings.Contains(all[0].text, tt.text) {
				t.Errorf("got %v, want %v %q", all, tt.want, tt.text)
			}
		})
	}
}

// What strangers say makes no figures and no second line.
func TestPluginLine(t *testing.T) {
	var out bytes.Buffer
	a := &app{out: &out, err: &out}
	code := a.report(a.plugin(gradeWarning, "a|b=1\nc\x1b[2J", "queue=1"))
	if got, want := out.String(), "GATEPOST WARNING - a/b=1 c?[2J | queue=1\n"; got != want || code != 1 {
		t.Errorf("got %q, %d; want %q, 1", got, code, want)
	}
}

func TestWhereToLook(t *testing.T) {
	for _, tt := range []struct{ to, network, address string }{
		{"smtp://mail.example.com", "tcp", "mail.example.com:25"},
		{"smtp://10.0.0.2:2525", "tcp", "10.0.0.2:2525"},
		{"smtp://[2001:db8::1]", "tcp", "[2001:db8::1]:25"},
		{"smtps://mail.example.com", "tcp", "mail.example.com:465"},
		{"lmtp://mail.example.com", "tcp", "mail.example.com:24"},
		{"lmtp+unix:///run/lmtp", "unix", "/run/lmtp"},
	} {
		if network, address := hopAddress(tt.to); network != tt.network || address != tt.address {
			t.Errorf("%s: %s %s, want %s %s", tt.to, network, address, tt.network, tt.address)
		}
	}
	for _, tt := range []struct{ server, network, address string }{
		{"ldap://dc1.example.com", "tcp", "dc1.example.com:389"},
		{"ldaps://dc1.example.com", "tcp", "dc1.example.com:636"},
		{"ldap://dc1.example.com:3268", "tcp", "dc1.example.com:3268"},
		{"ldapi:///run/slapd/ldapi", "unix", "/run/slapd/ldapi"},
	} {
		if network, address := ldapAddress(tt.server); network != tt.network || address != tt.address {
			t.Errorf("%s: %s %s, want %s %s", tt.server, network, address, tt.network, tt.address)
		}
	}
}
