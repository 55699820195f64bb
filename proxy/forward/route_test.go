package forward

import (
	"strings"
	"testing"
	"time"

	"gatepost/internal/mail"
)

func TestRoute(t *testing.T) {
	to := func(s string) Route { return Route{To: []string{"smtp://" + s}} }
	f, err := New(Config{Hostname: "MX1.sub.example.com", Routes: map[string]Route{
		"Example.COM":         to("exact.test"),
		".example.com":        to("below.test"),
		".deep.example.com":   to("deep.test"),
		"Boss@example.com":    to("boss.test"),
		"postmaster@pm.test":  to("pm.test"),
		"bücher.example":      to("idn.test"),
		"[192.0.2.1]":         to("literal.test"),
		"same.example":        to("exact.test:25"),
		"other-port.example":  to("exact.test:26"),
		"other-tls.example":   {To: []string{"smtp://exact.test"}, TLS: TLSNone},
		"defaults.example":    {To: []string{"smtp://EXACT.test/"}, TLS: TLSOpportunistic, MaxConnections: 20, IdleTimeout: 30 * time.Second},
		"xn--strae-oqa.test.": to("strasse.test"),
	}}, quietLog(t))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tests := []struct{ rcpt, want string }{
		{"a@example.com", "example.com"},
		{"a@EXAMPLE.com.", "example.com"},
		{"boss@example.com", "boss@example.com"},
		{"BOSS@example.com", "boss@example.com"},
		{"boss@x.example.com", ".example.com"},
		{"a@x.example.com", ".example.com"},
		{"a@deep.example.com", ".example.com"},
		{"a@x.y.deep.example.com", ".deep.example.com"},
		{"a@notexample.com", ""},
		{"a@com", ""},
		{"a@bücher.example", "xn--bcher-kva.example"},
		{"a@xn--bcher-kva.example", "xn--bcher-kva.example"},
		{"a@straße.test", "xn--strae-oqa.test"},
		{"a@[192.0.2.1]", "[192.0.2.1]"},
		{"a@[192.0.2.2]", ""},
		{"a@same.example", "example.com"},
		{"a@defaults.example", "example.com"},
		{"a@other-port.example", "other-port.example"},
		{"a@other-tls.example", "other-tls.example"},
		{"postmaster@pm.test", "postmaster@pm.test"},
		{"postmaster", "example.com"}, // the domain that the host is in
	}
	for _, tt := range tests {
		got, ok := f.Route(mailPath(t, tt.rcpt).Address)
		if got != tt.want || ok != (tt.want != "") {
			t.Errorf("Route(%s) = %q, %v, want %q", tt.rcpt, got, ok, tt.want)
		}
	}
}

func TestRouteOfPostmaster(t *testing.T) {
	tests := []struct {
		name string
		keys []string
		want string
	}{
		{"own key", []string{"Postmaster", "example.com", "."}, "postmaster"},
		{"host's domain", []string{"example.com", "."}, "example.com"},
		{"catch-all", []string{"other.example", "."}, "."},
		{"the only route", []string{"other.example"}, "other.example"},
		{"no way to tell", []string{"other.example", "more.example"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			routes := make(map[string]Route)
			for i, k := range tt.keys {
				routes[k] = Route{To: []string{"smtp://host" + string(rune('a'+i)) + ".test"}}
			}
			f, err := New(Config{Hostname: "mx.example.com", Routes: routes}, quietLog(t))
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := f.Route(mail.Address{Local: "postmaster"}); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestConfigErrors(t *testing.T) {
	ok := []string{"smtp://mail.test"}
	tests := []struct {
		name  string
		key   string
		route Route
		want  string // "" is none
	}{
		{"IPv6", "a.test", Route{To: []string{"smtp://[2001:db8::1]:2525"}}, ""},
		{"unix", "a.test", Route{To: []string{"lmtp+unix:///run/lmtp.sock"}}, ""},
		{"several hosts", "a.test", Route{To: []string{"smtp://one.test", "lmtp://one.test", "smtp://192.0.2.1"}}, ""},
		{"no host", "a.test", Route{}, `route "a.test": to: names no host`},
		{"empty URL", "a.test", Route{To: []string{""}}, `route "a.test": to "": want smtp://host:port`},
		{"no scheme", "a.test", Route{To: []string{"mail.test:25"}}, `to "mail.test:25": `},
		{"sendmail's form", "a.test", Route{To: []string{"[mail.test]:25"}}, "want smtp://host:port"},
		{"scheme", "a.test", Route{To: []string{"http://mail.test"}}, `scheme "http": want smtp, smtps, lmtp or lmtp+unix`},
		{"no host name", "a.test", Route{To: []string{"smtp://:25"}}, "host: "},
		{"bad host name", "a.test", Route{To: []string{"smtp://-x.test"}}, "host: "},
		{"bad address", "a.test", Route{To: []string{"smtp://192.0.2.999"}}, "host: "},
		{"port 0", "a.test", Route{To: []string{"smtp://mail.test:0"}}, `port "0"`},
		{"port 65536", "a.test", Route{To: []string{"smtp://mail.test:65536"}}, `port "65536"`},
		{"password", "a.test", Route{To: []string{"smtp://me:pw@mail.test"}}, "only a host and a port"},
		{"path", "a.test", Route{To: []string{"smtp://mail.test/x"}}, "only a host and a port"},
		{"query", "a.test", Route{To: []string{"smtp://mail.test?tls=none"}}, "only a host and a port"},
		{"host twice", "a.test", Route{To: []string{"smtp://mail.test", "smtp://MAIL.test:25"}}, "is there twice"},
		{"relative socket", "a.test", Route{To: []string{"lmtp+unix://run/lmtp"}}, "lmtp+unix:///path"},
		{"tls", "a.test", Route{To: ok, TLS: "yes"}, `tls "yes": want none, opportunistic, required, verify, mta-sts, dane or auto`},
		{"negative", "a.test", Route{To: ok, CommandTimeout: -1}, "command_timeout: negative"},
		{"star", "*", Route{To: ok}, `route "*": want a domain`},
		{"bad domain", "a..test", Route{To: ok}, `route "a..test": `},
		{"bad address key", "a b@x.test", Route{To: ok}, `route "a b@x.test": `},
		{"empty key", "", Route{To: ok}, `route "": `},
		{"twice", "Twice.test", Route{To: ok}, `is there twice, in another spelling`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := Config{Hostname: "mx.test", Routes: map[string]Route{tt.key: tt.route, "other.test": {To: ok}, "twice.test": {To: ok}}}
			err := cfg.Validate()
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want … %s …", err, tt.want)
			}
			if _, newErr := New(cfg, quietLog(t)); newErr == nil {
				t.Error("New takes it")
			}
		})
	}
}

func TestConfigReportsAll(t *testing.T) {
	err := Config{Hostname: "not a name", Routes: map[string]Route{
		"a.test": {To: []string{"x", "y"}, TLS: "z"},
		"b.test": {},
	}}.Validate()
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"hostname", `to "x"`, `to "y"`, `tls "z"`, `route "b.test"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in:\n%v", want, err)
		}
	}
}

func TestEndpointDefaults(t *testing.T) {
	tests := []struct {
		url, address string
		lmtp         bool
	}{
		{"smtp://mail.test", "mail.test:25", false},
		{"lmtp://mail.test", "mail.test:24", true},
		{"smtp://[2001:db8::1]", "[2001:db8::1]:25", false},
		{"smtp://192.0.2.1:2525", "192.0.2.1:2525", false},
		{"smtp://bücher.example", "xn--bcher-kva.example:25", false},
		{"lmtp+unix:///run/x", "/run/x", true},
	}
	for _, tt := range tests {
		e, err := parseEndpoint(tt.url)
		if err != nil || e.address() != tt.address || e.lmtp != tt.lmtp {
			t.Errorf("%s: %q, lmtp %v, %v", tt.url, e.address(), e.lmtp, err)
		}
	}
}
