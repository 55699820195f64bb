package testkit

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// CICAP is a real c-icap: its service "echo" sends everything back, its service
// "virus_scan" asks a clamd.
type CICAP struct {
	Addr  string // host:port
	Clamd string // path of its socket; set before Start

	dir string
	process
}

// NewCICAP prepares a c-icap in dir that asks the clamd at this socket.
func NewCICAP(dir, clamd string) *CICAP {
	return &CICAP{dir: filepath.Join(dir, "c-icap"), Clamd: clamd}
}

// Start starts c-icap and waits until it knows its services.
func (c *CICAP) Start() error {
	if c.Addr == "" {
		if err := c.prepare(); err != nil {
			return fmt.Errorf("testkit: c-icap: %w", err)
		}
	}
	return c.start(func() error { return hasService(c.Addr, "virus_scan") })
}

// Stop ends c-icap.
func (c *CICAP) Stop() error { return c.stop() }

// hasService asks for the options of a service.
func hasService(addr, service string) error {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(3 * time.Second)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(conn, "OPTIONS icap://%s/%s ICAP/1.0\r\nHost: %s\r\n\r\n", addr, service, addr); err != nil {
		return err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err == nil && !strings.HasPrefix(line, "ICAP/1.0 200 ") {
		err = fmt.Errorf("c-icap answers %q", line)
	}
	return err
}

// cicapConfig has $DIR, $PORT and $CLAMD in it.
const cicapConfig = `PidFile $DIR/pid
CommandsSocket $DIR/control
Port 127.0.0.1:$PORT
ServerAdmin admin@example.com
ServerName localhost
TmpDir $DIR
Timeout 60
MaxKeepAliveRequests 8
KeepAliveTimeout 60
StartServers 1
MaxServers 2
MinSpareThreads 2
MaxSpareThreads 8
ThreadsPerChild 4
MaxRequestsPerChild 0
LoadMagicFile /etc/c-icap/c-icap.magic
DebugLevel 1
ServerLog $DIR/server.log
AccessLog $DIR/access.log
acl all src 0.0.0.0/0.0.0.0
icap_access allow all
Service echo srv_echo.so
Service virus_scan_service virus_scan.so
virus_scan.ScanFileTypes TEXT DATA EXECUTABLE ARCHIVE DOCUMENT
virus_scan.SendPercentData 0
virus_scan.MaxObjectSize 100M
virus_scan.DefaultEngine clamd
virus_scan.Allow204Responces on
virus_scan.PassOnError off
Module common clamd_mod.so
clamd_mod.ClamdSocket $CLAMD
`

func (c *CICAP) prepare() error {
	path, err := find("c-icap", "c-icap libc-icap-mod-virus-scan")
	if err != nil {
		return err
	}
	if found, _ := filepath.Glob("/usr/lib/*/c_icap/virus_scan.so"); len(found) == 0 {
		return &MissingError{"virus_scan.so", "libc-icap-mod-virus-scan"}
	}
	// Several servers of it share the directory.
	if err := os.MkdirAll(c.dir, 0o777); err != nil {
		return err
	}
	addr, err := FreeAddr()
	if err != nil {
		return err
	}
	conf := filepath.Join(c.dir, "c-icap.conf")
	text := strings.NewReplacer("$DIR", c.dir, "$PORT", Port(addr), "$CLAMD", c.Clamd).Replace(cicapConfig)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return err
	}
	c.process = process{path: path, args: []string{"-N", "-f", conf}, log: filepath.Join(c.dir, "log")}
	c.Addr = addr
	return nil
}
