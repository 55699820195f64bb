package testkit

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// Reply is what a server answered.
type Reply struct {
	Code  int
	Lines []string // without code
}

// Text is the reply on one line.
func (r Reply) Text() string { return strings.Join(r.Lines, " ") }

func (r Reply) String() string { return strconv.Itoa(r.Code) + " " + r.Text() }

// Client is an SMTP client that sends what it is told, byte for byte.
type Client struct {
	Timeout time.Duration // for each answer

	conn net.Conn
	r    *bufio.Reader
}

// Dial connects; the greeting is not read yet.
func Dial(addr string) (*Client, error) { return DialFrom("", addr) }

// DialFrom connects from an address of loopback: 127.0.0.9 is another client
// than 127.0.0.1.
func DialFrom(local, addr string) (*Client, error) {
	d := net.Dialer{Timeout: 10 * time.Second}
	if local != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(local)}
	}
	conn, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("testkit: client: %w", err)
	}
	return &Client{Timeout: 60 * time.Second, conn: conn, r: bufio.NewReader(conn)}, nil
}

// Close closes the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Write sends s as it is.
func (c *Client) Write(s string) error {
	if err := c.conn.SetWriteDeadline(time.Now().Add(c.Timeout)); err != nil {
		return err
	}
	_, err := c.conn.Write([]byte(s))
	return err
}

// Read reads one reply of one or several lines.
func (c *Client) Read() (Reply, error) {
	if err := c.conn.SetReadDeadline(time.Now().Add(c.Timeout)); err != nil {
		return Reply{}, err
	}
	var r Reply
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return r, fmt.Errorf("testkit: client: read reply: %w", err)
		}
		text, ok := strings.CutSuffix(line, "\r\n")
		if !ok || len(text) < 3 {
			return r, fmt.Errorf("testkit: client: %q is no reply", line)
		}
		code, err := strconv.Atoi(text[:3])
		if err != nil || r.Code != 0 && code != r.Code || len(text) > 3 && text[3] != ' ' && text[3] != '-' {
			return r, fmt.Errorf("testkit: client: %q is no reply", line)
		}
		r.Code = code
		if len(text) <= 4 {
			r.Lines = append(r.Lines, "")
		} else {
			r.Lines = append(r.Lines, text[4:])
		}
		if len(text) == 3 || text[3] == ' ' {
			return r, nil
		}
	}
}

// Cmd sends one line and reads the reply.
func (c *Client) Cmd(line string) (Reply, error) {
	if err := c.Write(line + "\r\n"); err != nil {
		return Reply{}, err
	}
	return c.Read()
}

// StartTLS makes the handshake; the command was sent and answered before.
func (c *Client) StartTLS(cfg *tls.Config) error {
	conn := tls.Client(c.conn, cfg)
	if err := conn.SetDeadline(time.Now().Add(c.Timeout)); err != nil {
		return err
	}
	if err := conn.Handshake(); err != nil {
		return fmt.Errorf("testkit: client: TLS: %w", err)
	}
	c.conn, c.r = conn, bufio.NewReader(conn)
	return nil
}

// Dialog is a Client whose failures end the test.
type Dialog struct {
	*Client
	t T
}

// Connect opens a connection for the length of the test and reads the greeting.
func Connect(t T, addr string) *Dialog {
	t.Helper()
	c, err := Dial(addr)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() { _ = c.Close() })
	d := &Dialog{c, t}
	d.Expect(220)
	return d
}

// Expect reads a reply that must have this code; a code below 10 stands for
// its class.
func (d *Dialog) Expect(code int) Reply {
	d.t.Helper()
	r, err := d.Read()
	if err != nil {
		d.t.Fatalf("want %d: %v", code, err)
	}
	if r.Code != code && r.Code/100 != code {
		d.t.Fatalf("got %v, want %d", r, code)
	}
	return r
}

// Do sends a line and expects the code.
func (d *Dialog) Do(line string, code int) Reply {
	d.t.Helper()
	d.Send(line + "\r\n")
	r, err := d.Read()
	if err != nil {
		d.t.Fatalf("%.80q: want %d: %v", line, code, err)
	}
	if r.Code != code && r.Code/100 != code {
		d.t.Fatalf("%.80q: got %v, want %d", line, r, code)
	}
	return r
}

// Send sends s as it is.
func (d *Dialog) Send(s string) {
	d.t.Helper()
	if err := d.Write(s); err != nil {
		d.t.Fatalf("send %.80q: %v", s, err)
	}
}
