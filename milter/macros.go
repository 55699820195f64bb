package milter

import (
	"slices"

	"github.com/emersion/go-milter"
)

// UsualMacros are those that sendmail and Postfix send at a stage to a milter
// that asks for no other; spamass-milter wants r, s and b beside them.
func UsualMacros(at milter.Stage) []string {
	switch at {
	case milter.StageConnect:
		return []string{"j", "_", "v", "{daemon_name}", "{daemon_addr}", "{daemon_port}", "{if_name}", "{if_addr}", "{client_addr}", "{client_name}", "{client_port}", "{client_ptr}", "{client_resolve}"}
	case milter.StageHelo:
		return []string{"{tls_version}", "{cipher}", "{cipher_bits}", "{cert_subject}", "{cert_issuer}", "{verify}"}
	case milter.StageMailFrom:
		return []string{"i", "{auth_type}", "{auth_authen}", "{auth_ssf}", "{auth_author}", "{mail_mailer}", "{mail_host}", "{mail_addr}", "r", "s", "b"}
	case milter.StageRcptTo:
		return []string{"i", "{rcpt_mailer}", "{rcpt_host}", "{rcpt_addr}"}
	case milter.StageEOM:
		return []string{"i", "{msg_id}"}
	}
	return []string{"i"}
}

// addUsual adds the usual macros to what is wanted.
func addUsual(wanted map[milter.Stage][]string) {
	for at, list := range wanted {
		for _, name := range UsualMacros(at) {
			if !slices.Contains(list, name) {
				list = append(list, name)
			}
		}
		wanted[at] = list
	}
}
