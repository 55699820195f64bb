package testkit

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Rspamd is a real rspamd as a milter: its proxy worker, which scans itself. It
// needs no network, and has no module and no rule but GTUBE.
type Rspamd struct {
	Addr string // host:port

	dir string
	process
}

// NewRspamd prepares an rspamd in dir.
func NewRspamd(dir string) *Rspamd { return &Rspamd{dir: filepath.Join(dir, "rspamd")} }

// Start starts rspamd and waits until it takes connections.
func (r *Rspamd) Start() error {
	if r.Addr == "" {
		if err := r.prepare(); err != nil {
			return fmt.Errorf("testkit: rspamd: %w", err)
		}
	}
	return r.start(func() error { return takes("tcp", r.Addr) })
}

// Stop ends rspamd.
func (r *Rspamd) Stop() error { return r.stop() }

// Socket is where it listens, in libmilter's spelling.
func (r *Rspamd) Socket() string { return "inet:" + Port(r.Addr) + "@127.0.0.1" }

// rspamdConfig has $DIR, $SHARE and $ADDR in it.
const rspamdConfig = `lua_path = "$SHARE/lualib/?.lua;$SHARE/lualib/?/init.lua";
options {
	pidfile = "$DIR/pid"; tempdir = "$DIR"; url_tld = "$DIR/tld"; filters = "";
	cache_file = "$DIR/cache"; hs_cache_dir = "$DIR"; stats_file = "$DIR/stats"; rrd = ""; control_socket = "$DIR/control mode=0600";
	disable_hyperscan = true; gtube_patterns = "reject";
	dns { nameserver = "127.0.0.1:9:1"; timeout = 0.1s; retransmits = 0; }
}
logging { type = "console"; level = "info"; }
worker "normal" { enabled = false; }
worker "controller" { enabled = false; }
worker "rspamd_proxy" { bind_socket = "$ADDR"; milter = yes; timeout = 20s; count = 1; upstream "local" { default = yes; self_scan = yes; } }
metric { name = "default"; actions { reject = 15; add_header = 6; } }
`

func (r *Rspamd) prepare() error {
	// Not installed: the package would start it.
	root, err := unpacked("rspamd", "usr/bin/rspamd", func(dir string) error {
		return unpackPackages(dir, "rspamd", nil, []string{"libhyperscan5", "libluajit-5.1-2", "libsodium23", "libunwind8"})
	})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		return err
	}
	addr, err := FreeAddr()
	if err != nil {
		return err
	}
	share := filepath.Join(root, "usr/share/rspamd")
	conf := strings.NewReplacer("$DIR", r.dir, "$SHARE", share, "$ADDR", addr).Replace(rspamdConfig)
	for name, text := range map[string]string{"rspamd.conf": conf, "tld": "com\ntest\n"} {
		if err := os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	libraries := filepath.Join(root, "usr/lib/x86_64-linux-gnu")
	if found, _ := filepath.Glob(filepath.Join(root, "usr/lib/*-linux-gnu*")); len(found) == 1 {
		libraries = found[0]
	}
	r.process = process{
		path: filepath.Join(root, "usr/bin/rspamd"), args: []string{"-i", "-f", "-c", filepath.Join(r.dir, "rspamd.conf")},
		env: []string{
			"LD_LIBRARY_PATH=" + libraries + ":" + filepath.Join(root, "usr/lib/rspamd"), "SHAREDIR=" + share,
			"LUALIBDIR=" + filepath.Join(share, "lualib"), "RULESDIR=" + filepath.Join(share, "rules"), "PLUGINSDIR=" + filepath.Join(share, "plugins"),
		},
		log: filepath.Join(r.dir, "log"),
	}
	r.Addr = addr
	return nil
}
