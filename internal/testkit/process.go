package testkit

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

const (
	startTime = 30 * time.Second // two busy cores may have to load Perl
	stopTime  = 20 * time.Second
)

// process is one program under our eyes. Its output goes to a file, so that it
// never blocks on us.
type process struct {
	path string
	args []string
	env  []string // added to ours
	log  string   // file

	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended
	err  error         // of Wait, after done
}

// start runs the program and waits until ready has nothing to complain about.
func (p *process) start(ready func() error) error {
	if p.running() {
		return fmt.Errorf("testkit: %s runs already", p.path)
	}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(p.path, p.args...)
	cmd.Env = append(os.Environ(), p.env...)
	cmd.Stdout, cmd.Stderr = log, log
	// A group of its own: what it forked ends with it. And it ends with us,
	// should we be killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	p.cmd, p.done = cmd, make(chan struct{})
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p.await(ready)
}

func (p *process) await(ready func() error) error {
	var last error
	ok := poll(startTime, func() bool {
		last = ready()
		return last == nil || !p.running()
	})
	switch {
	case !p.running():
		return fmt.Errorf("testkit: %s ended at its start (%v):\n%s", p.path, p.err, tail(p.Log(), 30))
	case !ok:
		p.kill()
		return fmt.Errorf("testkit: %s not ready after %v: %w\n%s", p.path, startTime, last, tail(p.Log(), 30))
	}
	return nil
}

// PID is the process's number while it runs.
func (p *process) PID() int { return p.cmd.Process.Pid }

func (p *process) running() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// signal does nothing when the process has ended.
func (p *process) signal(sig syscall.Signal) error {
	if !p.running() {
		return nil
	}
	err := p.cmd.Process.Signal(sig)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// stop asks the process to end, and insists after a while. That it had to is
// an error.
func (p *process) stop() error {
	if p.cmd == nil {
		return nil
	}
	if err := p.signal(syscall.SIGTERM); err != nil {
		return err
	}
	if p.wait(stopTime) {
		p.killGroup()
		return nil
	}
	p.kill()
	return fmt.Errorf("testkit: %s did not end %v after SIGTERM", p.path, stopTime)
}

// wait reports whether the process has ended within that time.
func (p *process) wait(d time.Duration) bool {
	if p.cmd == nil {
		return true
	}
	select {
	case <-p.done:
		return true
	case <-time.After(d):
		return false
	}
}

// kill ends the process and all its children at once.
func (p *process) kill() {
	if p.cmd == nil {
		return
	}
	p.killGroup()
	<-p.done
}

func (p *process) killGroup() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // gone already: all the better
}

// Log is what the process wrote so far, over all its lives.
func (p *process) Log() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return ""
	}
	return strings.ToValidUTF8(string(b), "?")
}
