package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// disk looks at the spool, who may read it, and how much room there is.
func (d *doctor) disk(context.Context) {
	dir := d.cfg.Spool
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d.warn("spool", "nothing, when the gateway was never started", "%s is not there yet", dir)
		return
	case err != nil:
		d.fail("spool", "run the doctor as root", "%v", err)
		return
	case !info.IsDir():
		d.fail("spool", "move it away", "%s is no directory", dir)
		return
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		d.fail("spool", "chmod 0700 "+dir, "others may look into the mail: %s has mode %#o", dir, mode)
	} else {
		d.ok("spool", "%s is for its owner only", dir)
	}
	d.owner(dir, info)
	var at syscall.Statfs_t
	if err := syscall.Statfs(dir, &at); err != nil {
		d.fail("disk", "", "%s: %v", dir, err)
		return
	}
	free := int64(at.Bavail) * int64(at.Bsize)
	text := fmt.Sprintf("%.1f GB free for %s", float64(free)/1e9, dir)
	switch full := "make room, or lower spool_min_free"; {
	case free < d.cfg.SpoolMinFree:
		d.fail("disk", full, "%s: mail is put off below %.1f GB", text, float64(d.cfg.SpoolMinFree)/1e9)
	case free < 2*d.cfg.SpoolMinFree || at.Bavail < at.Blocks/20:
		d.warn("disk", full, "%s", text)
	case at.Files > 0 && at.Ffree < at.Files/20:
		d.warn("disk", "remove small files", "%s, but %d of %d inodes", text, at.Ffree, at.Files)
	default:
		d.ok("disk", "%s", text)
	}
}

// owner compares that of the spool with the user of the process.
func (d *doctor) owner(dir string, info fs.FileInfo) {
	if d.status == nil {
		return
	}
	of, ok := info.Sys().(*syscall.Stat_t)
	process, err := os.Stat(filepath.Join("/proc", strconv.Itoa(d.status.PID)))
	if !ok || err != nil {
		return // another host's /proc, or none
	}
	if by, ok := process.Sys().(*syscall.Stat_t); ok && by.Uid != of.Uid {
		d.fail("spool", fmt.Sprintf("chown -R %d %s", by.Uid, dir), "%s belongs to user %d, and the gateway runs as %d", dir, of.Uid, by.Uid)
	}
	if of.Uid == 0 {
		d.warn("gateway", "run it as a user of its own, as packaging/systemd does", "it runs as root")
	}
}

// clock asks the kernel whether anybody keeps it right.
func (d *doctor) clock(context.Context) {
	const do = "install chrony or systemd-timesyncd; signatures, greylists and expiry need the time"
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	switch {
	case err != nil:
		d.warn("clock", do, "the kernel doesn't tell whether it is right: %v", err)
	case state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0:
		d.warn("clock", do, "nobody keeps it right")
	default:
		d.ok("clock", "is kept right")
	}
}

// Files that a connection may need: itself, a scanner's, a resolver's.
const (
	filesEach = 3
	filesElse = 256
)

// limits looks at what systemd lets the process have.
func (d *doctor) limits(context.Context) {
	if d.status == nil {
		return
	}
	need := filesElse
	for _, l := range d.cfg.Listeners {
		need += filesEach * l.Limits.MaxConnections
	}
	for _, m := range d.cfg.Milters {
		need += filesEach * m.MaxConnections
	}
	have, err := openFiles(d.status.PID)
	switch {
	case err != nil:
		d.warn("limits", "run the doctor as root, on the host of the gateway", "not known: %v", err)
	case have < need:
		d.warn("limits", fmt.Sprintf("LimitNOFILE=%d in its unit, or a lower max_connections", need), "the gateway may open %d files; all its connections may need %d", have, need)
	default:
		d.ok("limits", "the gateway may open %d files, and needs up to %d", have, need)
	}
}

func openFiles(pid int) (int, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		rest, ok := strings.CutPrefix(lines.Text(), "Max open files")
		if words := strings.Fields(rest); ok && len(words) > 0 {
			return strconv.Atoi(words[0])
		}
	}
	return 0, errors.New("/proc tells no limit of files")
}

// certificates looks at those of listeners and console.
func (d *doctor) certificates(context.Context) {
	look := func(name, host, certificate, key string) {
		if certificate == "" {
			return
		}
		const do = "renew it, then: systemctl reload gatepost"
		pair, err := tls.LoadX509KeyPair(certificate, key)
		if err != nil {
			d.fail("certificate", "look at tls_cert and tls_key", "%s: %v", name, err)
			return
		}
		if info, err := os.Stat(key); err == nil && info.Mode().Perm()&0o004 != 0 {
			d.fail("certificate", "chmod o-r "+key, "%s: everybody may read the key %s", name, key)
		}
		switch left := time.Until(pair.Leaf.NotAfter); {
		case left < 0:
			d.fail("certificate", do, "%s: it ended on %s", name, pair.Leaf.NotAfter.Format(time.DateOnly))
		case left < certificateWarning:
			d.warn("certificate", do, "%s: it ends on %s", name, pair.Leaf.NotAfter.Format(time.DateOnly))
		default:
			d.ok("certificate", "%s: good until %s", name, pair.Leaf.NotAfter.Format(time.DateOnly))
		}
		if host != "" && pair.Leaf.VerifyHostname(host) != nil {
			d.warn("certificate", "get one for "+host, "%s: it is not for %s, only for %s", name, host, strings.Join(pair.Leaf.DNSNames, ", "))
		}
	}
	for _, l := range d.cfg.Listeners {
		host := l.Hostname
		if host == "" {
			host = d.cfg.Hostname
		}
		look(l.Name, host, l.Certificate, l.Key)
		if l.Certificate == "" && l.Role == "mx" {
			d.warn("certificate", "set tls_cert and tls_key", "%s: without one, mail crosses the Internet in clear", l.Name)
		}
	}
	look("console", "", d.cfg.Console.Certificate, d.cfg.Console.Key)
}
