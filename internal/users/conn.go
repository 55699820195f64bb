package users

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// limitedConn is a connection to one who shall not send more than left.
type limitedConn struct {
	net.Conn
	left int
}

var errTooMuch = errors.New("the answer is too long")

func (c *limitedConn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errTooMuch
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// issuers reads the certificates of a file; "" are the system's.
func issuers(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", file)
	}
	return pool, nil
}

// ReadSecret reads the one line of a file that not everybody may read. A name
// without a slash lies in $CREDENTIALS_DIRECTORY.
func ReadSecret(file string) (string, error) {
	if !filepath.IsAbs(file) {
		dir := os.Getenv("CREDENTIALS_DIRECTORY")
		if dir == "" || !filepath.IsLocal(file) || strings.ContainsRune(file, '/') {
			return "", fmt.Errorf("%q is no absolute path, and no file in $CREDENTIALS_DIRECTORY", file)
		}
		file = filepath.Join(dir, file)
	}
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if info.Mode().Perm()&0o007 != 0 {
		return "", fmt.Errorf("%s may be read by everybody; chmod 640", file)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxPassword+2))
	if err != nil {
		return "", err
	}
	text := strings.TrimRight(string(b), "\r\n")
	if text == "" || len(text) > maxPassword || strings.ContainsAny(text, "\r\n\x00") {
		return "", fmt.Errorf("%s: want one line of 1 to %d bytes", file, maxPassword)
	}
	return text, nil
}

// checkLimits checks what all sources on other hosts have.
func checkLimits(timeout time.Duration, concurrent int) error {
	var errs []error
	if timeout < 100*time.Millisecond || timeout > time.Minute {
		errs = append(errs, fmt.Errorf("timeout: %s; want 100ms to 1m", timeout))
	}
	if concurrent < 1 || concurrent > 1000 {
		errs = append(errs, fmt.Errorf("max_concurrent: %d; want 1 to 1000", concurrent))
	}
	return errors.Join(errs...)
}
