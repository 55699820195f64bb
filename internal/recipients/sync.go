package recipients

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/go-ldap/ldap/v3"

	"gatepost/internal/mail"
)

// synced is what was read of a whole directory.
type synced struct {
	mu     sync.Mutex
	have   *list // nil: nothing yet
	read   time.Time
	size   int
	shrunk bool // the last reading was not believed
}

// list returns what was read; nil where each address is to be looked up. The
// error beside it is for who is not in it.
func (s *synced) list(d *directory) (*list, error) {
	if d.cfg.Sync == 0 {
		return nil, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.have == nil {
		return nil, nil
	}
	if age := d.now().Sub(s.read); age > d.cfg.MaxAge {
		return s.have, fmt.Errorf("ldap: what was read is %v old", age.Round(time.Minute))
	}
	return s.have, nil
}

const (
	pageTime   = time.Minute // for one page
	maxPage    = 64 << 20    // bytes
	maxEntries = 5_000_000
	emptyPages = 10 // in a row: a server that leads us in circles
)

// run reads the directory again and again until ctx ends.
func (d *directory) run(ctx context.Context, log *slog.Logger, stats Stats) {
	if d.cfg.Sync == 0 {
		<-ctx.Done()
		return
	}
	wait := time.Duration(0)
	for failures := 0; ; {
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		n, err := d.sync(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			failures++
			stats.Source("ldap:"+d.cfg.Name, "sync-error")
			log.WarnContext(ctx, "directory not read, what was read before stays", "ldap", d.cfg.Name, "error", err)
			wait = min(time.Second<<min(failures, 10), d.cfg.Sync)
			if errors.Is(err, errShrunk) {
				wait = d.cfg.Sync
			}
		default:
			failures = 0
			stats.Source("ldap:"+d.cfg.Name, "sync")
			log.InfoContext(ctx, "directory read", "ldap", d.cfg.Name, "addresses", n)
			wait = d.cfg.Sync
		}
	}
}

var errShrunk = errors.New("ldap: too little")

// sync reads all pages and puts what they hold in place of what there was. A
// list that has become empty is not believed, and one of less than half the
// size only when the next reading says the same.
func (d *directory) sync(ctx context.Context) (n int, err error) {
	fresh, err := d.readAll(ctx)
	if err != nil {
		return 0, err
	}
	s := &d.synced
	s.mu.Lock()
	defer s.mu.Unlock()
	n = len(fresh.addresses) + len(fresh.domains)
	switch {
	case n == 0:
		return 0, fmt.Errorf("ldap: %s finds no address; is base, the filter, or a right missing?", d.cfg.Name)
	case n < s.size/2 && !s.shrunk:
		s.shrunk = true
		return 0, fmt.Errorf("%w: %d addresses where %d were; believed when the next reading says so, too", errShrunk, n, s.size)
	}
	s.have, s.size, s.read, s.shrunk = fresh, n, d.now(), false
	return n, nil
}

func (d *directory) readAll(ctx context.Context) (l *list, err error) {
	s, err := d.open(ctx)
	if err != nil {
		return nil, err
	}
	defer s.close()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("ldap: an answer that can't be read: %v", p)
		}
	}()
	s.SetTimeout(pageTime)
	defer context.AfterFunc(ctx, func() { _ = s.guard.Conn.Close() })()
	l = newList(d.details)
	control := ldap.NewControlPaging(uint32(d.cfg.PageSize))
	for entries, empty := 0, 0; ; {
		r, err := s.search(ldap.NewSearchRequest(
			d.cfg.Base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false, d.cfg.syncFilter(), d.cfg.Attributes, []ldap.Control{control},
		), maxPage)
		if err != nil {
			return nil, fmt.Errorf("ldap: after %d entries: %w", entries, err)
		}
		for _, e := range r.Entries {
			d.collect(l, e)
		}
		if empty++; len(r.Entries) > 0 {
			empty = 0
		}
		if entries += len(r.Entries); entries > maxEntries || empty > emptyPages {
			return nil, errors.New("ldap: a directory without end")
		}
		next, _ := ldap.FindControl(r.Controls, ldap.ControlTypePaging).(*ldap.ControlPaging)
		if next == nil || len(next.Cookie) == 0 {
			return l, nil
		}
		control.SetCookie(next.Cookie)
	}
}

// collect takes the addresses of an entry. Of values with a scheme, as
// proxyAddresses has them, only those of SMTP are any.
func (d *directory) collect(l *list, e *ldap.Entry) {
	for _, attribute := range e.Attributes {
		for _, value := range attribute.Values {
			if scheme, rest, ok := strings.Cut(value, ":"); ok {
				if !strings.EqualFold(scheme, "smtp") {
					continue
				}
				value = rest
			}
			if a, err := mail.ParseAddress(strings.TrimSpace(value), true); err == nil && a.Domain != "" {
				l.addresses[key(a)] = struct{}{}
			}
		}
	}
}
