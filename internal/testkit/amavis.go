package testkit

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
)

// Amavis is a real amavisd as a content filter: it takes mail by SMTP and LMTP,
// and passes on what is good. It asks a clamd, and SpamAssassin's library by its
// local rules alone.
type Amavis struct {
	Addr  string // host:port
	Next  string // host:port of who takes what is good
	Clamd string // path of its socket

	dir string
	process
}

// NewAmavis prepares an amavisd in dir, which other users must be able to enter.
func NewAmavis(dir, next, clamd string) *Amavis {
	return &Amavis{dir: filepath.Join(dir, "amavis"), Next: next, Clamd: clamd}
}

// Start starts amavisd and waits until it greets.
func (a *Amavis) Start() error {
	if a.Addr == "" {
		if err := a.prepare(); err != nil {
			return fmt.Errorf("testkit: amavisd: %w", err)
		}
	}
	return a.start(func() error { return ask("tcp", a.Addr, "", "220 ") })
}

// Stop ends amavisd.
func (a *Amavis) Stop() error { return a.stop() }

// amavisConfig has $DIR, $PORT, $NEXT and $CLAMD in it.
const amavisConfig = `use strict;
$MYHOME = '$DIR'; $TEMPBASE = "$MYHOME/tmp"; $db_home = "$MYHOME/db"; $QUARANTINEDIR = "$MYHOME/quarantine";
$pid_file = "$MYHOME/pid"; $lock_file = "$MYHOME/lock"; $unix_socketname = undef;
$daemon_user = 'amavis'; $daemon_group = 'amavis';
$myhostname = 'amavis.example.com'; $mydomain = 'example.com'; @local_domains_maps = (1);
$max_servers = 2; $enable_db = 0; $enable_zmq = 0; $nanny_details_level = 0;
$do_syslog = 0; $log_level = 1;
$inet_socket_bind = '127.0.0.1'; $inet_socket_port = $PORT; @inet_acl = qw(127.0.0.1);
$forward_method = 'smtp:[127.0.0.1]:$NEXT'; $notify_method = $forward_method;
$final_virus_destiny = D_REJECT; $final_spam_destiny = D_REJECT; $final_banned_destiny = D_PASS; $final_bad_header_destiny = D_PASS;
$virus_quarantine_method = undef; $spam_quarantine_method = undef; $banned_files_quarantine_method = undef; $bad_header_quarantine_method = undef;
$sa_local_tests_only = 1; $sa_tag_level_deflt = undef; $sa_tag2_level_deflt = 5; $sa_kill_level_deflt = 15; $sa_mail_body_size_limit = 400*1024;
$enable_dkim_verification = 0; $enable_dkim_signing = 0;
$virus_admin = undef; $spam_admin = undef; $mailfrom_notify_admin = undef;
@av_scanners = (['ClamAV-clamd', \&ask_daemon, ["CONTSCAN {}\n", '$CLAMD'], qr/\bOK$/m, qr/\bFOUND$/m, qr/^.*?: (?!Infected Archive)(.*) FOUND$/m]);
@av_scanners_backup = ();
@bypass_banned_checks_maps = (1);
1;
`

func (a *Amavis) prepare() error {
	path, err := find("amavisd", "amavisd-new")
	if err != nil {
		return err
	}
	owner, err := user.Lookup("amavis")
	if err != nil {
		return &MissingError{"user amavis", "amavisd-new"}
	}
	uid, err := strconv.Atoi(owner.Uid)
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(owner.Gid)
	if err != nil {
		return err
	}
	for _, d := range []string{"", "tmp", "db", "quarantine"} {
		d = filepath.Join(a.dir, d)
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
		if err := os.Chown(d, uid, gid); err != nil {
			return fmt.Errorf("%w (amavisd is started by root)", err)
		}
	}
	addr, err := FreeAddr()
	if err != nil {
		return err
	}
	conf := filepath.Join(filepath.Dir(a.dir), "amavisd.conf") // amavisd must not be able to write it
	text := strings.NewReplacer("$DIR", a.dir, "$PORT", Port(addr), "$NEXT", Port(a.Next), "$CLAMD", a.Clamd).Replace(amavisConfig)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return err
	}
	a.process = process{path: path, args: []string{"-c", conf, "foreground"}, log: filepath.Join(a.dir, "log")}
	a.Addr = addr
	return nil
}
