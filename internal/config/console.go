package config

import (
	"crypto/tls"
	"path/filepath"
	"strconv"
	"strings"

	"gatepost/internal/state"
	"gatepost/internal/users"
)

// defaultAudit is where the audit is when the store of windows is no file.
const defaultAudit = "/var/lib/gatepost/audit.jsonl"

// checkConsole tries the files of the console.
func (c *Config) checkConsole(top table) {
	s := top.table("console")
	s.attach(split(c.Console.Validate()), &c.Console)
	if c.Console.Certificate != "" && c.Console.Key != "" {
		if _, err := tls.LoadX509KeyPair(c.Console.Certificate, c.Console.Key); err != nil {
			s.child("tls_cert").problem(strings.TrimPrefix(err.Error(), "tls: "), "give PEM files that belong together and that this user may read")
		}
	}
	if c.Console.Audit == "" {
		c.Console.Audit = filepath.Join(filepath.Dir(c.Store.Path), "audit.jsonl")
		if c.Store.Kind != state.KindSQLite {
			c.Console.Audit = defaultAudit
		}
		s.child("audit").noteAs(strconv.Quote(c.Console.Audit), false)
	}
	if c.Console.Users == "" {
		return
	}
	file, err := users.OpenFile(c.Console.Users)
	if err != nil {
		s.child("users").problem(strings.TrimPrefix(err.Error(), "users: "), `make one with "gatepost user add --file FILE NAME --role admin"`)
		return
	}
	c.ConsoleUsers = file
}
