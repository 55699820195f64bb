package integration

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"gatepost/internal/testkit"
)

// TestAuthThroughBothEntries sends every row through the proxy and through a
// Postfix that asks us: the same becomes of it, and the next hop reads the same
// results.
func TestAuthThroughBothEntries(t *testing.T) {
	needRoot(t)
	a := newAuthors(t)
	rows := a.letters()
	postfix, sinks := newDoors(t, 1)
	servers := &neighbours{postfix: postfix}
	for _, e := range []struct {
		name    string
		through entry
		sink    *testkit.Sink
	}{{"proxy", throughProxy, testkit.Up(t, testkit.NewSink())}, {"milter", throughMilter, sinks[0]}} {
		t.Run(e.name, func(t *testing.T) {
			s := &scenario{T: t, entry: e.name, servers: servers, door: postfix.Doors[0], sink: e.sink, gateway: newGateway(t, binaries.race, e.sink.Addr)}
			c := &s.gateway.Config
			c.Set("dns", "servers", fmt.Sprintf("[%q]", a.zone.Addr))
			c.Set("dns", "timeout", `"20s"`)
			c.Set("filter.auth", "check_ours", "true") // the client is this host
			c.Set("filter.auth", "timeout", `"60s"`)
			c.Set("filter.auth", "trusted_sealers", `["list.test"]`)
			addr, idle := e.through(s)
			before := strings.Count(a.zone.Log(), ".many.test.")
			replies := make([]testkit.Reply, len(rows))
			want := 0
			rows := slices.Clone(rows)
			for i, l := range rows {
				if e.name == "milter" && l.mta != "" {
					rows[i].want = l.mta
				}
				replies[i] = l.deliver(t, addr, i)
				l = rows[i]
				if strings.HasPrefix(l.want, "250 spf") {
					want++
				}
			}
			testkit.Eventually(t, authWait, "nothing on its way", idle)
			got := arrivedCases(e.sink.Wait(want, authWait))
			for i, l := range rows {
				t.Run(l.name, func(t *testing.T) { l.compare(t, replies[i], got[i]) })
			}
			// D7: of the 111 look-ups that the policy wants forty are made, each of
			// an address in two questions.
			if asked := strings.Count(a.zone.Log(), ".many.test.") - before; asked == 0 || asked > 80 {
				t.Errorf("%d questions for one policy", asked)
			}
			if held := len(s.held()); held != strings.Count(wants(rows), "held") {
				t.Errorf("%d are held: %s", held, s.held())
			}
		})
	}
}

func wants(rows []authLetter) string {
	var all []string
	for _, l := range rows {
		all = append(all, l.want)
	}
	return strings.Join(all, "\n")
}

// arrivedCases finds the messages by the number that each has.
func arrivedCases(mails []testkit.Mail) map[int][]byte {
	all := make(map[int][]byte)
	for _, m := range mails {
		if i, err := strconv.Atoi(field(string(m.Data), "X-Case")); err == nil {
			all[i] = m.Data
		}
	}
	return all
}

func (l authLetter) compare(t *testing.T, reply testkit.Reply, data []byte) {
	t.Helper()
	ours := results(data)
	got := strconv.Itoa(reply.Code)
	switch {
	case data != nil:
		got += " " + ours.words()
	case reply.Code == 250:
		got += " held"
	}
	if got != l.want {
		t.Errorf("%s (%s), want %s", got, reply, l.want)
	}
	if data != nil && ours.fields != 1 {
		t.Errorf("%d fields of ours", ours.fields)
	}
	if strings.Contains(string(data), "FORGED") {
		t.Errorf("a forgery arrived:\n%s", data)
	}
	if ours.all("dmarc", "") == "pass" && strings.Contains(string(data), "From :") {
		t.Error("it passes")
	}
}
