package rewrite

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"gatepost/internal/mail"
)

// Config is [rewrite]. All of it is off by default.
type Config struct {
	// MasqueradeAs is the domain that senders of MasqueradeDomains appear to be
	// in, in the header, and with MasqueradeEnvelope in the envelope too; with
	// MasqueradeRecipients the recipients that the header names, too. Domains
	// are names, or ".example.com" for what lies below. It is done for mail that
	// comes in by a listener with the role relay, submission or submissions.
	MasqueradeAs         string   `toml:"masquerade_as"`
	MasqueradeDomains    []string `toml:"masquerade_domains"`
	MasqueradeExceptions []string `toml:"masquerade_exceptions"`
	MasqueradeEnvelope   bool     `toml:"masquerade_envelope"`
	MasqueradeRecipients bool     `toml:"masquerade_recipients"`
	// ExposedUsers are local parts that stay as they are, like root.
	ExposedUsers []string `toml:"exposed_users"`
	// Genericstable is a file in sendmail's format: what senders of
	// GenericsDomains appear as.
	Genericstable   string   `toml:"genericstable"`
	GenericsDomains []string `toml:"generics_domains"`

	// Domaintable is a file in sendmail's format: the domain that stands for a
	// recipient's, before the tables below. It is done for mail that comes in by
	// a listener with the role mx; relay.domains has to have the first of the two.
	Domaintable string `toml:"domaintable"`
	// Virtusertable is a file in sendmail's format: who gets the mail for
	// addresses of VirtualDomains. It is done for mail that comes in by a
	// listener with the role mx.
	Virtusertable  string   `toml:"virtusertable"`
	VirtualDomains []string `toml:"virtual_domains"`
	// Aliases is a file in sendmail's format, without files and programs: who
	// gets the mail for users of AliasDomains.
	Aliases      string   `toml:"aliases"`
	AliasDomains []string `toml:"alias_domains"`
}

// Rewriter is a Config whose tables were read.
type Rewriter struct {
	senders    Senders
	recipients Recipients
	domains    domaintable
	outgoing   bool
	incoming   bool
}

const maxFile = 256 << 20

// Load reads the tables. Its error names all that is wrong.
func Load(c Config) (*Rewriter, error) {
	r := &Rewriter{
		outgoing: c.MasqueradeAs != "" || c.Genericstable != "",
		incoming: c.Domaintable != "" || c.Virtusertable != "" || c.Aliases != "",
	}
	errs := []error{
		pair("masquerade_as", c.MasqueradeAs, "masquerade_domains", c.MasqueradeDomains),
		pair("genericstable", c.Genericstable, "generics_domains", c.GenericsDomains),
		pair("virtusertable", c.Virtusertable, "virtual_domains", c.VirtualDomains),
		pair("aliases", c.Aliases, "alias_domains", c.AliasDomains),
	}
	names := func(key string, list []string) domains {
		d, err := newDomains(key, list)
		errs = append(errs, err)
		return d
	}
	read := func(key, path string) table {
		if path == "" {
			return nil
		}
		text, err := readFile(key, path)
		if err != nil {
			errs = append(errs, err)
			return nil
		}
		t, err := parseTable(path, text)
		errs = append(errs, err)
		return t
	}
	s := &r.senders
	*s = Senders{
		generics: read("genericstable", c.Genericstable), generic: names("generics_domains", c.GenericsDomains),
		masked: names("masquerade_domains", c.MasqueradeDomains), exceptions: names("masquerade_exceptions", c.MasqueradeExceptions),
		envelope: c.MasqueradeEnvelope, recipients: c.MasqueradeRecipients,
	}
	for _, u := range c.ExposedUsers {
		s.exposed = append(s.exposed, strings.ToLower(u))
	}
	if c.MasqueradeAs != "" {
		domain, err := mail.ParseDomain(c.MasqueradeAs)
		if err != nil {
			errs = append(errs, fmt.Errorf("masquerade_as: %q: %w", c.MasqueradeAs, err))
		}
		s.as = mail.ASCIIDomain(domain)
	}
	errs = append(errs, s.check(c.Genericstable)...)
	r.recipients = Recipients{
		virtusers: read("virtusertable", c.Virtusertable), virtual: names("virtual_domains", c.VirtualDomains),
		local: names("alias_domains", c.AliasDomains),
	}
	errs = append(errs, r.recipients.check(c.Virtusertable)...)
	domains, err := newDomaintable(c.Domaintable, read("domaintable", c.Domaintable))
	r.domains, errs = domains, append(errs, err)
	if c.Aliases != "" {
		text, err := readFile("aliases", c.Aliases)
		if err == nil {
			r.recipients.aliases, err = parseAliases(c.Aliases, text)
		}
		errs = append(errs, err)
	}
	return r, errors.Join(errs...)
}

func pair(key, value, other string, list []string) error {
	switch {
	case value != "" && len(list) == 0:
		return fmt.Errorf("%s: needs %s, the domains that it is about", key, other)
	case value == "" && len(list) > 0:
		return fmt.Errorf("%s: does nothing without %s", other, key)
	}
	return nil
}

func readFile(key, path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", key, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxFile)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", key, err)
	}
	return strings.TrimPrefix(string(b), "\ufeff"), nil
}

// check names right sides that lead nowhere.
func (r *Recipients) check(file string) (errs []error) {
	keys := make([]string, 0, len(r.virtusers))
	for key := range r.virtusers {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b string) int { return r.virtusers[a].line - r.virtusers[b].line })
	for _, key := range keys {
		e := r.virtusers[key]
		err := r.checkValue(key, e.value)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s:%d: %s: %w", file, e.line, key, err))
		}
	}
	return errs
}

func (r *Recipients) checkValue(key, value string) error {
	if !strings.Contains(key, "@") {
		return errors.New("want user@domain, user@ or @domain")
	}
	if rest, is := strings.CutPrefix(value, "error:"); is {
		_, err := refusal(rest)
		return err
	}
	if strings.ContainsAny(value, ", \t") {
		return errors.New("one address only; lists of them belong to aliases")
	}
	_, err := r.target(expand(value, "x", "y", "+y"), "local.invalid")
	return err
}

// Rewrites reports what there is to do: for mail on its way out, and in.
func (r *Rewriter) Rewrites() (outgoing, incoming bool) { return r.outgoing, r.incoming }

// Outgoing returns what is to be changed of a message on its way out.
func (r *Rewriter) Outgoing(env mail.Envelope, h mail.Header) []mail.Edit {
	if !r.outgoing {
		return nil
	}
	return r.senders.Edits(env, h)
}

// Incoming tells what becomes of a recipient on the way in.
func (r *Rewriter) Incoming(a mail.Address) (Target, error) {
	if !r.incoming {
		return Target{To: []mail.Address{a}}, nil
	}
	return r.recipients.Rewrite(r.domains.apply(a))
}
