package dnstest

import (
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	wire "github.com/miekg/dns"
)

// Server is a real DNS server on loopback, over UDP and TCP on one port, that
// answers from a zone as it stands: CNAMEs are followed, "*." is a wildcard, a
// name that has nothing and nothing below it does not exist.
type Server struct {
	t    testing.TB
	addr string

	mu      sync.Mutex
	records map[string][]wire.RR
	quirks  map[string]Quirk // by name, absolute and in lower case; "" for all
	secure  bool
	asked   []string
}

// Quirk is what the server does wrong for a name.
type Quirk struct {
	Rcode    int           // in place of an answer
	Silent   bool          // no answer at all
	Delay    time.Duration // before the answer
	Truncate bool          // over UDP the answer is cut off
	NoEDNS   bool          // a question with EDNS is a format error
	Insecure bool          // no AD bit
	Other    bool          // the answer is to another question
	Type     uint16        // only for this type; 0: any
}

// Start starts a server with records in the form of a zone file. It stops with
// the test.
func Start(t testing.TB, records ...string) *Server {
	t.Helper()
	s := &Server{t: t, records: make(map[string][]wire.RR), quirks: make(map[string]Quirk)}
	s.Add(records...)
	for range 20 { // until both protocols have the same port
		udp, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := udp.LocalAddr().(*net.UDPAddr).Port
		tcp, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err != nil {
			udp.Close()
			continue
		}
		s.addr = udp.LocalAddr().String()
		s.serve(&wire.Server{PacketConn: udp, Handler: s})
		s.serve(&wire.Server{Listener: tcp, Handler: s})
		return s
	}
	t.Fatal("no port for both UDP and TCP")
	return nil
}

func (s *Server) serve(server *wire.Server) {
	started, ended := make(chan struct{}), make(chan struct{})
	server.NotifyStartedFunc = func() { close(started) }
	go func() {
		defer close(ended)
		_ = server.ActivateAndServe()
	}()
	<-started
	s.t.Cleanup(func() {
		_ = server.Shutdown()
		<-ended
	})
}

// Addr is "127.0.0.1:port".
func (s *Server) Addr() string { return s.addr }

// Add adds records: "example.com. 300 IN MX 10 mx.example.com.".
func (s *Server) Add(records ...string) {
	s.t.Helper()
	for _, text := range records {
		rr, err := wire.NewRR(text)
		if err != nil || rr == nil {
			s.t.Fatalf("record %q: %v", text, err)
		}
		name := wire.CanonicalName(rr.Header().Name)
		s.mu.Lock()
		s.records[name] = append(s.records[name], rr)
		s.mu.Unlock()
	}
}

// Remove takes all records of a name away.
func (s *Server) Remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.records, wire.CanonicalName(name))
}

// Misbehave gives a name a quirk, "" all names. The zero Quirk ends it.
func (s *Server) Misbehave(name string, q Quirk) {
	if name != "" {
		name = wire.CanonicalName(name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quirks[name] = q
}

// Secure says whether answers have the AD bit, as of a resolver that has
// checked them, where the question asks for it.
func (s *Server) Secure(yes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secure = yes
}

// Asked returns the questions so far: "udp MX example.com.".
func (s *Server) Asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

// ServeDNS answers.
func (s *Server) ServeDNS(w wire.ResponseWriter, ask *wire.Msg) {
	if len(ask.Question) != 1 {
		return
	}
	network := w.RemoteAddr().Network()
	q := ask.Question[0]
	name := wire.CanonicalName(q.Name)
	s.mu.Lock()
	s.asked = append(s.asked, network+" "+wire.TypeToString[q.Qtype]+" "+name)
	quirk, own := s.quirks[name]
	if !own {
		quirk = s.quirks[""]
	}
	if quirk.Type != 0 && quirk.Type != q.Qtype {
		quirk = Quirk{}
	}
	m := s.answer(ask, name, q.Qtype)
	m.AuthenticatedData = s.secure && !quirk.Insecure && ask.AuthenticatedData
	s.mu.Unlock()

	switch {
	case quirk.Silent:
		return
	case quirk.NoEDNS && ask.IsEdns0() != nil:
		m = new(wire.Msg).SetRcode(ask, wire.RcodeFormatError)
	case quirk.Rcode != 0:
		m = new(wire.Msg).SetRcode(ask, quirk.Rcode)
	case quirk.Truncate && network == "udp":
		m.Answer, m.Truncated = nil, true
	case quirk.Other:
		m.Question[0].Name = "other.test."
	}
	if quirk.Delay > 0 {
		time.Sleep(quirk.Delay)
	}
	if network == "udp" {
		size := wire.MinMsgSize
		if edns := ask.IsEdns0(); edns != nil {
			size = int(edns.UDPSize())
		}
		m.Truncate(size)
	}
	_ = w.WriteMsg(m)
}

// answer looks a question up; s.mu is held.
func (s *Server) answer(ask *wire.Msg, name string, kind uint16) *wire.Msg {
	m := new(wire.Msg).SetReply(ask)
	m.RecursionAvailable = true
	for range 8 {
		found, exists := s.at(name)
		if !exists {
			m.Rcode = wire.RcodeNameError
			break
		}
		var alias *wire.CNAME
		hit := false
		for _, rr := range found {
			rr = wire.Copy(rr)
			rr.Header().Name = name
			c, isAlias := rr.(*wire.CNAME)
			switch {
			case rr.Header().Rrtype == kind:
				m.Answer, hit = append(m.Answer, rr), true
			case isAlias:
				alias = c
				m.Answer = append(m.Answer, rr)
			}
		}
		if hit || alias == nil {
			break
		}
		name = wire.CanonicalName(alias.Target)
	}
	if len(m.Answer) == 0 {
		soa, _ := wire.NewRR(". 300 IN SOA ns.test. hostmaster.test. 1 3600 600 86400 60")
		m.Ns = append(m.Ns, soa)
	}
	return m
}

// at returns the records of a name, or of the wildcard above it.
func (s *Server) at(name string) (found []wire.RR, exists bool) {
	if found, exists = s.records[name]; exists {
		return found, true
	}
	for known := range s.records {
		if strings.HasSuffix(known, "."+name) {
			return nil, true // there is something below
		}
	}
	for _, rest, more := strings.Cut(name, "."); more && rest != ""; _, rest, more = strings.Cut(rest, ".") {
		if found, exists = s.records["*."+rest]; exists {
			return found, true
		}
	}
	return nil, false
}
