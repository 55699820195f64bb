package state

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Kind is of a store.
type Kind string

// The kinds.
const (
	KindSQLite   Kind = "sqlite"
	KindRedis    Kind = "redis"
	KindSentinel Kind = "redis-sentinel"
	KindCluster  Kind = "redis-cluster"
)

// DefaultAddress is that of the store of one gateway.
const DefaultAddress = "sqlite:/var/lib/gatepost/state.db"

// DefaultPrefix is what keys in Redis begin with.
const DefaultPrefix = "gatepost:"

// Config is where a store is, as Parse reads it.
type Config struct {
	Kind Kind
	Path string // of SQLite

	Addresses []string // host:port
	DB        int
	Master    string // of Sentinel: the name of what it watches

	User, Password string
	PasswordFile   string // in the place of Password; read for each connection
	Prefix         string

	SentinelUser, SentinelPasswordFile string

	TLS               bool
	ServerName        string // in the certificate; "": the host
	CAFile            string // "": the system's
	CertFile, KeyFile string // "": none
}

// String has no password in it.
func (c Config) String() string {
	if c.Kind == KindSQLite {
		return "sqlite:" + c.Path
	}
	scheme, path := string(c.Kind), ""
	switch {
	case c.Kind == KindSentinel:
		path = fmt.Sprintf("/%s/%d", c.Master, c.DB)
	case c.Kind == KindRedis:
		path = fmt.Sprintf("/%d", c.DB)
	}
	if c.TLS {
		scheme = strings.Replace(scheme, "redis", "rediss", 1)
	}
	return scheme + "://" + strings.Join(c.Addresses, ",") + path
}

// Schemes lists how an address may begin.
func Schemes() []string {
	return []string{"sqlite:", "redis://", "rediss://", "redis-sentinel://", "rediss-sentinel://", "redis-cluster://", "rediss-cluster://"}
}

// Parse reads the address of a store:
//
//	sqlite:/path
//	redis://user:password@host:6379/0
//	redis-sentinel://host1,host2/master/0
//	redis-cluster://host1,host2,host3
//
// with rediss in the place of redis for TLS. Behind a "?" there may be
// password_file, prefix, ca_file, cert_file, key_file, server_name,
// sentinel_user and sentinel_password_file.
func Parse(address string) (Config, error) {
	if path, ok := strings.CutPrefix(address, "sqlite:"); ok {
		return parsePath(path)
	}
	scheme, rest, ok := strings.Cut(address, "://")
	c := Config{Prefix: DefaultPrefix}
	if after, tls := strings.CutPrefix(scheme, "rediss"); tls {
		scheme, c.TLS = "redis"+after, true
	}
	c.Kind = Kind(scheme)
	if !ok || !slices.Contains([]Kind{KindRedis, KindSentinel, KindCluster}, c.Kind) {
		return Config{}, fmt.Errorf("%q is no kind of store", visibleScheme(address))
	}
	if strings.Contains(rest[strings.IndexAny(rest+"/", "/?"):], "@") {
		// What stands before it may be half a password.
		return Config{}, errors.New(`an "@" behind the hosts: in a user or password, "/" is written as %2F and "?" as %3F; elsewhere "@" as %40`)
	}
	rest, query, _ := strings.Cut(rest, "?")
	rest, path, _ := strings.Cut(rest, "/")
	hosts := rest
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		if err := c.readUser(rest[:at]); err != nil {
			return Config{}, err
		}
		hosts = rest[at+1:]
	}
	err := errors.Join(c.readHosts(hosts), c.readPath(path), c.readQuery(query))
	if err != nil {
		return Config{}, err
	}
	return c, c.check()
}

// visibleScheme shows of an address what can't be a password.
func visibleScheme(address string) string {
	scheme, _, ok := strings.Cut(address, ":")
	if !ok || len(scheme) > 20 {
		return "…"
	}
	return scheme
}

func parsePath(path string) (Config, error) {
	switch {
	case strings.HasPrefix(path, "//") || !filepath.IsAbs(path):
		return Config{}, errors.New("the path of the file is not absolute")
	case strings.HasSuffix(path, "/"):
		return Config{}, errors.New("the path is that of a directory")
	case strings.IndexByte(path, 0) >= 0:
		return Config{}, errors.New("the path has NUL in it")
	}
	return Config{Kind: KindSQLite, Path: path}, nil
}

func (c *Config) readUser(info string) (err error) {
	user, password, _ := strings.Cut(info, ":")
	if c.User, err = url.PathUnescape(user); err == nil {
		c.Password, err = url.PathUnescape(password)
	}
	if err != nil {
		return errors.New(`user or password: a "%" is written as %25`) // the cause would show it
	}
	return nil
}

func (c *Config) readHosts(hosts string) error {
	port := "6379"
	if c.Kind == KindSentinel {
		port = "26379"
	}
	for _, h := range strings.Split(hosts, ",") {
		if h == "" {
			return errors.New("no host")
		}
		host, p, err := net.SplitHostPort(h)
		if err != nil { // no port
			host, p = strings.TrimSuffix(strings.TrimPrefix(h, "["), "]"), port
		}
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return fmt.Errorf("%q is no port", p)
		}
		if host == "" || strings.ContainsAny(host, "[]/@ \t") || strings.Contains(host, ":") && net.ParseIP(host) == nil {
			return fmt.Errorf("%q is no host", h)
		}
		c.Addresses = append(c.Addresses, net.JoinHostPort(host, p))
	}
	if c.Kind == KindRedis && len(c.Addresses) > 1 {
		return errors.New("more than one host: is it a Cluster (redis-cluster://) or are they Sentinels (redis-sentinel://)?")
	}
	return nil
}

func (c *Config) readPath(path string) error {
	parts := strings.Split(path, "/")
	db := ""
	switch c.Kind {
	case KindCluster:
		if path != "" {
			return errors.New("a Cluster has no numbered databases: remove what is behind the hosts")
		}
	case KindSentinel:
		if c.Master = parts[0]; c.Master == "" || len(parts) > 2 {
			return errors.New("no name of a master: write redis-sentinel://host1,host2/master/0")
		}
		if len(parts) == 2 {
			db = parts[1]
		}
	default:
		db = path
	}
	if db == "" {
		return nil
	}
	n, err := strconv.Atoi(db)
	if err != nil || n < 0 || n > 1<<16 {
		return fmt.Errorf("%q is no number of a database", db)
	}
	c.DB = n
	return nil
}

func (c *Config) readQuery(query string) error {
	options := map[string]*string{
		"password_file": &c.PasswordFile, "prefix": &c.Prefix, "ca_file": &c.CAFile, "cert_file": &c.CertFile, "key_file": &c.KeyFile,
		"server_name": &c.ServerName, "sentinel_user": &c.SentinelUser, "sentinel_password_file": &c.SentinelPasswordFile,
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return errors.New(`what is behind the "?" can't be read: write option=value, with "&" between them`)
	}
	var errs []error
	for name, v := range values {
		to, ok := options[name]
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("no option %q", name))
		case len(v) != 1 || v[0] == "":
			errs = append(errs, fmt.Errorf("%s: want one value", name))
		case strings.HasSuffix(name, "_file") && !filepath.IsAbs(v[0]):
			errs = append(errs, fmt.Errorf("%s: %q is no absolute path", name, v[0]))
		default:
			*to = v[0]
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

// longestPrefix leaves room for keys.
const longestPrefix = 64

func (c *Config) check() error {
	var errs []error
	wrong := func(is bool, what string) {
		if is {
			errs = append(errs, errors.New(what))
		}
	}
	odd := strings.ContainsFunc(c.Prefix, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("{}*?[]\\", r) })
	wrong(odd || len(c.Prefix) > longestPrefix, `prefix: want up to 64 letters, digits or signs, without { } * ? [ ] \`)
	wrong(c.PasswordFile != "" && c.Password != "", "both a password and password_file")
	wrong(c.User != "" && c.Password == "" && c.PasswordFile == "", "a user without a password")
	wrong((c.CertFile == "") != (c.KeyFile == ""), "cert_file and key_file belong together")
	wrong(!c.TLS && c.CAFile+c.CertFile+c.ServerName != "", "ca_file, cert_file and server_name are for TLS: write rediss")
	wrong(c.Kind != KindSentinel && c.SentinelUser+c.SentinelPasswordFile != "", "sentinel_user and sentinel_password_file are for redis-sentinel")
	wrong(c.SentinelUser != "" && c.SentinelPasswordFile == "", "sentinel_user without sentinel_password_file")
	return errors.Join(errs...)
}
