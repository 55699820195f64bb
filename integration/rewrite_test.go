package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gatepost/internal/testkit"
)

// table writes a file that a configuration names.
func tableFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(testkit.Dir(t), "table")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// Recipients are rewritten on the way in, after obtuse's rules and the relay
// rules have judged the ones that the sender wrote; senders on the way out.
func TestRewriting(t *testing.T) {
	sink := testkit.Up(t, testkit.NewSink())
	g := newGateway(t, binaries.race, sink.Addr)
	inside, err := testkit.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	g.Config.Set("listener.inside", "address", `"`+inside+`"`)
	g.Config.Set("listener.inside", "role", `"relay"`)
	g.Config.Set("relay", "networks", `["127.0.0.9/32"]`)
	g.Config.Set(`route."."`, "to", `["smtp://`+sink.Addr+`"]`)
	g.Config.Set("check_rules", "file", `"`+tableFile(t, "noto:ALL:ALL:closed@example.com:550 %T is closed\ndeny:ALL:*@spam.test:ALL:521 Not from %F\nallow:ALL:ALL:ALL\n")+`"`)
	g.Config.Set("rewrite", "virtusertable", `"`+tableFile(t, "info@example.com team@example.com\nnobody@example.com error:nouser 550 No such user here\n")+`"`)
	g.Config.Set("rewrite", "virtual_domains", `["example.com"]`)
	g.Config.Set("rewrite", "aliases", `"`+tableFile(t, "team: a, b@far.test\n")+`"`)
	g.Config.Set("rewrite", "alias_domains", `["example.com"]`)
	g.Config.Set("rewrite", "masquerade_as", `"example.com"`)
	g.Config.Set("rewrite", "masquerade_domains", `[".example.com"]`)
	g.Config.Set("rewrite", "masquerade_envelope", `true`)
	testkit.Up(t, g)

	to := func(rcpt string) testkit.Letter {
		return testkit.Letter{From: "s@sender.test", To: []string{rcpt}, Data: testkit.Message("1", "in", "x")}
	}
	sendWant(t, g.Addr, to("info@example.com"), testkit.Dot, 250)
	var got []string
	for _, m := range waitMails(t, sink, 1) {
		got = append(got, strings.Join(m.To, " "))
	}
	all := strings.Join(got, " ")
	if !strings.Contains(all, "<a@example.com>") || !strings.Contains(all, "<b@far.test>") || strings.Contains(all, "info@example.com>") {
		t.Errorf("recipients: %s", all)
	}
	for rcpt, want := range map[string]string{"nobody@example.com": "550 5.1.1 No such user here", "closed@example.com": "550 5.7.1 <closed@example.com> is closed"} {
		if res := sendWant(t, g.Addr, to(rcpt), "RCPT", 550); !strings.Contains(res.String(), want) {
			t.Errorf("%s: %s, want %s", rcpt, res, want)
		}
	}

	d := testkit.Connect(t, g.Addr)
	d.Do("EHLO client.test", 250)
	d.Do("MAIL FROM:<x@spam.test>", 250)
	d.Do("RCPT TO:<u@example.com>", 521)
	d.Expect(421)

	data := []byte(strings.Replace(string(testkit.Message("2", "out", "x")), "From: ", "From: Us <u@pc.example.com>\r\nX-Old-From: ", 1))
	sendWant(t, inside, testkit.Letter{From: "u@pc.example.com", To: []string{"v@far.test"}, Data: data, Client: "127.0.0.9"}, testkit.Dot, 250)
	out := waitMails(t, sink, 2)[1]
	if !strings.HasPrefix(out.From, "<u@example.com>") || !strings.Contains(string(out.Data), "\r\nFrom: Us <u@example.com>\r\n") {
		t.Errorf("from %s\n%s", out.From, out.Data)
	}
}
