package testkit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// UseSASL makes Postfix want a login: "name@next.test", with one of the
// mechanisms named, over TLS. It comes before Start.
func (p *Postfix) UseSASL(name, password string, mechanisms ...string) error {
	path, err := find("saslpasswd2", "sasl2-bin libsasl2-modules")
	if err != nil {
		return err
	}
	// Where Debian's Postfix looks, whatever cyrus_sasl_config_path says.
	conf := filepath.Join(p.dir, "etc", "sasl")
	if err := os.MkdirAll(conf, 0o755); err != nil {
		return err
	}
	db := filepath.Join(p.dir, "sasldb2") // Postfix wants its own files to be root's
	cmd := exec.Command(path, "-p", "-c", "-f", db, "-u", "next.test", name)
	cmd.Stdin = strings.NewReader(password)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("testkit: saslpasswd2: %w\n%s", err, out)
	}
	uid, gid, err := ids("postfix")
	if err != nil {
		return err
	}
	if err := os.Chown(db, uid, gid); err != nil {
		return err
	}
	text := "pwcheck_method: auxprop\nauxprop_plugin: sasldb\nsasldb_path: " + db + "\nmech_list: " + strings.Join(mechanisms, " ") + "\n"
	if err := os.WriteFile(filepath.Join(conf, "smtpd.conf"), []byte(text), 0o644); err != nil {
		return err
	}
	p.Config = append(p.Config,
		"smtpd_sasl_auth_enable = yes", "smtpd_sasl_type = cyrus", "smtpd_sasl_path = smtpd", "smtpd_sasl_local_domain = next.test",
		"smtpd_sasl_security_options = noanonymous", "smtpd_tls_auth_only = yes",
		"smtpd_recipient_restrictions = permit_sasl_authenticated, reject")
	return nil
}
