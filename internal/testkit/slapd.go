package testkit

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Slapd is an instance of its own of the installed OpenLDAP. All that it knows
// was given to it by Add before Start, or by Apply later.
type Slapd struct {
	Addr, TLSAddr string // host:port for ldap:// (with StartTLS) and ldaps://
	Base          string // "dc=example,dc=com"
	BindDN        string // who may read, with Password; nobody reads without
	Password      string

	// Set before Start:
	Certificate *Certificate // nil: no TLS
	MaxAnswer   int          // entries that one search returns without paging; 0: 500

	dir  string
	ldif strings.Builder
	process
}

const slapdRoot, slapdSecret = "cn=admin", "root's own"

// NewSlapd prepares a directory server in dir.
func NewSlapd(dir string) *Slapd {
	s := &Slapd{dir: filepath.Join(dir, "slapd"), Base: "dc=example,dc=com", Password: "reader's own"}
	s.BindDN = "cn=gatepost," + s.Base
	s.Add("dn: " + s.Base + "\nobjectClass: domain\ndc: example")
	s.Add("dn: ou=people," + s.Base + "\nobjectClass: organizationalUnit\nou: people")
	s.Add("dn: " + s.BindDN + "\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\ncn: gatepost\nuserPassword: " + s.Password)
	return s
}

// Add adds an entry in LDIF to those that are there at the start.
func (s *Slapd) Add(ldif string) { s.ldif.WriteString(strings.TrimSpace(ldif) + "\n\n") }

// Person is the LDIF of a person: with a password unless that is "", the first
// address as mail and all of them as proxyAddresses, the first one as
// "SMTP:…", the others as "smtp:…".
func (s *Slapd) Person(uid, password string, addresses ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "dn: uid=%s,ou=people,%s\nobjectClass: inetOrgPerson\nobjectClass: mailPerson\nuid: %s\ncn: %s\nsn: %s\n", uid, s.Base, uid, uid, uid)
	if password != "" {
		fmt.Fprintf(&b, "userPassword:: %s\n", base64.StdEncoding.EncodeToString([]byte(password)))
	}
	for i, a := range addresses {
		if i == 0 {
			fmt.Fprintf(&b, "mail: %s\nproxyAddresses: SMTP:%s\n", a, a)
			continue
		}
		fmt.Fprintf(&b, "proxyAddresses: smtp:%s\n", a)
	}
	return b.String()
}

// DN is the name of a Person.
func (s *Slapd) DN(uid string) string { return "uid=" + uid + ",ou=people," + s.Base }

// Start starts the server and waits until it answers. What it knew before is
// kept.
func (s *Slapd) Start() error {
	if s.Addr == "" {
		if err := s.prepare(); err != nil {
			return fmt.Errorf("testkit: slapd: %w", err)
		}
	}
	return s.start(func() error {
		c, err := net.DialTimeout("tcp", s.Addr, time.Second)
		if err == nil {
			err = c.Close()
		}
		return err
	})
}

// Stop ends the server.
func (s *Slapd) Stop() error { return s.stop() }

// Kill ends the server with SIGKILL.
func (s *Slapd) Kill() { s.kill() }

// Apply changes what a running server knows: entries in LDIF, with changetype
// where they are not new.
func (s *Slapd) Apply(ldif string) error {
	path, err := find("ldapmodify", "ldap-utils")
	if err != nil {
		return err
	}
	cmd := exec.Command(path, "-a", "-x", "-H", "ldap://"+s.Addr, "-D", slapdRoot+","+s.Base, "-w", slapdSecret)
	cmd.Stdin = strings.NewReader(ldif)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("testkit: ldapmodify: %w\n%s", err, out)
	}
	return nil
}

func (s *Slapd) prepare() error {
	path, err := find("slapd", "slapd")
	if err != nil {
		return err
	}
	add, err := find("slapadd", "slapd")
	if err != nil {
		return err
	}
	addr, err := FreeAddr()
	if err != nil {
		return err
	}
	listen := "ldap://" + addr
	if s.Certificate != nil {
		if s.TLSAddr, err = FreeAddr(); err != nil {
			return err
		}
		listen += " ldaps://" + s.TLSAddr
	}
	if err := os.MkdirAll(filepath.Join(s.dir, "db"), 0o700); err != nil {
		return err
	}
	conf := filepath.Join(s.dir, "slapd.conf")
	if err := os.WriteFile(conf, []byte(s.conf()), 0o600); err != nil {
		return err
	}
	var out bytes.Buffer
	cmd := exec.Command(add, "-q", "-f", conf)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(s.ldif.String()), &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("slapadd: %w\n%s", err, &out)
	}
	s.process = process{path: path, args: []string{"-h", listen, "-f", conf, "-d", "stats"}, log: filepath.Join(s.dir, "log")}
	s.Addr = addr
	return nil
}

// conf has the schema of Microsoft's directory for addresses: every site has
// them there.
func (s *Slapd) conf() string {
	max := s.MaxAnswer
	if max == 0 {
		max = 500
	}
	conf := `include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
attributetype ( 1.2.840.113556.1.2.210 NAME 'proxyAddresses' EQUALITY caseIgnoreMatch SUBSTR caseIgnoreSubstringsMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
objectclass ( 1.3.6.1.4.1.4203.666.100.1 NAME 'mailPerson' SUP top AUXILIARY MAY proxyAddresses )
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile ` + s.dir + `/pid
`
	if c := s.Certificate; c != nil {
		conf += "TLSCertificateFile " + c.Cert + "\nTLSCertificateKeyFile " + c.Key + "\n"
	}
	return conf + fmt.Sprintf(`sizelimit size.soft=%d size.hard=%d size.prtotal=unlimited
database mdb
maxsize 268435456
suffix %q
rootdn %q
rootpw %q
directory %s/db
dbnosync
index objectClass,uid eq
index mail,proxyAddresses eq,sub
access to * by users read by anonymous auth
`, max, max, s.Base, slapdRoot+","+s.Base, slapdSecret, s.dir)
}
