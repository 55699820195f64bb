package measure

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// Target is a relay that is measured.
type Target interface {
	Name() string
	Addr() string
	CPU() time.Duration // used so far, with all its processes
	PeakMemory() int64  // bytes; 0 where it can't be told
	Stop()
}

// FreePort returns a port of loopback that nothing listens on.
func FreePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// WaitBanner waits until an SMTP server greets.
func WaitBanner(addr string) error {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			continue
		}
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		b := make([]byte, 3)
		_, err = c.Read(b)
		_, _ = c.Write([]byte("QUIT\r\n"))
		c.Close()
		if err == nil && string(b) == "220" {
			return nil
		}
	}
	return fmt.Errorf("nothing answers at %s", addr)
}

// Process is a program that is measured, alone or as part of a target.
type Process struct {
	cmd *exec.Cmd
	log string
}

// StartProcess starts a program whose standard error goes to the file log.
func StartProcess(log, program string, args ...string) (*Process, error) {
	f, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p := &Process{cmd: exec.Command(program, args...), log: log}
	p.cmd.Stderr = f
	return p, p.cmd.Start()
}

// Log is what the program said.
func (p *Process) Log() string {
	b, _ := os.ReadFile(p.log)
	return string(b)
}

// CPU is what the program used so far.
func (p *Process) CPU() time.Duration { return treeCPU(p.cmd.Process.Pid) }

// PeakMemory is the most memory that it had.
func (p *Process) PeakMemory() int64 { return statusBytes(p.cmd.Process.Pid, "VmHWM:") }

// Stop asks it to end and waits.
func (p *Process) Stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	_ = p.cmd.Wait()
}
