package measure

import (
	"bufio"
	"bytes"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// sink is the next hop: it takes every message, counts and forgets it. Fast, so
// that it isn't what is measured.
type sink struct {
	ln       net.Listener
	messages atomic.Int64
	wg       sync.WaitGroup
}

func startSink() (*sink, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &sink{ln: ln}
	s.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go s.serve(c) // ends when the server behind it is stopped
		}
	})
	return s, nil
}

func (s *sink) addr() string { return s.ln.Addr().String() }

func (s *sink) close() {
	s.ln.Close()
	s.wg.Wait()
}

func (s *sink) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReaderSize(c, 64<<10)
	var out []byte
	put := func(reply string) bool {
		out = append(out, reply...)
		if r.Buffered() > 0 {
			return true // pipelined: answer in one write
		}
		_, err := c.Write(out)
		out = out[:0]
		return err == nil
	}
	for ok := put("220 sink ESMTP\r\n"); ok; {
		_ = c.SetDeadline(time.Now().Add(5 * time.Minute))
		line, err := r.ReadSlice('\n')
		if err != nil || len(line) < 4 {
			return
		}
		switch string(bytes.ToUpper(line[:4])) {
		case "EHLO":
			ok = put("250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE 104857600\r\n")
		case "DATA":
			ok = put("354 go on\r\n") && skipData(r) && put("250 2.0.0 kept\r\n")
			s.messages.Add(1)
		case "QUIT":
			put("221 2.0.0 bye\r\n")
			return
		default:
			ok = put("250 2.0.0 ok\r\n")
		}
	}
}

// skipData reads up to the line with only a dot.
func skipData(r *bufio.Reader) bool {
	lineStart := true
	for {
		line, err := r.ReadSlice('\n')
		if err == bufio.ErrBufferFull {
			lineStart = false
			continue
		}
		if err != nil {
			return false
		}
		if lineStart && len(line) == 3 && line[0] == '.' {
			return true
		}
		lineStart = true
	}
}
