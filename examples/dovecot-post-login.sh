#!/bin/sh
# Tells Gatepost that a user has just logged in to read mail from $IP, so that
# mail may be sent from there for a while ([drac] of gatepost.toml). Dovecot:
#
#   service imap {
#     executable = imap imap-postlogin
#   }
#   service imap-postlogin {
#     executable = script-login /usr/local/lib/gatepost/dovecot-post-login.sh
#     user = vmail                    # must be in the group that owns the socket
#     unix_listener imap-postlogin {
#     }
#   }
#
# A gateway that is away keeps nobody from reading mail.

case $IP in
	"" | 127.* | ::1) ;; # webmail on this host: its users are not there
	*)
		curl --silent --show-error --max-time 2 --output /dev/null \
			--unix-socket "${GATEPOST_DRAC:-/run/gatepost/drac.sock}" \
			--data-urlencode "addr=$IP" http://gatepost/ || true
		;;
esac

exec "$@"
