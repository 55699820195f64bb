package maillog

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Target is where a log goes: "stderr", "file:/path", "journald",
// "syslog:unix:/dev/log", "syslog:udp:host:port" or "syslog:tcp:host:port".
type Target string

// Validate refuses what can't be written to.
func (t Target) Validate() error {
	kind, rest, _ := strings.Cut(string(t), ":")
	switch kind {
	case "stderr", "journald":
		if rest == "" && !strings.HasSuffix(string(t), ":") {
			return nil
		}
	case "file":
		if filepath.IsAbs(rest) {
			return nil
		}
		return fmt.Errorf("%q: the path is not absolute", string(t))
	case "syslog":
		network, address, _ := strings.Cut(rest, ":")
		_, _, err := net.SplitHostPort(address)
		if network == "unix" && filepath.IsAbs(address) || (network == "udp" || network == "tcp") && err == nil {
			return nil
		}
	}
	return fmt.Errorf(`%q is unknown; write one of "stderr", "file:/path", "journald", "syslog:unix:/dev/log", "syslog:udp:host:514", "syslog:tcp:host:601"`, string(t))
}

// Logs are the outputs of a gateway's log.
type Logs struct {
	*slog.Logger
	files   []*file
	senders []*sender
}

// Deps is what logs are made with.
type Deps struct {
	Stderr   io.Writer
	Level    slog.Leveler // of the first output
	Hostname string       // ours, for syslog
	Version  string       // ours, for CEF
	Lost     func(output string)
}

// Open opens all outputs. Close ends them.
func Open(cfg Config, deps Deps) (*Logs, error) {
	l := &Logs{}
	main, err := l.open("log", Output{To: cfg.To, Format: cfg.Format}, deps.Level, deps)
	all, errs := []slog.Handler{main}, []error{err}
	for name, o := range cfg.Also {
		h, err := l.open(name, o, o.Level, deps)
		all, errs = append(all, h), append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		l.Close()
		return nil, err
	}
	if len(all) == 1 {
		l.Logger = slog.New(main)
	} else {
		l.Logger = slog.New(slog.NewMultiHandler(all...))
	}
	return l, nil
}

func (l *Logs) open(name string, o Output, level slog.Leveler, deps Deps) (slog.Handler, error) {
	o.Format = cmp.Or(o.Format, Text)
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("maillog: %s: %w", name, err)
	}
	kind, rest, _ := strings.Cut(string(o.To), ":")
	switch kind {
	case "journald":
		return &eventHandler{level: level, emit: toJournal}, nil
	case "syslog":
		network, address, _ := strings.Cut(rest, ":")
		s := newSender(name, network, address, deps.Lost)
		l.senders = append(l.senders, s)
		frame := syslogFrame(cmp.Or(deps.Hostname, "-"), renderOf(o.Format, deps.Version))
		return &eventHandler{level: level, emit: func(e *event) error {
			s.send(frame(nil, e))
			return nil
		}}, nil
	case "file":
		f, err := openFile(rest)
		if err != nil {
			return nil, fmt.Errorf("maillog: %s: %w", name, err)
		}
		l.files = append(l.files, f)
		return lines(f, o.Format, level, deps), nil
	}
	return lines(deps.Stderr, o.Format, level, deps), nil
}

// lines is a handler that writes a line for each event.
func lines(w io.Writer, f Format, level slog.Leveler, deps Deps) slog.Handler {
	if f == Text || f == JSON {
		log, _ := New(w, f, level) // the format is known
		return log.Handler()
	}
	write := renderOf(f, deps.Version)
	if f == Syslog {
		write = syslogFrame(cmp.Or(deps.Hostname, "-"), renderOf(Text, deps.Version))
	}
	var mu sync.Mutex
	return &eventHandler{level: level, emit: func(e *event) error {
		mu.Lock()
		defer mu.Unlock()
		_, err := w.Write(append(write(nil, e), '\n'))
		return err
	}}
}

// renderOf is what stands behind a header of syslog, or in a line of its own.
func renderOf(f Format, version string) render {
	switch f {
	case CEF:
		return cef(version)
	case Logfmt:
		return logfmt
	case JSON:
		return jsonLine
	}
	return textLine
}

// Reopen opens files again, for whoever has moved them away.
func (l *Logs) Reopen() error {
	var errs []error
	for _, f := range l.files {
		errs = append(errs, f.reopen())
	}
	return errors.Join(errs...)
}

// Close writes what is still to be sent, for a few seconds, and closes all.
func (l *Logs) Close() {
	for _, s := range l.senders {
		s.close()
	}
	for _, f := range l.files {
		_ = f.f.Close()
	}
}

// file is a log file that can be opened again.
type file struct {
	path string
	mu   sync.Mutex
	f    *os.File
}

func openFile(path string) (*file, error) {
	f := &file{path: path}
	return f, f.reopen()
}

func (f *file) reopen() error {
	fresh, err := os.OpenFile(f.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return err // the old one stays
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.f != nil {
		_ = f.f.Close()
	}
	f.f = fresh
	return nil
}

func (f *file) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.f.Write(p)
}

// Bounds of a sender.
const (
	waitingLines = 4096
	dialTimeout  = 5 * time.Second
	sendTimeout  = 5 * time.Second
	pauseAfter   = time.Second // a failure
	closeWithin  = 3 * time.Second
)

// sender brings lines to a log host, one after the other, beside those who log.
// When the host is slow or away, lines are lost and counted; mail never waits.
type sender struct {
	name, network, address string

	queue chan []byte
	ended chan struct{}
	stop  chan struct{}
	once  sync.Once
	lost  func(string)
	count atomic.Int64
	conn  net.Conn
}

func newSender(name, network, address string, lost func(string)) *sender {
	if lost == nil {
		lost = func(string) {}
	}
	s := &sender{name: name, network: network, address: address, queue: make(chan []byte, waitingLines), ended: make(chan struct{}), stop: make(chan struct{}), lost: lost}
	go s.run()
	return s
}

func (s *sender) send(line []byte) {
	select {
	case s.queue <- line:
	default:
		s.count.Add(1)
		s.lost(s.name)
	}
}

func (s *sender) run() {
	defer close(s.ended)
	defer func() {
		if s.conn != nil {
			_ = s.conn.Close()
		}
	}()
	for {
		select {
		case line := <-s.queue:
			s.deliver(line)
		case <-s.stop:
			for deadline := time.Now().Add(closeWithin); time.Now().Before(deadline); {
				select {
				case line := <-s.queue:
					s.deliver(line)
				default:
					return
				}
			}
			return
		}
	}
}

// deliver tries twice: a connection may have died since the last line.
func (s *sender) deliver(line []byte) {
	for range 2 {
		if s.write(line) == nil {
			return
		}
		if s.conn != nil {
			_ = s.conn.Close()
			s.conn = nil
		}
	}
	s.count.Add(1)
	s.lost(s.name)
	select { // a host that is away is not asked a thousand times a second
	case <-time.After(pauseAfter):
	case <-s.stop:
	}
}

func (s *sender) write(line []byte) error {
	if s.conn == nil {
		network := s.network
		if network == "unix" {
			network = "unixgram"
		}
		conn, err := net.DialTimeout(network, s.address, dialTimeout)
		if err != nil {
			return err
		}
		s.conn = conn
	}
	if s.network == "tcp" { // RFC 6587 3.4.1: the length first
		line = append(fmt.Appendf(nil, "%d ", len(line)), line...)
	}
	if err := s.conn.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return err
	}
	_, err := s.conn.Write(line)
	return err
}

func (s *sender) close() {
	s.once.Do(func() { close(s.stop) })
	<-s.ended
}
