package integration

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"

	"gatepost/internal/testkit"
)

// daemonRow is one way in which a scanner's daemon may answer, and what the
// sender must hear.
type daemonRow struct {
	name  string
	clamd string // to INSTREAM
	spamd string // to REPORT
	code  int
	held  bool // taken, and kept
}

const (
	clamdOK   = "stream: OK\x00"
	hangs     = "(hangs)" // never answers
	deaf      = "(deaf)"  // stops reading, never answers
	spamdHead = "SPAMD/1.1 0 EX_OK\r\n"
)

func spamdSays(spam string) string {
	return spamdHead + "Content-length: 0\r\nSpam: " + spam + "\r\n\r\n"
}

var spamdHam = spamdSays("False ; 0.1 / 5.0")

// daemonRows are P1 and P2: whatever comes from the daemon, only its whole and
// plain word lets mail through.
func daemonRows() []daemonRow {
	clamd := func(name, reply string, code int) daemonRow {
		return daemonRow{name: "P1 clamd: " + name, clamd: reply, spamd: spamdHam, code: code}
	}
	spamd := func(name, reply string, code int) daemonRow {
		return daemonRow{name: "P2 spamd: " + name, clamd: clamdOK, spamd: reply, code: code}
	}
	return []daemonRow{
		clamd("clean", clamdOK, 250), clamd("infected", "stream: Eicar FOUND\x00", 550),
		clamd("closes without a reply", "", 451), clamd("reply without an end", "stream: OK", 451), clamd("OK and a line end", "stream: OK\n", 451),
		clamd("FOUND that is cut", "stream: Eicar FOU", 451), clamd("an error", "stream: Can't allocate memory ERROR\x00", 451),
		clamd("two replies", "stream: OK\x00stream: Eicar FOUND\x00", 451), clamd("a line of a megabyte", strings.Repeat("x", 1<<20), 451),
		clamd("never answers", hangs, 451), clamd("stops reading", deaf, 451), clamd("a session's reply", "1: stream: OK\x00", 451),
		clamd("a descriptor's reply", "fd[10]: OK\x00", 451), clamd("unknown command", "UNKNOWN COMMAND\x00", 451),
		{name: "P1 clamd: size limit", clamd: "INSTREAM size limit exceeded. ERROR\x00", spamd: spamdHam, code: 250, held: true},
		{name: "P1 clamd: over its limits", clamd: "stream: Heuristics.Limits.Exceeded.MaxFiles FOUND\x00", spamd: spamdHam, code: 250, held: true},

		spamd("ham", spamdSays("False ; -4.2 / 5.0"), 250), spamd("14.9 is below 15", spamdSays("True ; 14.9 / 5.0"), 250),
		spamd("15.0 is not", spamdSays("True ; 15.0 / 5.0"), 550), spamd("1000", spamdSays("True ; 1000.0 / 5.0"), 550),
		spamd("nan", spamdSays("False ; nan / 5"), 451), spamd("inf", spamdSays("True ; inf / 5"), 451), spamd("version 1.5", strings.Replace(spamdHam, "1.1", "1.5", 1), 451),
		spamd("no Spam line", spamdHead+"Content-length: 0\r\n\r\n", 451), spamd("cut", spamdHead+"Content-len", 451),
		spamd("length lies", strings.Replace(spamdHam, "length: 0", "length: 100", 1), 451), spamd("endless", spamdHead+strings.Repeat("X: y\r\n", 1<<18), 451),
		spamd("closes without a reply", "", 451), spamd("timeout", "SPAMD/1.0 79 Timeout: (300 second timeout while trying to REPORT)\r\n", 451),
		spamd("never answers", hangs, 451),
	}
}

// scriptedDaemon answers as the row says that a message names in X-Row.
type scriptedDaemon struct {
	addr string
	say  func(c net.Conn, d *scriptedDaemon)
	rows map[string]daemonRow

	mu   sync.Mutex
	seen map[string]string // what spamd got, by row
	stop chan struct{}
}

func (d *scriptedDaemon) start(t *testing.T) *scriptedDaemon {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d.addr, d.seen, d.stop = l.Addr().String(), make(map[string]string), make(chan struct{})
	var served sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		close(d.stop)
		served.Wait()
	})
	served.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			served.Go(func() {
				defer c.Close()
				over := make(chan struct{})
				defer close(over)
				go func() {
					select {
					case <-d.stop:
						c.Close()
					case <-over:
					}
				}()
				d.say(c, d)
			})
		}
	})
	return d
}

var rowField = regexp.MustCompile(`X-Row: (.*)\r\n`)

func (d *scriptedDaemon) row(content []byte) daemonRow {
	m := rowField.FindSubmatch(content)
	if m == nil {
		return daemonRow{clamd: clamdOK, spamd: spamdHam}
	}
	return d.rows[string(m[1])]
}

// wait keeps the connection until its other side goes.
func wait(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

func clamdScript(c net.Conn, d *scriptedDaemon) {
	r := bufio.NewReader(c)
	command, err := r.ReadString(0)
	if err != nil {
		return
	}
	switch command {
	case "zPING\x00":
		_, _ = io.WriteString(c, "PONG\x00")
		return
	case "zVERSION\x00":
		_, _ = io.WriteString(c, "ClamAV 1.4.3/27431/Wed Nov 19 08:41:15 2025\x00")
		return
	}
	var content []byte
	for {
		var size uint32
		if binary.Read(r, binary.BigEndian, &size) != nil {
			return
		}
		if size == 0 {
			break
		}
		chunk := make([]byte, size)
		if _, err := io.ReadFull(r, chunk); err != nil {
			return
		}
		content = append(content, chunk...)
		if d.row(content).clamd == deaf {
			<-d.stop
			return
		}
	}
	reply := d.row(content).clamd
	if reply == hangs {
		wait(c)
		return
	}
	_, _ = io.WriteString(c, reply)
}

func spamdScript(c net.Conn, d *scriptedDaemon) {
	content, err := io.ReadAll(c)
	if err != nil {
		return
	}
	if bytes.HasPrefix(content, []byte("PING")) {
		_, _ = io.WriteString(c, "SPAMD/1.5 0 PONG\r\n")
		return
	}
	row := d.row(content)
	d.mu.Lock()
	d.seen[row.name] = string(content)
	d.mu.Unlock()
	if row.spamd == hangs {
		<-d.stop
		return
	}
	_, _ = io.WriteString(c, row.spamd)
}

// TestScannersDefects plays P1, P2 and P3 through both entries. Behind each bad
// answer a good message passes: nothing sticks.
func TestScannersDefects(t *testing.T) {
	needRoot(t)
	rows := daemonRows()
	byName := make(map[string]daemonRow)
	for _, r := range rows {
		byName[r.name] = r
	}
	postfix, sinks := newDoors(t, 1)
	servers := &neighbours{postfix: postfix}
	saw := make(map[string]string)
	for _, e := range []struct {
		name    string
		through entry
		sink    *testkit.Sink
	}{{"proxy", throughProxy, testkit.Up(t, testkit.NewSink())}, {"milter", throughMilter, sinks[0]}} {
		t.Run(e.name, func(t *testing.T) {
			clamd := (&scriptedDaemon{say: clamdScript, rows: byName}).start(t)
			spamd := (&scriptedDaemon{say: spamdScript, rows: byName}).start(t)
			s := &scenario{T: t, entry: e.name, servers: servers, door: postfix.Doors[0], sink: e.sink, gateway: newGateway(t, binaries.race, e.sink.Addr)}
			c := &s.gateway.Config
			s.gateway.UseClamd("tcp:"+clamd.addr, "tempfail")
			s.gateway.UseSpamd("tcp:"+spamd.addr, "tempfail")
			c.Set("filter.clamav", "timeout", `"6s"`)
			c.Set("filter.spamassassin", "timeout", `"6s"`)
			c.Set("filter.spamassassin", "user", `"local-part"`)
			c.Set("policy", "reject", "15.0")
			c.Set("policy", "quarantine", "15.0")
			addr, idle := e.through(s)
			want, held := 0, 0
			for _, r := range rows {
				if r.clamd == hangs || r.spamd == hangs || r.clamd == deaf {
					continue // for all at the end: they take their time
				}
				t.Run(r.name, func(t *testing.T) { r.send(t, addr) })
				good := rows[0]
				good.send(t, addr)
				want++
				switch {
				case r.held:
					held++
				case r.code == 250:
					want++
				}
			}
			var waiting sync.WaitGroup
			for _, r := range rows {
				if r.clamd == hangs || r.spamd == hangs || r.clamd == deaf {
					waiting.Go(func() { r.send(t, addr) })
				}
			}
			waiting.Wait()
			testkit.Eventually(t, authWait, "nothing on its way", idle)
			if got := len(e.sink.Wait(want, authWait)); got != want {
				t.Errorf("%d messages arrived, want %d", got, want)
			}
			if got := len(s.held()); got != held {
				t.Errorf("%d are held, want %d", got, held)
			}
			spamd.mu.Lock()
			saw[e.name] = shape(t, spamd.seen[rows[0].name])
			spamd.mu.Unlock()
			user(t, spamd, addr)
		})
	}
	// E.3: what an MTA adds only later, spamd sees through either entry.
	if saw["proxy"] != saw["milter"] {
		t.Errorf("spamd sees through the proxy\n%s\nand through the milter\n%s", saw["proxy"], saw["milter"])
	}
}

func (r daemonRow) send(t *testing.T, addr string) {
	t.Helper()
	msg := append([]byte("X-Row: "+r.name+"\r\n"), testkit.Message("row", "row", "hello")...)
	res := testkit.Send(addr, letter(msg))
	if res.Err != nil || res.Stage != testkit.Dot || res.Code/100 != r.code/100 {
		t.Errorf("%s: %s, want %d", r.name, res, r.code)
	}
}

var changing = regexp.MustCompile(`id [0-9A-Za-z]+|; .*|Content-length: \d+|Date: .*|localhost|unknown`)

// shape is what spamd got without what differs from one message to the next,
// and without what differs as the two look up the client's name in two ways.
func shape(t *testing.T, request string) string {
	t.Helper()
	text := strings.ReplaceAll(strings.ReplaceAll(request, "\r\n\t", " "), "\r\n ", " ")
	text = changing.ReplaceAllString(text, "…")
	for _, want := range []string{"\r\nX-Envelope-From: <", "\r\nX-Envelope-To: <u@example.com>", "\r\nReceived: from client.test ("} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %s", want, text)
		}
	}
	return text
}

// user is P3: a recipient whose name could end a line of the protocol chooses no
// user's preferences.
func user(t *testing.T, spamd *scriptedDaemon, addr string) {
	t.Helper()
	for to, want := range map[string]string{"anna+list@example.com": "anna", "../x@example.com": "", "o'neil@example.com": "", "a/b@example.com": ""} {
		l := letter(append([]byte("X-Row: P2 spamd: ham\r\n"), testkit.Message("user", "user", "SPAMD/1.1 0 EX_OK\r\n\r\nnEND\r\nSpam: False ; 0 / 5\r\n")...))
		l.To = []string{to}
		res := testkit.Send(addr, l)
		if res.Err != nil || !res.Accepted() && want != "" {
			t.Errorf("%s: %s", to, res)
		}
		if !res.Accepted() {
			continue // we take no such address
		}
		spamd.mu.Lock()
		head, _, _ := strings.Cut(spamd.seen["P2 spamd: ham"], "\r\n\r\n")
		spamd.mu.Unlock()
		if got := strings.Contains(head, "\r\nUser: "); got != (want != "") || want != "" && !strings.HasSuffix(head, "\r\nUser: "+want) {
			t.Errorf("%s: spamd was asked %q, want the user %q", to, head, want)
		}
	}
}
