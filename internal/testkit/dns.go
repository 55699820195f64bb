package testkit

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

// DNS is a name server on loopback that is asked as a resolver: it answers from
// its records alone, over UDP and TCP.
type DNS struct {
	Addr string // host:port

	mu       sync.Mutex
	records  []dns.RR
	signed   []string // zones whose answers have the AD bit
	silent   []string // names that are answered with SERVFAIL
	asked    []string
	servers  []*dns.Server
	finished sync.WaitGroup
}

// NewDNS returns a server with these records, in the form of a zone file:
// "example.test. 60 IN MX 10 mx.example.test.".
func NewDNS(records ...string) (*DNS, error) {
	d := &DNS{}
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil {
			return nil, fmt.Errorf("testkit: dns: %q: %w", text, err)
		}
		d.records = append(d.records, rr)
	}
	return d, nil
}

// Sign sets the AD bit in answers for names in these zones.
func (d *DNS) Sign(zones ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.signed = append(d.signed, zones...)
}

// Fail answers questions for these names with SERVFAIL.
func (d *DNS) Fail(names ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.silent = append(d.silent, names...)
}

// Start listens, UDP and TCP on the same port.
func (d *DNS) Start() error {
	if d.Addr == "" {
		addr, err := FreeAddr()
		if err != nil {
			return err
		}
		d.Addr = addr
	}
	packets, err := net.ListenPacket("udp", d.Addr)
	if err != nil {
		return fmt.Errorf("testkit: dns: %w", err)
	}
	streams, err := listen(d.Addr)
	if err != nil {
		return errors.Join(fmt.Errorf("testkit: dns: %w", err), packets.Close())
	}
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		a := d.answer(q)
		if w.RemoteAddr().Network() == "udp" {
			a.Truncate(dns.MinMsgSize)
		}
		_ = w.WriteMsg(a) // who asked has gone
	})
	d.servers = []*dns.Server{{PacketConn: packets, Handler: handler}, {Listener: streams, Handler: handler}}
	for _, s := range d.servers {
		up := make(chan struct{})
		s.NotifyStartedFunc = func() { close(up) }
		d.finished.Go(func() { _ = s.ActivateAndServe() }) // ends with Shutdown
		<-up
	}
	return nil
}

// Stop ends it.
func (d *DNS) Stop() error {
	var errs []error
	for _, s := range d.servers {
		errs = append(errs, s.Shutdown())
	}
	d.servers = nil
	d.finished.Wait()
	return errors.Join(errs...)
}

// Log is what was asked.
func (d *DNS) Log() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.asked, "\n") + "\n"
}

func (d *DNS) answer(q *dns.Msg) *dns.Msg {
	d.mu.Lock()
	defer d.mu.Unlock()
	a := new(dns.Msg)
	a.SetReply(q)
	a.RecursionAvailable = true
	if len(q.Question) != 1 {
		a.Rcode = dns.RcodeFormatError
		return a
	}
	name, kind := strings.ToLower(q.Question[0].Name), q.Question[0].Qtype
	d.asked = append(d.asked, dns.TypeToString[kind]+" "+name)
	if slices.Contains(d.silent, name) {
		a.Rcode = dns.RcodeServerFailure
		return a
	}
	known := false
	for _, rr := range d.records {
		if strings.ToLower(rr.Header().Name) != name {
			continue
		}
		known = true
		if rr.Header().Rrtype == kind {
			a.Answer = append(a.Answer, rr)
		}
	}
	if !known {
		a.Rcode = dns.RcodeNameError
	}
	a.AuthenticatedData = slices.ContainsFunc(d.signed, func(zone string) bool {
		return name == zone || strings.HasSuffix(name, "."+zone)
	})
	return a
}

// Copy returns a server that is not started, with the same records and failures.
func (d *DNS) Copy() *DNS {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &DNS{records: slices.Clone(d.records), signed: slices.Clone(d.signed), silent: slices.Clone(d.silent)}
}
