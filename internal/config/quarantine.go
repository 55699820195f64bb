package config

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"gatepost/internal/digest"
	"gatepost/internal/notify"
	"gatepost/internal/quarantine"
	"gatepost/internal/state"
)

// defaultKey is where the keys of links are when the store of windows is no file.
const defaultKey = "/var/lib/gatepost/digest.key"

// readQuarantine reads [quarantine], and who is told of what: [digest] and
// [notify].
func (c *Config) readQuarantine(top table) {
	c.Quarantine = quarantine.DefaultConfig()
	held := top.table("quarantine")
	held.bind(&c.Quarantine)
	held.attach(split(c.Quarantine.Validate()), &c.Quarantine, "quarantine: ")

	c.Digest = digest.DefaultConfig()
	d := top.table("digest")
	d.bind(&c.Digest)
	c.Digest.Hostname = c.Hostname
	if c.Digest.Key == "" {
		c.Digest.Key = filepath.Join(filepath.Dir(c.Store.Path), "digest.key")
		if c.Store.Kind != state.KindSQLite {
			c.Digest.Key = defaultKey
		}
		d.child("key").noteAs(strconv.Quote(c.Digest.Key), false)
	}
	d.attach(split(c.Digest.Validate()), &c.Digest, "digest: ")
	if c.Digest.On() && c.Console.Address == "" {
		d.problem("nobody could follow its links: there is no listener for them", `write address in [console]`)
	}
	if c.Digest.On() && strings.HasPrefix(c.Digest.URL, "http://") && !isLoopbackURL(c.Digest.URL) {
		d.child("url").warn("its links would cross the network in clear", "give [console] a certificate, or put a proxy with TLS in front")
	}

	c.Notify = notify.DefaultConfig()
	n := top.table("notify")
	n.bind(&c.Notify)
	c.Notify.Hostname = c.Hostname
	n.attach(split(c.Notify.Validate()), &c.Notify, "notify: ")
	if c.Notify.WebhookSecret == "" {
		return
	}
	secret, err := os.ReadFile(c.Notify.WebhookSecret)
	if err == nil {
		c.Notify.Secret = bytes.TrimSpace(secret)
		err = notify.CheckSecret(c.Notify.Secret)
	}
	if err != nil {
		n.child("webhook_secret_file").problem(err.Error(), "write a long random secret into a file that this user may read")
	}
}

func isLoopbackURL(s string) bool {
	host, _, _ := strings.Cut(strings.TrimPrefix(s, "http://"), "/")
	return strings.HasPrefix(host, "127.") || strings.HasPrefix(host, "localhost") || strings.HasPrefix(host, "[::1]")
}
