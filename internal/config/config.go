// Package config reads the configuration: one TOML file, into the Config
// structs of the packages that use it. It is strict, and it names every problem
// of the file at once, each with its line and column.
package config

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/BurntSushi/toml"

	"gatepost/filters"
	"gatepost/filters/attachments"
	"gatepost/filters/auth"
	"gatepost/filters/blocklist"
	"gatepost/filters/child"
	"gatepost/filters/clamav"
	"gatepost/filters/client"
	"gatepost/filters/dnsbl"
	"gatepost/filters/greylist"
	"gatepost/filters/icap"
	"gatepost/filters/rates"
	"gatepost/filters/spamassassin"
	"gatepost/internal/console"
	"gatepost/internal/digest"
	"gatepost/internal/dns"
	"gatepost/internal/drac"
	"gatepost/internal/history"
	"gatepost/internal/mail"
	"gatepost/internal/maillog"
	"gatepost/internal/mime"
	"gatepost/internal/notify"
	"gatepost/internal/quarantine"
	"gatepost/internal/recipients"
	"gatepost/internal/sign"
	"gatepost/internal/state"
	"gatepost/internal/telemetry"
	"gatepost/internal/tomltext"
	"gatepost/internal/users"
	"gatepost/milter"
	"gatepost/proxy"
	"gatepost/proxy/forward"
	"gatepost/proxy/journal"
	"gatepost/proxy/queue"
	"gatepost/proxy/spool"
	"gatepost/rules"
	"gatepost/rules/checkrules"
	"gatepost/rules/rewrite"
)

// Config is what a file says, with the defaults for what it doesn't say.
type Config struct {
	File     string
	Warnings Problems
	Settings []Setting // all keys, those that the file sets and the defaults of others

	Hostname     string
	Spool        string       // directory
	SpoolMinFree int64        // bytes that must be free on its disk
	State        string       // as it is written, or ""
	Store        state.Config // the same, or where it is by default
	History      history.Config
	Control      string // path of the control socket

	Console console.Config
	// ConsoleUsers are those who may log in; nil where there are none.
	ConsoleUsers *users.File
	Listeners    []Listener // in the order of the file
	Milters      []milter.Config
	Forward      forward.Config
	Filtering    filters.Config
	MIME         mime.Config
	Filters      []Filter // in the order of the file
	Rules        rules.Config
	// RulesDir is where generations of rules, managed lists and counts of hits
	// are kept. Default: rules beside the file of the key state, or in
	// /var/lib/gatepost.
	RulesDir string
	// RulesShrink is the share of its entries that a list must keep when its
	// file is read again. Default 0.5; 0: any.
	RulesShrink float64
	Queue       queue.Config
	DNS         dns.ClientConfig
	DRAC        drac.Config
	Login       users.ThrottleConfig // sources of users are with the listeners
	Log         maillog.Config
	Telemetry   telemetry.Config
	Journals    []journal.Config // in the order of the file

	Recipients recipients.Config
	CheckRules checkrules.Config
	Rewrite    rewrite.Config
	Sign       sign.Config

	Quarantine quarantine.Config
	Digest     digest.Config
	Notify     notify.Config

	relayDomains []string // those of the lists included
}

// Listener is a section [listener.NAME].
type Listener struct {
	proxy.Config
	// OnError replaces that of all filters; "": theirs stands.
	OnError filters.OnError `toml:"on_error"`
	// Handler is the socket of a milter that judges the content in the place
	// of the filters, in any spelling of [milter.NAME] socket. "": the filters
	// do. Who may relay, and the access map, are asked here in any case.
	Handler string `toml:"handler"`
	// HandlerOnError is what its failure means: tempfail (default) or continue.
	HandlerOnError milter.OnError `toml:"handler_on_error"`
}

// Filter is a section [filter.NAME]. One of the pointers is set.
type Filter struct {
	Name         string
	ClamAV       *clamav.Config
	SpamAssassin *spamassassin.Config
	ICAP         *icap.Config
	Milter       *child.Config
	DNSBL        *dnsbl.Config
	Greylist     *greylist.Config
	Rates        *rates.Config
	Client       *client.Config
	Blocklist    *blocklist.Config
	Attachments  *attachments.Config
	Auth         *auth.Config
}

// main is the top level of the file. What is "any" has a reader of its own.
type main struct {
	Hostname     string           `toml:"hostname"`
	Spool        string           `toml:"spool"`
	SpoolMinFree int64            `toml:"spool_min_free,size"`
	State        string           `toml:"state"`
	History      string           `toml:"history"`
	Control      string           `toml:"control"`
	Console      console.Config   `toml:"console"`
	Queue        queue.Config     `toml:"queue"`
	Filtering    filters.Config   `toml:"filtering"`
	Log          maillog.Config   `toml:"log"`
	Telemetry    telemetry.Config `toml:"telemetry"`

	history.Config // its keys stand beside history

	Recipients recipients.Config `toml:"recipients"`
	CheckRules checkrules.Config `toml:"check_rules"`
	Rewrite    rewrite.Config    `toml:"rewrite"`

	Rules       []string `toml:"rules"`
	RulesDir    string   `toml:"rules_dir"`
	RulesShrink float64  `toml:"rules_shrink"`

	Limits   any `toml:"limits"`
	Relay    any `toml:"relay"`
	Listener any `toml:"listener"`
	Milter   any `toml:"milter"`
	LDAP     any `toml:"ldap"`
	Route    any `toml:"route"`
	Routing  any `toml:"routing"`
	DNS      any `toml:"dns"`
	DRAC     any `toml:"drac"`
	Auth     any `toml:"auth"`
	Login    any `toml:"login"`
	Filter   any `toml:"filter"`
	Journal  any `toml:"journal"`
	Policy   any `toml:"policy"`
	MIME     any `toml:"mime"`
	Subject  any `toml:"subject"`
	Text     any `toml:"text"`
	DKIM     any `toml:"dkim"`
	ARC      any `toml:"arc"`

	Quarantine any `toml:"quarantine"`
	Digest     any `toml:"digest"`
	Notify     any `toml:"notify"`
}

func defaults() main {
	return main{
		Spool:        "/var/spool/gatepost",
		SpoolMinFree: spool.DefaultMinFree,
		Control:      "unix:/run/gatepost/control.sock",
		Console:      console.DefaultConfig(),
		Config:       history.DefaultConfig(),
		Queue:        queue.DefaultConfig(),
		Filtering:    filters.DefaultConfig(),
		Log:          maillog.DefaultConfig(),
		Telemetry:    telemetry.DefaultConfig(),
		Recipients:   recipients.DefaultConfig(),
		CheckRules:   checkrules.DefaultConfig(),
		RulesShrink:  defaultRulesShrink,
	}
}

// maxFile is far more than anybody writes.
const maxFile = 4 << 20

// Load reads a file and all that it names. Its error is that of the file, or
// Problems.
func Load(path string) (*Config, error) { return load(path, true) }

// LoadForScan is Load for a file that may be without a listener: one that is
// there to judge files only.
func LoadForScan(path string) (*Config, error) { return load(path, false) }

func load(path string, listening bool) (*Config, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	if info.Size() > maxFile {
		return nil, Problems{{File: path, What: fmt.Sprintf("is larger than %d bytes", maxFile), Do: "is this the right file?"}}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	return read(path, string(text), listening)
}

func read(path, text string, listening bool) (*Config, error) {
	r := &reader{file: path, lines: tomltext.NewLines(text), meant: make(map[string]bool)}
	top := table{place: place{r: r, node: tomltext.Scan(text)}}
	if _, err := toml.Decode(text, &top.values); err != nil {
		return nil, r.syntax(err)
	}
	c := &Config{File: path}
	c.read(top, listening)
	if len(r.problems) > 0 {
		return nil, sorted(r.problems, path)
	}
	c.Warnings, c.Settings = sorted(r.warnings, path), r.all()
	return c, nil
}

// syntax shows where the decoder stopped, with the line itself.
func (r *reader) syntax(err error) error {
	p := Problem{File: r.file, What: "is no TOML: " + err.Error()}
	var parse toml.ParseError
	if errors.As(err, &parse) {
		p.Position = Position{Line: parse.Position.Line, Column: parse.Position.Col}
		p.What = parse.Message
		_, excerpt, _ := strings.Cut(parse.ErrorWithPosition(), "\n\n")
		if _, lines, ok := strings.Cut(excerpt, "\n\n"); ok {
			p.What += "\n" + strings.TrimRight(lines, "\n")
		}
	}
	return Problems{p}
}

// read fills c from the top level down. The order matters only where one
// section needs another.
func (c *Config) read(top table, listening bool) {
	m := defaults()
	top.bind(&m)
	c.Hostname, c.Console, c.Queue, c.Filtering, c.Log, c.Telemetry = m.Hostname, m.Console, m.Queue, m.Filtering, m.Log, m.Telemetry
	c.Spool, c.SpoolMinFree, c.State, c.History = m.Spool, m.SpoolMinFree, m.State, m.Config
	c.readHostname(top)
	c.checkStores(top, m.Control)
	c.readRules(top)
	c.Rules.Files.Files = m.Rules
	c.checkRulesDir(top, m)
	c.readTexts(top)
	sources := c.readUsers(top)
	c.readListeners(top)
	c.useUsers(top, sources)
	c.readMilters(top)
	c.readJournals(top)
	c.readTables(top, m)
	c.readSigning(top)
	c.readRecipients(top, m)
	if listening && len(c.Listeners)+len(c.Milters) == 0 {
		top.child("listener").missing(`a section [listener.mx] with address = "0.0.0.0:25", or [milter.main] with a socket for your MTA`)
	}
	c.readDRAC(top)
	c.readDNS(top)
	c.readRoutes(top)
	c.checkReinject(top)
	c.readFilters(top)
	c.checkUnscanned(top)

	c.checkConsole(top)
	c.readQuarantine(top)
	top.table("log").attach(split(c.Log.Validate()), &c.Log)
	top.table("telemetry").attach(split(c.Telemetry.Validate()), &c.Telemetry)
	c.checkQueue(top.table("queue"))
	top.table("filtering").attach(split(c.Filtering.Validate()), &c.Filtering, "filters: ")
	c.readMIME(top)
	c.checkAddresses(top)
	c.checkTenants()
	c.checkRelay(top)
	c.checkTexts(top)
	c.checkRecipients(top)
}

// readHostname leaves a name in any case, so that the rest can be checked.
func (c *Config) readHostname(top table) {
	p := top.child("hostname")
	name, err := mail.ParseDomain(c.Hostname)
	switch {
	case c.Hostname == "":
		p.missing(`hostname = "mx1.example.com", the name of this host in DNS`)
	case err != nil || strings.HasPrefix(name, "["):
		p.problem(fmt.Sprintf("%q is no domain name", c.Hostname), `write one like "mx1.example.com"`)
	case !strings.Contains(name, "."):
		p.warn(fmt.Sprintf("%q has no dot", c.Hostname), "other hosts want a full name that is in DNS")
	}
	if c.Hostname = name; err != nil || name == "" {
		c.Hostname = "unknown.invalid"
	}
}

// missing notes that a key is not there, unless something else is wrong with it or
// another key was probably meant to be it.
func (p place) missing(write string) {
	if !p.among(p.r.problems) && !p.r.meant[p.path] {
		p.problem("missing", "write "+write)
	}
}
