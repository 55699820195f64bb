package testkit

import (
	"fmt"
	"io"
	"net"
	"sync"
)

// Relay stands before a TCP server: it counts connections and keeps the first
// of what clients say in clear.
type Relay struct {
	Addr string        // host:port
	To   func() string // the server's

	mu       sync.Mutex
	said     []*clientSpeech // of each connection
	open     map[net.Conn]bool
	listener net.Listener
	wg       sync.WaitGroup
}

// NewRelay returns a relay to the server at to().
func NewRelay(to func() string) *Relay { return &Relay{To: to, open: map[net.Conn]bool{}} }

// Start listens.
func (r *Relay) Start() error {
	if r.Addr == "" {
		addr, err := FreeAddr()
		if err != nil {
			return err
		}
		r.Addr = addr
	}
	l, err := listen(r.Addr)
	if err != nil {
		return fmt.Errorf("testkit: relay: %w", err)
	}
	r.mu.Lock()
	r.listener = l
	r.mu.Unlock()
	r.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			r.wg.Go(func() { r.serve(conn) })
		}
	})
	return nil
}

// Stop closes all connections.
func (r *Relay) Stop() error {
	r.mu.Lock()
	if r.listener == nil {
		r.mu.Unlock()
		return nil
	}
	err := r.listener.Close()
	r.listener = nil
	for c := range r.open {
		_ = c.Close()
	}
	r.mu.Unlock()
	r.wg.Wait()
	return err
}

// Said is the first 4 kB that the client said in each connection so far.
func (r *Relay) Said() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, s := range r.said {
		all = append(all, s.text())
	}
	return all
}

// Log is what clients said.
func (r *Relay) Log() string { return fmt.Sprintf("%.300q", r.Said()) }

func (r *Relay) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", r.To())
	if err != nil {
		return
	}
	defer server.Close()
	speech := &clientSpeech{}
	r.mu.Lock()
	if r.listener == nil { // stopped meanwhile: nobody would close these
		r.mu.Unlock()
		return
	}
	r.said = append(r.said, speech)
	r.open[client], r.open[server] = true, true
	r.mu.Unlock()
	back := make(chan struct{})
	go func() {
		defer close(back)
		_, _ = io.Copy(client, server) // ends when either side does
		_ = client.Close()
	}()
	_, _ = io.Copy(server, io.TeeReader(client, speech))
	_ = server.Close()
	<-back
	r.mu.Lock()
	delete(r.open, client)
	delete(r.open, server)
	r.mu.Unlock()
}

type clientSpeech struct {
	mu sync.Mutex
	b  []byte
}

func (s *clientSpeech) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.b = append(s.b, p[:min(len(p), 4<<10-len(s.b))]...)
	return len(p), nil
}

func (s *clientSpeech) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.b)
}
