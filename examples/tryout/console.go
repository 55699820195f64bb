package main

import (
	"crypto/rand"
	"fmt"
	"path/filepath"
	"strings"
)

// operator is who may log in to the console of this run, with a password that
// nobody knew before.
type operator struct{ name, password string }

// addOperator makes the file of the console's users with the command that an
// administrator has for it.
func (s *site) addOperator() error {
	s.operator = operator{"admin", rand.Text()[:16]}
	file := filepath.Join(s.gateway.Dir, "console-users")
	res, err := s.gateway.RunInput(strings.NewReader(s.operator.password+"\n"), "user", "add", s.operator.name, "--role", "admin", "--file", file)
	if err != nil {
		return err
	}
	if res.Code != 0 {
		return fmt.Errorf("gatepost user add: %s", res.Stderr)
	}
	s.gateway.Config.Set("console", "users", fmt.Sprintf("%q", file))
	return nil
}

// command is a line to be typed.
func (s *site) command(args ...string) string {
	return strings.Join(append([]string{s.binary}, append(args, "-c", s.gateway.File)...), " ")
}
