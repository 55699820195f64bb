package forward

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
)

func names(hops []hop) []string {
	var all []string
	for h := range inTurn(hops) {
		all = append(all, h.name)
	}
	return all
}

// TestHealthOverTime: a host that failed comes last for a time that grows, then
// one delivery tries it while the others pass it by.
func TestHealthOverTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := &host{endpoint: endpoint{name: "one"}}, &host{endpoint: endpoint{name: "two"}}
		hops := []hop{{host: one}, {host: two}}
		down := turnedAway(mail.Reply{Code: 421})
		first, second := []string{"one", "two"}, []string{"two", "one"}
		expect := func(when string, want []string) {
			t.Helper()
			if got := names(hops); !slices.Equal(got, want) {
				t.Errorf("%s: %v, want %v", when, got, want)
			}
		}
		expect("at first", first)
		for _, least := range []time.Duration{13 * time.Second, 26 * time.Second, 52 * time.Second} {
			one.judge(netip.Addr{}, down)
			expect("just failed", second)
			time.Sleep(least)
			expect("a little later", second)
			time.Sleep(least / 3)
			expect("the probe", first)
			expect("the others meanwhile", second)
		}
		one.judge(netip.Addr{}, unreadable(context.Canceled)) // the probe came to nothing by our own fault
		expect("another probe", first)
		one.judge(netip.Addr{}, nil)
		expect("well again", first)
		expect("well again", first)
		one.judge(netip.Addr{}, down)
		time.Sleep(20 * time.Second)
		expect("the growth began anew", first)

		for range 30 {
			one.judge(netip.Addr{}, down)
		}
		time.Sleep(maxPenalty + maxPenalty/10)
		expect("there is a longest time", first)
		two.judge(netip.Addr{}, &failure{reply: mail.Reply{Code: 451, Detail: "7.4"}})
		if len(two.health) != 0 {
			t.Error("a host is blamed for the policy that it does not meet")
		}
		two.judge(netip.Addr{}, unreadable(context.Canceled))
		if len(two.health) != 0 {
			t.Error("a host is blamed for a fault of ours")
		}
	})
}

// TestHealthOfAddresses: one address that fails says nothing of the others.
func TestHealthOfAddresses(t *testing.T) {
	h := &host{}
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	hops := []hop{{host: h, addr: a}, {host: h, addr: b}}
	h.judge(a, turnedAway(mail.Reply{Code: 421}))
	var got []netip.Addr
	for x := range inTurn(hops) {
		got = append(got, x.addr)
	}
	if !slices.Equal(got, []netip.Addr{b, a}) {
		t.Errorf("order %v", got)
	}
	for i := range 10 * maxAddrs {
		h.judge(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), turnedAway(mail.Reply{Code: 421}))
	}
	if len(h.health) > maxAddrs {
		t.Errorf("%d addresses are remembered", len(h.health))
	}
}

// TestOnlyHostIsAlwaysAsked: there is no other, and the queue has its own pauses.
func TestOnlyHostIsAlwaysAsked(t *testing.T) {
	h := &host{endpoint: endpoint{name: "only"}}
	for range 3 {
		h.judge(netip.Addr{}, turnedAway(mail.Reply{Code: 421}))
		if got := names([]hop{{host: h}}); len(got) != 1 {
			t.Error(got)
		}
	}
}
