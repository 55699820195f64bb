package forward

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Identity is how we and the hosts of a route prove to each other who they are.
// Its files are read at the start and with every reload.
type Identity struct {
	// CAFile holds the only issuers that tls = "verify" believes, in PEM.
	// Default: the system's.
	CAFile string `toml:"ca_file"`
	// ClientCert and ClientKey are shown to a next hop that asks for a
	// certificate; both in PEM.
	ClientCert string `toml:"client_cert"`
	ClientKey  string `toml:"client_key"`
	// Username to log in with. It needs tls = "verify".
	Username string `toml:"username"`
	// PasswordFile holds the password. A name without a slash lies in
	// $CREDENTIALS_DIRECTORY (LoadCredential= of systemd).
	PasswordFile string `toml:"password_file"`
	// Auth is plain, login or scram-sha-256. Default: the best that is offered.
	Auth Auth `toml:"auth"`
	// XClient is how a Postfix is told who the client was: none, xforward
	// (for its log) or xclient (as if it were connected). Default: none.
	XClient XClient `toml:"xclient"`
}

// proofs are an Identity with its files read. They can be compared.
type proofs struct {
	roots     *x509.CertPool // of ca_file, or nil
	cert      *tls.Certificate
	account   account
	introduce XClient
}

// proofFiles reads each file once, so that routes with the same files share
// their hosts.
type proofFiles struct {
	roots map[string]*x509.CertPool
	certs map[[2]string]*tls.Certificate
}

func newProofFiles() *proofFiles {
	return &proofFiles{make(map[string]*x509.CertPool), make(map[[2]string]*tls.Certificate)}
}

// read checks the identity of a route with a TLS policy.
func (f *proofFiles) read(i Identity, policy TLS) (p proofs, err error) {
	p.introduce = i.XClient
	errs := []error{i.Auth.Validate(), i.XClient.Validate(), i.check(policy)}
	note := func(key string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", key, err))
		}
	}
	if i.CAFile != "" {
		p.roots, err = f.pool(i.CAFile)
		note("ca_file", err)
	}
	if i.ClientCert != "" && i.ClientKey != "" {
		p.cert, err = f.pair(i.ClientCert, i.ClientKey)
		note("client_cert", err)
	}
	if i.Username != "" && i.PasswordFile != "" {
		p.account = account{user: i.Username, auth: i.Auth}
		p.account.password, err = readPassword(i.PasswordFile)
		note("password_file", err)
	}
	return p, errors.Join(errs...)
}

// check finds what does not go together.
func (i Identity) check(policy TLS) error {
	var errs []error
	refuse := func(is bool, text string) {
		if is {
			errs = append(errs, errors.New(text))
		}
	}
	refuse(i.CAFile != "" && policy != TLSVerify, `ca_file: no certificate is compared with it; set tls = "verify"`)
	refuse(i.ClientCert == "" && i.ClientKey != "", "client_key: is there without client_cert")
	refuse(i.ClientCert != "" && i.ClientKey == "", "client_cert: is there without client_key")
	refuse(i.ClientCert != "" && policy == TLSNone, `client_cert: can't be shown without TLS; set tls = "required" or "verify"`)
	refuse(i.Username == "" && i.PasswordFile != "", "password_file: is there without username")
	refuse(i.Username == "" && i.Auth != "", "auth: is there without username")
	refuse(i.Username != "" && i.PasswordFile == "", "username: is there without password_file")
	refuse(i.Username != "" && policy != TLSVerify, `username: a password is given only to a host whose certificate fits; set tls = "verify", and ca_file for an issuer of your own`)
	refuse(i.Username != "" && i.XClient == XClientFull, `xclient: who logs in can't be somebody else, too; use xclient = "xforward", or no username`)
	return errors.Join(errs...)
}

func (f *proofFiles) pool(file string) (*x509.CertPool, error) {
	if p := f.roots[file]; p != nil {
		return p, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", file)
	}
	f.roots[file] = p
	return p, nil
}

func (f *proofFiles) pair(cert, key string) (*tls.Certificate, error) {
	if c := f.certs[[2]string{cert, key}]; c != nil {
		return c, nil
	}
	c, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	f.certs[[2]string{cert, key}] = &c
	return &c, nil
}

// maxPassword is more than anybody has.
const maxPassword = 1024

// readPassword reads the one line of a file that not everybody may read.
func readPassword(file string) (string, error) {
	if !filepath.IsAbs(file) {
		dir := os.Getenv("CREDENTIALS_DIRECTORY")
		if dir == "" || strings.ContainsRune(file, '/') || !filepath.IsLocal(file) {
			return "", fmt.Errorf("%q is no absolute path, and no file in $CREDENTIALS_DIRECTORY", file)
		}
		file = filepath.Join(dir, file)
	}
	info, err := os.Stat(file)
	switch {
	case err != nil:
		return "", err
	case info.Mode().Perm()&0o007 != 0:
		return "", fmt.Errorf("everybody may read %s; chmod 600", file)
	case info.Size() > maxPassword:
		return "", fmt.Errorf("%s is longer than %d bytes", file, maxPassword)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	line := strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	if line == "" || strings.ContainsAny(line, "\x00\r\n") {
		return "", fmt.Errorf("%s must hold the password in one line", file)
	}
	return line, nil
}
