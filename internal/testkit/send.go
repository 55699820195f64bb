package testkit

import (
	"bytes"
	"fmt"
	"strings"
)

// Letter is a message to be sent.
type Letter struct {
	From   string   // "" for the null sender
	To     []string // one recipient or more
	Data   []byte   // with CRLF line ends; not dot-stuffed
	Helo   string   // "client.test" when empty
	Client string   // local address to connect from; "" for any
	Args   string   // behind MAIL FROM:<…>: "BODY=8BITMIME"
}

// Result is what became of a Letter.
type Result struct {
	Reply                    // to the message, or the first refusal; Code 0: none came
	Stage   string           // the command that Reply answers; "." for the message
	Refused map[string]Reply // recipients that were refused while others were not
	Err     error            // of the connection
}

// Accepted reports whether the server took responsibility.
func (r Result) Accepted() bool { return r.Stage == Dot && r.Code/100 == 2 }

func (r Result) String() string {
	if r.Err != nil {
		return fmt.Sprintf("%s: %v", r.Stage, r.Err)
	}
	return r.Stage + ": " + r.Reply.String()
}

// Send sends one message over a connection of its own.
func Send(addr string, l Letter) Result {
	c, err := DialFrom(l.Client, addr)
	if err != nil {
		return Result{Stage: "CONNECT", Err: err}
	}
	defer c.Close()
	res := Result{Stage: Banner}
	if res.Reply, res.Err = c.Read(); res.Err != nil || res.Code != 220 {
		return res
	}
	helo := l.Helo
	if helo == "" {
		helo = "client.test"
	}
	res.Stage = "EHLO"
	if res.Reply, res.Err = c.Cmd("EHLO " + helo); res.Err != nil || res.Code != 250 {
		return res
	}
	res = c.Deliver(l)
	if res.Err == nil {
		_, _ = c.Cmd("QUIT") // the message is through; nothing depends on it
	}
	return res
}

// Deliver sends one message in a session that has said EHLO.
func (c *Client) Deliver(l Letter) Result {
	res := Result{Stage: "MAIL"}
	if res.Reply, res.Err = c.Cmd(strings.TrimSpace("MAIL FROM:<" + l.From + "> " + l.Args)); res.Err != nil || res.Code != 250 {
		return res
	}
	res.Stage = "RCPT"
	taken := 0
	var refusal Reply
	for _, to := range l.To {
		if res.Reply, res.Err = c.Cmd("RCPT TO:<" + to + ">"); res.Err != nil {
			return res
		}
		if res.Code == 250 {
			taken++
			continue
		}
		if res.Refused == nil {
			res.Refused, refusal = make(map[string]Reply), res.Reply
		}
		res.Refused[to] = res.Reply
	}
	if taken == 0 {
		res.Reply = refusal
		return res
	}
	res.Stage = "DATA"
	if res.Reply, res.Err = c.Cmd("DATA"); res.Err != nil || res.Code != 354 {
		return res
	}
	res.Stage = Dot
	res.Reply, res.Err = c.Cmd(string(Stuff(l.Data)) + ".")
	return res
}

// Stuff doubles dots at the beginnings of lines, and ends the last line.
func Stuff(data []byte) []byte {
	data = bytes.ReplaceAll(data, []byte("\r\n."), []byte("\r\n.."))
	if bytes.HasPrefix(data, []byte(".")) {
		data = append([]byte("."), data...)
	}
	if len(data) > 0 && !bytes.HasSuffix(data, []byte("\r\n")) {
		data = append(data, "\r\n"...)
	}
	return data
}
