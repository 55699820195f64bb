package state

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// newClient makes the client of a server, of Sentinels or of a Cluster. What
// fails is not tried again by it: whoever waits is answered by our own memory.
func newClient(cfg Config, o Options) (redis.UniversalClient, error) {
	redis.SetLogger(quietLog{o.Log})
	t, err := cfg.tlsConfig()
	if err != nil {
		return nil, err
	}
	u := &redis.UniversalOptions{
		Addrs: cfg.Addresses, MasterName: cfg.Master, DB: cfg.DB, IsClusterMode: cfg.Kind == KindCluster, TLSConfig: t,
		Protocol: 2, DisableIdentity: true, MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		CredentialsProviderContext: func(context.Context) (string, string, error) { return cfg.credentials() },
		MaxRetries:                 -1, DialerRetries: 1, ContextTimeoutEnabled: true,
		DialTimeout: o.Timeout, ReadTimeout: o.Timeout, WriteTimeout: o.Timeout, PoolTimeout: o.Timeout,
		SentinelUsername: cfg.SentinelUser,
	}
	if cfg.SentinelPasswordFile != "" {
		if u.SentinelPassword, err = readPassword(cfg.SentinelPasswordFile); err != nil {
			return nil, err
		}
	}
	return redis.NewUniversalClient(u), nil
}

// credentials are read for each connection: a password may change.
func (c Config) credentials() (user, password string, err error) {
	if c.PasswordFile == "" {
		return c.User, c.Password, nil
	}
	password, err = readPassword(c.PasswordFile)
	return c.User, password, err
}

const maxPassword = 4096

func readPassword(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("state: password: %w", err)
	}
	if info.Size() > maxPassword {
		return "", fmt.Errorf("state: password: %s is larger than %d bytes", path, maxPassword)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("state: password: %w", err)
	}
	if password := strings.TrimRight(string(b), "\r\n"); password != "" {
		return password, nil
	}
	return "", fmt.Errorf("state: password: %s is empty", path)
}

func (c Config) tlsConfig() (*tls.Config, error) {
	if !c.TLS {
		return nil, nil
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("state: ca_file: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("state: ca_file: %s has no certificate", c.CAFile)
		}
	}
	if c.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("state: cert_file: %w", err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}

// CheckFiles reads the files that an address names.
func (c Config) CheckFiles() error {
	_, err := c.tlsConfig()
	for _, path := range []string{c.PasswordFile, c.SentinelPasswordFile} {
		if path != "" {
			_, perr := readPassword(path)
			err = errors.Join(err, perr)
		}
	}
	return err
}

// quietLog is for what the client has to say beside its errors.
type quietLog struct{ log *slog.Logger }

func (q quietLog) Printf(ctx context.Context, format string, v ...any) {
	if q.log.Enabled(ctx, slog.LevelDebug) {
		q.log.DebugContext(ctx, "redis client", "text", fmt.Sprintf(format, v...))
	}
}
