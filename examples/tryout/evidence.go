package main

import (
	"fmt"

	"gatepost/internal/testkit"
)

// zone is the DNS of the try-out: who may send for the two domains that the
// samples are from. Nobody else is asked.
var zone = [...]string{
	`example.com. 60 IN TXT "v=spf1 -all"`,
	`_dmarc.example.com. 60 IN TXT "v=DMARC1; p=reject"`,
	`sender.example. 60 IN TXT "v=spf1 ip4:127.0.0.1 -all"`,
	`_dmarc.sender.example. 60 IN TXT "v=DMARC1; p=reject"`,
}

// startDNS starts the name server and has senders verified by it. Where it can't
// run, senders are not verified, and the notes say so.
func (s *site) startDNS() {
	err := s.dns.Start()
	if err != nil {
		says("DNS", "can't be served here: going on without it")
		s.without = append(s.without, fmt.Sprintf("forged senders: no DNS of our own (%v)", err))
		return
	}
	says("DNS", "two domains with SPF and DMARC, "+s.dns.Addr)
	c := &s.gateway.Config
	c.Set("dns", "servers", fmt.Sprintf("[%q]", s.dns.Addr))
	c.Set("filter.auth", "check_ours", "true") // the client is this host
}

func newDNS() (*testkit.DNS, error) { return testkit.NewDNS(zone[:]...) }

// lookInside has attachments judged, and the rules of the site asked.
func (s *site) lookInside(rules string) {
	c := &s.gateway.Config
	c.Set("filter.attachments", "on_error", `"tempfail"`)
	c.Set("", "rules", fmt.Sprintf("[%q]", rules))
}
