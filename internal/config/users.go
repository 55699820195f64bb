package config

import (
	"cmp"
	"crypto/x509"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"gatepost/internal/tomltext"
	"gatepost/internal/users"
)

// kindsOfUsers are where users may be known.
var kindsOfUsers = []string{"file", "ldap", "dovecot", "nexthop"}

// readUsers reads [login] and the sections [auth.NAME].
func (c *Config) readUsers(top table) map[string]users.Source {
	c.Login = users.DefaultThrottleConfig()
	login := top.table("login")
	login.bind(&c.Login)
	login.attach(split(c.Login.Validate()), &c.Login)
	sources := make(map[string]users.Source)
	for _, s := range top.tables("auth") {
		if !goodName(s.name) {
			s.problem(fmt.Sprintf("%q is no name", s.name), "write letters, digits, - and _")
		}
		sources[s.name] = c.readSource(top, s)
	}
	return sources
}

// readSource reads one section. The kind is the name where it says nothing else.
func (c *Config) readSource(top table, s named) users.Source {
	var extra struct {
		Kind string `toml:"kind"`
	}
	kind, at := s.name, s.place
	if v, ok := s.values["kind"].(string); ok {
		kind, at = v, s.child("kind")
	}
	switch kind {
	case "file":
		var cfg struct {
			File string `toml:"file"`
		}
		s.bind(&cfg, &extra)
		if cfg.File == "" {
			s.child("file").missing(`file = "/etc/gatepost/users", made by "gatepost user add"`)
			return nil
		}
		if !filepath.IsAbs(cfg.File) {
			s.child("file").problem(fmt.Sprintf("%q is no absolute path", cfg.File), "")
			return nil
		}
		source, err := users.OpenFile(cfg.File)
		for _, text := range split(err) {
			if p, ok := inFile(text, cfg.File); ok {
				top.r.problems = append(top.r.problems, p)
				continue
			}
			s.child("file").problem(strings.TrimPrefix(text, "users: "), `make it with "gatepost user add"`)
		}
		return source
	case "ldap":
		cfg := users.DefaultLDAPConfig()
		s.bind(&cfg, &extra)
		source, err := users.NewLDAP(cfg)
		s.attach(split(err), &cfg)
		return source
	case "dovecot":
		cfg := users.DefaultDovecotConfig()
		s.bind(&cfg, &extra)
		source, err := users.NewDovecot(cfg)
		s.attach(split(err), &cfg)
		return source
	case "nexthop":
		cfg := users.DefaultNextHopConfig()
		cfg.Hostname = c.Hostname
		s.bind(&cfg, &extra)
		source, err := users.NewNextHop(cfg)
		s.attach(split(err), &cfg)
		return source
	}
	at.problem(fmt.Sprintf("users of the kind %q are not known", kind), tomltext.DidYouMean(kind, kindsOfUsers))
	return nil
}

// useUsers gives listeners the sources that they name.
func (c *Config) useUsers(top table, sources map[string]users.Source) {
	names := slices.Sorted(maps.Keys(sources))
	used := make(map[string]bool)
	for i := range c.Listeners {
		l := &c.Listeners[i]
		at := top.table("listener").table(l.Name)
		seen := make(map[string]bool)
		for n, name := range l.Auth {
			source, there := sources[name]
			if !there {
				at.child("auth").item(n).problem(fmt.Sprintf("there is no section [auth.%s]", quoteKey(name)), tomltext.DidYouMean(name, names))
			} else if seen[name] {
				at.child("auth").item(n).problem(fmt.Sprintf("%q is there twice", name), "remove one")
			}
			used[name], seen[name] = true, true
			l.Sources = append(l.Sources, source)
		}
		checkIssuers(at.child("client_ca"), l.ClientCA)
	}
	for _, name := range names {
		if !used[name] {
			top.table("auth").child(name).warn("no listener uses it", fmt.Sprintf("write auth = [%q] in a section [listener.NAME]", name))
		}
	}
}

func checkIssuers(p place, file string) {
	if file == "" {
		return
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		p.problem(err.Error(), "")
	} else if !x509.NewCertPool().AppendCertsFromPEM(pem) {
		p.problem(fmt.Sprintf("%s holds no certificate in PEM", file), "")
	}
}

// UserFiles returns the files of users that a configuration names, which may
// have any mistake beside them: they may have to be made first. forConsole leaves
// that of [console] alone, where it names one.
func UserFiles(path string, forConsole bool) []string {
	var c struct {
		Auth    map[string]struct{ Kind, File string }
		Console struct{ Users string }
	}
	_, _ = toml.DecodeFile(path, &c) // whatever is there
	if c.Console.Users != "" && forConsole {
		return []string{c.Console.Users}
	}
	var files []string
	for name, s := range c.Auth {
		if kind := cmp.Or(s.Kind, name); kind == "file" && s.File != "" && !slices.Contains(files, s.File) {
			files = append(files, s.File)
		}
	}
	if file := c.Console.Users; file != "" && !slices.Contains(files, file) {
		files = append(files, file)
	}
	return files
}
