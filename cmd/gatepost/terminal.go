package main

import (
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// hideInput switches the echo off until show is called, or the user interrupts
// us.
func hideInput(f *os.File) (show func(), err error) {
	fd := int(f.Fd())
	old, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, err
	}
	hidden := *old
	hidden.Lflag &^= unix.ECHO
	hidden.Lflag |= unix.ICANON | unix.ISIG
	restore := func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, old) } // nobody to tell
	signals, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	var wait sync.WaitGroup
	wait.Go(func() {
		select {
		case <-signals:
			restore()
			os.Exit(exitTemporary)
		case <-done:
		}
	})
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &hidden); err != nil {
		close(done)
		return nil, err
	}
	return func() {
		signal.Stop(signals)
		close(done)
		wait.Wait()
		restore()
	}, nil
}
