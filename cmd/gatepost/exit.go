package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"

	"gatepost/internal/config"
	"gatepost/proxy/spool"
)

// Exit codes of sysexits.h.
const (
	exitOK          = 0
	exitUsage       = 64
	exitData        = 65
	exitNoInput     = 66
	exitUnavailable = 69
	exitBug         = 70
	exitSystem      = 71
	exitCreate      = 73
	exitTemporary   = 75
	exitProtocol    = 76
	exitPermission  = 77
	exitConfig      = 78
)

// exitError ends the process with a code. Without an error it says nothing: all
// was said.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return fmt.Sprint(e.err) }
func (e *exitError) Unwrap() error { return e.err }

func exit(code int, format string, args ...any) error {
	return &exitError{code, fmt.Errorf(format, args...)}
}

// silent is an exit code whose reason was printed.
func silent(code int) error { return &exitError{code: code} }

// report prints what went wrong and returns the exit code. What is not an
// exitError comes from the parser of the command line.
func (a *app) report(err error) int {
	if err == nil {
		return exitOK
	}
	var e *exitError
	if !errors.As(err, &e) {
		fmt.Fprintf(a.err, "gatepost: %v\nTry \"gatepost --help\".\n", err)
		return exitUsage
	}
	var problems config.Problems
	switch {
	case e.err == nil:
	case errors.As(e.err, &problems):
		fmt.Fprintln(a.err, problems.Error()) // each line names the file
	default:
		fmt.Fprintln(a.err, "gatepost: "+visible(e.err.Error()))
	}
	return e.code
}

// because gives an error of the system its exit code.
func because(err error) error {
	if err == nil {
		return nil
	}
	return &exitError{codeOf(err), err}
}

func codeOf(err error) int {
	var problems config.Problems
	var network *net.OpError
	switch {
	case errors.As(err, &problems):
		return exitConfig
	case errors.Is(err, spool.ErrLocked), errors.Is(err, syscall.EADDRINUSE), errors.Is(err, syscall.ENOSPC), errors.Is(err, os.ErrDeadlineExceeded):
		return exitTemporary
	case errors.Is(err, fs.ErrPermission):
		return exitPermission
	case errors.As(err, &network):
		return exitUnavailable
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, spool.ErrNotFound), errors.Is(err, syscall.EISDIR):
		return exitNoInput
	}
	return exitSystem
}

// load reads the configuration.
func (a *app) load() (*config.Config, error) {
	cfg, err := config.Load(a.file)
	return cfg, because(err)
}
