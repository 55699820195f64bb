package config

import (
	"cmp"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"gatepost/internal/state"
)

// longestSocket is what fits into the kernel's sun_path.
const longestSocket = 107

func (c *Config) checkStores(top table, control string) {
	if !filepath.IsAbs(c.Spool) {
		top.child("spool").problem(fmt.Sprintf("%q is no absolute path", c.Spool), `write one like "/var/spool/gatepost"`)
	}
	path := strings.TrimPrefix(strings.TrimPrefix(control, "unix:"), "local:")
	p := top.child("control")
	switch {
	case !filepath.IsAbs(path):
		p.problem(fmt.Sprintf("%q is no unix socket", control), `write one like "unix:/run/gatepost/control.sock"`)
	case len(path) > longestSocket:
		p.problem(fmt.Sprintf("the path has %d bytes", len(path)), fmt.Sprintf("the system allows %d; take a shorter one", longestSocket))
	}
	c.Control = path
	c.checkState(top.child("state"))
	c.checkHistory(top)
}

// checkHistory reads where the history is kept; "" is nowhere.
func (c *Config) checkHistory(top table) {
	top.attach(split(c.History.Validate()), &c.History)
	p := top.child("history")
	address, ok := top.values["history"].(string)
	if !ok || address == "" {
		return
	}
	if scheme, _, _ := strings.Cut(address, ":"); scheme == "postgres" || scheme == "postgresql" {
		p.problem("a history in PostgreSQL is not built yet", `each gateway keeps its own; write one like "sqlite:/var/lib/gatepost/history.db"`)
		return
	}
	p.store(address, "sqlite:/var/lib/gatepost/history.db", "sqlite")
	c.History.Path = strings.TrimPrefix(address, "sqlite:")
}

// checkState reads the address of the store of windows, lists and rates, and the
// files that it names.
func (c *Config) checkState(p place) {
	advice := fmt.Sprintf("write one like %q (known: %s)", state.DefaultAddress, strings.Join(state.Schemes(), ", "))
	store, err := state.Parse(cmp.Or(c.State, state.DefaultAddress))
	for _, text := range split(err) {
		p.problem(text, advice)
	}
	if err == nil {
		for _, text := range split(store.CheckFiles()) {
			p.problem(strings.TrimPrefix(text, "state: "), "the store can't be used without it")
		}
	}
	c.Store = store
}

// store checks the address of a store: sqlite:/path or scheme://host.
func (p place) store(address, example string, schemes ...string) {
	if address == "" {
		return
	}
	u, err := url.Parse(address)
	advice := fmt.Sprintf("write one like %q (known: %s)", example, strings.Join(schemes, ", "))
	switch {
	case err != nil || u.Scheme == "":
		p.problem(fmt.Sprintf("%q is no address of a store", address), advice)
	case !slices.Contains(schemes, u.Scheme):
		p.problem(fmt.Sprintf("%q is no kind of store", u.Scheme), advice)
	case u.Scheme == "sqlite" && (u.Host != "" || !filepath.IsAbs(strings.TrimPrefix(address, "sqlite:"))):
		p.problem("the path of the file is not absolute", advice)
	case u.Scheme != "sqlite" && u.Host == "":
		p.problem("no host", fmt.Sprintf("write %s://host:port/name", u.Scheme))
	}
}
