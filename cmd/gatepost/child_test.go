package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"gatepost/filters"
	"gatepost/internal/config"
	"gatepost/internal/mail"
	"gatepost/rules"
)

const childSection = "[filter.foreign]\nkind = \"milter\"\naddress = %q\n"

// A milter among the filters refuses in its own words and changes what is kept.
// A configuration with a mistake doesn't take it away (defect R): mail would
// pass unjudged.
func TestChildStaysThroughABadReload(t *testing.T) {
	dir := t.TempDir()
	f := &foreign{}
	socket := "unix:" + dir + "/other.sock"
	stop := serveMilter(t, f, socket)
	g := startGateway(t, dir, relayForExample+"listener.mx.address = \"127.0.0.1:0\"\n"+fmt.Sprintf(childSection, socket))
	good, err := os.ReadFile(g.boot.File)
	if err != nil {
		t.Fatal(err)
	}
	message := func() {
		t.Helper()
		c, _ := dialSMTP(t, g.servers[0].Addr().String())
		c.want("EHLO client.test", "250")
		c.want("MAIL FROM:<s@sender.test>", "250")
		c.want("RCPT TO:<u@out.example>", "550 5.7.1") // the rules come first
		c.want("RCPT TO:<no@example.com>", "550 5.1.1 the milter says no")
		c.want("RCPT TO:<u@example.com>", "250")
		c.want("DATA", "354")
		answer := c.want("From: a@b.test\r\nSubject: old\r\n\r\nbody\r\n.", "250")
		if got, want := f.saw(), "mail s@sender.test; rcpt u@example.com; message From,Subject"; got != want {
			t.Errorf("the milter saw %q, want %q", got, want)
		}
		got := kept(t, g, answer[strings.LastIndexByte(answer, ' ')+1:])
		if !strings.Contains(got, "\r\nSubject: changed\r\nX-Foreign: was here\r\n") || strings.Contains(got, "old") {
			t.Errorf("kept:\n%s", got)
		}
	}
	message()
	for name, bad := range map[string]string{
		"no TOML":         string(good) + "x = \n",
		"a bad socket":    string(good) + fmt.Sprintf(strings.ReplaceAll(childSection, "foreign", "second"), "inet:none@127.0.0.1"),
		"an unknown vote": string(good) + "vote = \"perhaps\"\n",
	} {
		if err := os.WriteFile(g.boot.File, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := g.reload(t.Context()); err == nil {
			t.Errorf("%s: taken", name)
		}
		message()
	}
	// Defect H: nothing starts with it either.
	if _, err := config.Load(g.boot.File); err == nil {
		t.Error("a bad file is loaded")
	}
	if err := os.WriteFile(g.boot.File, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := g.reload(t.Context()); err != nil {
		t.Error(err)
	}
	message()

	stop() // defect E: while it is down, mail waits
	if _, banner := dialSMTP(t, g.servers[0].Addr().String()); !strings.HasPrefix(banner, "421") {
		t.Errorf("without the milter: %q, want 421", banner)
	}
}

func TestDecides(t *testing.T) {
	envelope := []mail.Stage{mail.StageConnect, mail.StageHelo, mail.StageMail, mail.StageRcpt}
	withAccess := new(config.Config)
	withAccess.Rules.Relay.Access = "/some/file"
	for _, tt := range []struct {
		name  string
		cfg   *config.Config
		steps []filters.Step
		want  []mail.Stage
	}{
		{"nobody", new(config.Config), []filters.Step{{Stages: []mail.Stage{mail.StageMessage}}}, nil},
		{"access map", withAccess, nil, []mail.Stage{mail.StageConnect, mail.StageMail, mail.StageRcpt}},
		{"refuse", new(config.Config), []filters.Step{{OnError: filters.Refuse}}, envelope[:1]},
		{"milter", withAccess, []filters.Step{{Stages: append(slices.Clone(envelope), mail.StageData, mail.StageMessage)}}, envelope},
	} {
		if got := decides(tt.cfg, noRules(t), tt.steps); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func noRules(t *testing.T) *rules.Set {
	t.Helper()
	set, err := rules.Load(rules.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return set
}
