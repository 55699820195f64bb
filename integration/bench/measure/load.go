package measure

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// result is one round of one target.
type result struct {
	perSecond float64       // messages that reached the sink, from the first connection to the last arrival
	accepted  time.Duration // median time from connecting to the final 250
	cpu       time.Duration // of the target, per message
}

// message makes n bytes of plain text with a short header, dot-stuffed as it
// goes over the wire.
func message(n int) []byte {
	var b strings.Builder
	b.WriteString("From: <s@sender.test>\r\nTo: <u@example.com>\r\nSubject: bench\r\nMessage-ID: <bench@sender.test>\r\nDate: Sat, 21 Nov 2026 10:00:00 +0000\r\n\r\n")
	for b.Len() < n {
		b.WriteString("The quick brown fox jumps over the lazy dog, and then does so again.\r\n")
	}
	b.WriteString(".\r\n")
	return []byte(b.String())
}

// send passes n messages over conns connections at a time and waits until the
// sink has all of them.
func send(ctx context.Context, t Target, s *sink, body []byte, n, conns int, keep bool) (result, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	var (
		left  atomic.Int64
		first atomic.Pointer[error]
		wg    sync.WaitGroup
	)
	left.Store(int64(n))
	times := make([][]time.Duration, conns)
	goal, cpu, start := s.messages.Load()+int64(n), t.CPU(), time.Now()
	for i := range conns {
		wg.Go(func() {
			for left.Load() > 0 {
				if err := session(ctx, t.Addr(), body, &left, keep, &times[i]); err != nil {
					first.CompareAndSwap(nil, &err)
					return
				}
			}
		})
	}
	wg.Wait()
	if e := first.Load(); e != nil {
		return result{}, fmt.Errorf("%s: %w", t.Name(), *e)
	}
	for s.messages.Load() < goal {
		if ctx.Err() != nil {
			return result{}, fmt.Errorf("%s: %d of %d messages did not arrive", t.Name(), goal-s.messages.Load(), n)
		}
		time.Sleep(time.Millisecond)
	}
	took := time.Since(start)
	var all []time.Duration
	for _, ts := range times {
		all = append(all, ts...)
	}
	return result{perSecond: float64(n) / took.Seconds(), accepted: median(all), cpu: (t.CPU() - cpu) / time.Duration(n)}, nil
}

// session sends one message, or with keep as many as are left, over one
// connection, in lock step as a plain client does.
func session(ctx context.Context, addr string, body []byte, left *atomic.Int64, keep bool, times *[]time.Duration) error {
	if left.Add(-1) < 0 {
		return nil
	}
	start := time.Now()
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	_ = c.SetDeadline(deadline)
	r := bufio.NewReaderSize(c, 2<<10)
	if err := expect(r, "220"); err != nil {
		return err
	}
	if err := command(c, r, "EHLO client.test\r\n", "250"); err != nil {
		return err
	}
	for {
		for _, step := range []struct{ line, want string }{
			{"MAIL FROM:<s@sender.test>\r\n", "250"}, {"RCPT TO:<u@example.com>\r\n", "250"}, {"DATA\r\n", "354"}, {string(body), "250"},
		} {
			if err := command(c, r, step.line, step.want); err != nil {
				return err
			}
		}
		*times = append(*times, time.Since(start))
		if !keep || left.Add(-1) < 0 {
			break
		}
		start = time.Now()
	}
	return command(c, r, "QUIT\r\n", "221")
}

func command(c net.Conn, r *bufio.Reader, line, want string) error {
	if _, err := c.Write([]byte(line)); err != nil {
		return err
	}
	return expect(r, want)
}

func expect(r *bufio.Reader, code string) error {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		if !strings.HasPrefix(line, code) {
			return fmt.Errorf("got %q, want %s", strings.TrimSpace(line), code)
		}
		if len(line) > 3 && line[3] == ' ' {
			return nil
		}
	}
}
