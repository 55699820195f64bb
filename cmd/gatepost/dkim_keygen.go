package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"gatepost/internal/dkim"
	"gatepost/internal/mail"
)

// keyFolder is where private keys are by default.
const keyFolder = "/etc/gatepost/dkim"

// keygenFlags are those of "dkim keygen".
type keygenFlags struct {
	domain, selector, kind, file string
	bits                         int
}

func (a *app) dkimKeygen() *cobra.Command {
	var f keygenFlags
	cmd := &cobra.Command{
		Use:   "keygen --domain DOMAIN --selector SELECTOR",
		Short: "Make a key, and print the record that the DNS is to have",
		Long: `Writes a new private key and prints its public half as a TXT record: once as the
plain value, for the forms of DNS providers, and once as a line of a zone file.
A file that is there is never overwritten. The file has mode 0600; the user that
the gateway runs as must be able to read it.

RSA is read by everybody. Ed25519 is shorter, and read by some: use it beside an
RSA key, never alone.`,
		Example: "  gatepost dkim keygen --domain example.com --selector 2026a\n  gatepost dkim keygen --domain example.com --selector 2026e --type ed25519",
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return a.keygen(f) },
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().StringVar(&f.domain, "domain", "", "the `domain` of the authors")
	cmd.Flags().StringVar(&f.selector, "selector", "", "the `name` of the key in the DNS")
	cmd.Flags().StringVar(&f.kind, "type", string(dkim.RSA), "the `kind` of the key: rsa or ed25519")
	cmd.Flags().IntVar(&f.bits, "bits", 2048, "the `length` of an RSA key")
	cmd.Flags().StringVar(&f.file, "file", "", "the `file` of the private key; default "+keyFolder+"/DOMAIN.SELECTOR.pem")
	return cmd
}

// madeKey is what "dkim keygen" tells.
type madeKey struct {
	File  string `json:"file"`
	Name  string `json:"name"`
	Value string `json:"value"`
	Zone  string `json:"zone"`
}

func (a *app) keygen(f keygenFlags) error {
	domain, err := mail.ParseDomain(f.domain)
	if err != nil || strings.HasPrefix(domain, "[") {
		return exit(exitUsage, "--domain %q is no domain name", f.domain)
	}
	domain = mail.ASCIIDomain(domain)
	selector := strings.ToLower(f.selector)
	if _, err := mail.ParseDomain(dkim.RecordName(selector, domain)); err != nil || selector == "" {
		return exit(exitUsage, "--selector %q is no selector; write a label such as 2026a", f.selector)
	}
	if f.file == "" {
		f.file = filepath.Join(keyFolder, domain+"."+selector+".pem")
		if err := os.MkdirAll(keyFolder, 0o755); err != nil {
			return exit(exitCreate, "%w", err)
		}
	}
	private, err := dkim.Generate(dkim.KeyType(strings.ToLower(f.kind)), f.bits)
	if err != nil {
		return exit(exitUsage, "%w", err)
	}
	key := &dkim.Key{Domain: domain, Selector: selector, Private: private}
	text, err := dkim.EncodeKey(private)
	if err != nil {
		return exit(exitBug, "%w", err)
	}
	if err := writeKey(f.file, text); err != nil {
		return err
	}
	made := madeKey{File: f.file, Name: key.Name()}
	if made.Value, err = key.Record(); err != nil {
		return exit(exitBug, "%w", err)
	}
	if made.Zone, err = key.ZoneLine(); err != nil {
		return exit(exitBug, "%w", err)
	}
	return a.printMade(key, made)
}

// writeKey makes a file that nobody else can read, durably: its public half goes
// into the DNS next.
func writeKey(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case errors.Is(err, fs.ErrExist):
		return exit(exitCreate, "%s is there already, and is not overwritten; give another --selector or --file", line(path))
	case err != nil:
		return exit(exitCreate, "%w", err)
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(path) // half a key is none
		return exit(exitCreate, "%w", err)
	}
	return nil
}

func (a *app) printMade(key *dkim.Key, made madeKey) error {
	if a.json {
		return a.printJSON(made)
	}
	_, err := fmt.Fprintf(a.out, `The private key is in %[1]s. Keep it secret.

Put this TXT record into the DNS. Its name:
%[2]s
Its value:
%[3]s
The same for a zone file:
%[4]s

Then let it sign, and see whether the DNS has it with "gatepost dkim check":
[dkim.key.%[5]s]
domain   = %[6]q
selector = %[7]q
file     = %[1]q
`, made.File, made.Name, made.Value, made.Zone, strings.ReplaceAll(key.Domain+"-"+key.Selector, ".", "-"), key.Domain, key.Selector)
	if err != nil {
		return exit(exitSystem, "writing: %w", err)
	}
	return nil
}
