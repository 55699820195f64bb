package rules

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"gatepost/internal/mail"
	"gatepost/rules/access"
)

// tables reads all that [relay] names.
func (c Config) tables() (e access.Engine, warnings []string, sum string, err error) {
	r := c.Relay
	local, errLocal := r.local(true)
	relay, errRelay := r.class()
	e = access.Engine{Local: local, Relay: relay, Hostname: c.Hostname, Options: r.Options}
	var errOwn error
	if r.RelayEntireDomain {
		e.Own, errOwn = access.OwnDomain(c.Hostname)
	}
	table, warnings, sum, errAccess := c.access()
	if err := errors.Join(errLocal, errRelay, errOwn, errAccess); err != nil {
		return access.Engine{}, nil, "", err
	}
	e.Table = table
	return e, append(warnings, e.Warnings()...), sum, nil
}

// access reads the access map; sum is that of its text.
func (c Config) access() (table *access.Table, warnings []string, sum string, err error) {
	path := c.Relay.Access
	if path == "" {
		return &access.Table{}, nil, "", nil
	}
	open := c.Files.Open
	if open == nil {
		open = func(path string) (io.ReadCloser, error) { return os.Open(path) }
	}
	f, err := open(path)
	if err != nil {
		return nil, nil, "", fmt.Errorf("relay.access: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	table, warnings, err = access.Parse(path, io.TeeReader(f, h), c.Relay.Options)
	return table, warnings, hex.EncodeToString(h.Sum(nil)), err
}

// local are the domains that are ours; files may be left out.
func (r Relay) local(files bool) (*access.Class, error) {
	c := &access.Class{}
	var errs access.Problems
	for i, entry := range r.Domains {
		path, isFile := strings.CutPrefix(entry, "file:")
		switch {
		case !isFile:
			where := fmt.Sprintf("relay.domains[%d]", i)
			errs.Note(where, c.Add(access.Domains, "relay.domains", entry))
		case files:
			errs.Add(listError("relay.domains", path, c.AddFile(access.Domains, path)))
		}
	}
	for _, l := range []struct {
		key, path string
		form      access.Form
	}{
		{"relay.local_host_names_file", r.LocalHostNamesFile, access.LocalHosts},
		{"relay.postfix_relay_domains_file", r.PostfixRelayDomainsFile, access.PostfixDomains},
	} {
		if files && l.path != "" {
			errs.Add(listError(l.key, l.path, c.AddFile(l.form, l.path)))
		}
	}
	return c, errs.Join()
}

// class is what relay-domains says.
func (r Relay) class() (*access.Class, error) {
	c := &access.Class{}
	if r.RelayDomainsFile == "" {
		return c, nil
	}
	form := access.RelayDomains
	if r.RelayHostsOnly {
		form = access.RelayHosts
	}
	return c, listError("relay.relay_domains_file", r.RelayDomainsFile, c.AddFile(form, r.RelayDomainsFile))
}

// listError names the key where an error does not begin with the file.
func listError(key, path string, err error) error {
	if err == nil || strings.HasPrefix(err.Error(), path+":") {
		return err
	}
	return fmt.Errorf("%s: %w", key, err)
}

// ClientRate is what the access map says of the connections that a client may
// make in a minute: 0 is no limit. why names the line.
func (s *Set) ClientRate(sess *mail.Session) (limit int, why string, ok bool) {
	return s.limit(access.ClientRate, sess)
}

// ClientConnections is the same of the connections that it may have open.
func (s *Set) ClientConnections(sess *mail.Session) (limit int, why string, ok bool) {
	return s.limit(access.ClientConn, sess)
}

func (s *Set) limit(tag access.Tag, sess *mail.Session) (int, string, bool) {
	n, h, ok := s.engine.Table.Limit(tag, clientOf(sess).Addr, nil)
	if !ok {
		return 0, "", false
	}
	return n, h.String(), true
}
