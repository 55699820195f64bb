package integration

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gatepost/internal/testkit"
)

// entry starts the gateway, and what stands before it, and returns where the
// client connects, and whether all mail has left.
type entry func(*scenario) (address string, idle func() bool)

// throughProxy: the client speaks to us.
func throughProxy(s *scenario) (string, func() bool) {
	testkit.Up(s.T, s.gateway)
	return s.gateway.Addr, func() bool {
		return len(inState(s.T, s.gateway, "queue"))+len(inState(s.T, s.gateway, "slow")) == 0
	}
}

// throughMilter: the client speaks to a Postfix that has us as its milter. What
// is to be held we hold, as in the proxy: Postfix could hold the whole message
// only.
func throughMilter(s *scenario) (string, func() bool) {
	s.gateway.Config.Set("milter.main", "socket", fmt.Sprintf("%q", s.door.Milter))
	s.gateway.Config.Set("milter.main", "mode", `"0666"`) // Postfix asks as its own user
	s.gateway.Config.Set("milter.main", "quarantine", `"hold"`)
	s.gateway.Config.Set("milter.main", "reinject", fmt.Sprintf("%q", "smtp://"+s.sink.Addr))
	testkit.Up(s.T, s.gateway)
	return s.door.Addr, func() bool {
		left, err := s.servers.postfix.Queue()
		return err == nil && !slices.ContainsFunc(left, func(q testkit.Queued) bool { return q.Queue != "hold" })
	}
}

// newDoors prepares a Postfix with a port for each of n scenarios: to start one
// for each would take longer than all that they do. As towards the Internet it
// completes no header, and passes on no ORCPT that nobody gave it.
func newDoors(t *testing.T, n int) (*testkit.MilterPostfix, []*testkit.Sink) {
	dir := testkit.Dir(t)
	p := testkit.NewMilterPostfix(dir, "127.0.0.1:9", "", "relay_domains = example.com, strict.test",
		"local_header_rewrite_clients =", "smtp_discard_ehlo_keywords = dsn")
	var sinks []*testkit.Sink
	for i := range n {
		addr, err := testkit.FreeAddr()
		if err != nil {
			t.Fatal(err)
		}
		sinks = append(sinks, testkit.Up(t, testkit.NewSink()))
		p.Doors = append(p.Doors, testkit.Door{Addr: addr, Milter: fmt.Sprintf("unix:%s/m%d.sock", dir, i), Next: sinks[i].Addr})
	}
	return testkit.Up(t, p), sinks
}

// outcome is what became of a dialogue.
type outcome struct {
	replies   []testkit.Reply
	actions   []string // of the decision lines
	delivered []string
	held      []string
}

// compare wants what the scenario's file says.
func (o outcome) compare(t *testing.T, want outcome) {
	t.Helper()
	if !slices.Equal(o.delivered, want.delivered) {
		t.Errorf("delivered:\n%s\nwant:\n%s", strings.Join(o.delivered, "=====\n"), strings.Join(want.delivered, "=====\n"))
	}
	if !slices.Equal(o.held, want.held) {
		t.Errorf("held:\n%s\nwant:\n%s", strings.Join(o.held, "\n"), strings.Join(want.held, "\n"))
	}
}

// same wants of a message through an MTA what became of it through the proxy.
// This is the one place that says what may differ, as it is the MTA's own:
//   - the words of a reply that is not a refusal, and of the greeting;
//   - the replies that the scenario marks as its own;
//   - the Received field on top, with which each of them begins.
func (o outcome) same(t *testing.T, proxied outcome) {
	t.Helper()
	if got, want := refusals(o.replies), refusals(proxied.replies); !slices.Equal(got, want) {
		t.Errorf("refused through the MTA:\n%s\nthrough the proxy:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if !slices.Equal(o.actions, proxied.actions) {
		t.Errorf("decided through the MTA: %q, through the proxy: %q", o.actions, proxied.actions)
	}
	proxied.delivered = slices.Clone(proxied.delivered)
	for i, m := range proxied.delivered {
		proxied.delivered[i] = withoutReceived(m)
	}
	o.delivered = slices.Clone(o.delivered)
	for i, m := range o.delivered {
		o.delivered[i] = withoutReceived(m)
	}
	slices.Sort(o.delivered)
	slices.Sort(proxied.delivered)
	o.compare(t, proxied)
}

// refusals are the replies that refuse something, word for word.
func refusals(replies []testkit.Reply) []string {
	var all []string
	for _, r := range replies {
		if r.Code >= 400 {
			all = append(all, normalise(r.String()))
		}
	}
	return all
}

var receivedByUs = regexp.MustCompile(`(?m)^Received: from client\.test \(.*\n(?:[ \t].*\n)*`)

// withoutReceived takes out the field that the MTA, or we, put on top.
func withoutReceived(m string) string {
	at := receivedByUs.FindStringIndex(m)
	if at == nil {
		return m
	}
	return m[:at[0]] + m[at[1]:]
}

// arrived are the messages at the next hop.
func (s *scenario) arrived() []string {
	var all []string
	for _, m := range s.sink.Mails() {
		to := slices.Sorted(slices.Values(m.To))
		envelope := fmt.Sprintf("MAIL FROM:%s\r\nRCPT TO:%s\r\n\r\n", m.From, strings.Join(to, "\r\nRCPT TO:"))
		all = append(all, normalise(envelope+string(m.Data)))
	}
	slices.Sort(all)
	return all
}

// held lists what we hold, as "recipients: reason".
func (s *scenario) held() []string {
	var all []string
	for _, m := range inState(s.T, s.gateway, "hold") {
		var to []string
		recipients, _ := m["recipients"].([]any)
		for _, r := range recipients {
			to = append(to, fmt.Sprint(r.(map[string]any)["address"]))
		}
		slices.Sort(to)
		all = append(all, normalise(fmt.Sprintf("%s: %v", strings.Join(to, " "), m["reason"])))
	}
	slices.Sort(all)
	return all
}

var decision = regexp.MustCompile(`: message: .*\baction=(\w+)`)

// decided lists the actions of the decision lines.
func (s *scenario) decided() []string {
	var all []string
	for _, m := range decision.FindAllStringSubmatch(s.gateway.Log(), -1) {
		all = append(all, m[1])
	}
	return all
}
