package access

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// Tag says what the key of a line is compared with.
type Tag int

// The tags.
const (
	Connect    Tag = iota // names and addresses of clients
	From                  // senders
	To                    // recipients
	Spam                  // recipients that want, or don't want, unwanted mail
	GreetPause            // clients that wait for the greeting
	ClientRate            // clients whose connections are counted
	ClientConn            // the same, of those that are open
	TLSClt                // clients that must bring TLS
	Untagged              // clients, senders and recipients
	tags
)

var tagNames = [tags]string{"Connect:", "From:", "To:", "Spam:", "GreetPause:", "ClientRate:", "ClientConn:", "TLS_Clt:", ""}

// String is the tag as it is written, "From:", with nothing for Untagged.
func (t Tag) String() string { return tagNames[t] }

// hasTwin reports whether a line without a tag counts for t, too.
func (t Tag) hasTwin() bool { return t <= To }

// hasDefault reports whether "Tag:" alone is a key: what holds for all others.
func (t Tag) hasDefault() bool { return t == ClientRate || t == ClientConn || t == TLSClt }

// otherTags are sendmail's tags that are kept elsewhere here.
var otherTags = map[string]string{
	"tls_srv":      "write the TLS policy of the next hop into its [route] section",
	"tls_rcpt":     "write the TLS policy of the next hop into its [route] section",
	"try_tls":      "write the TLS policy of the next hop into its [route] section",
	"srv_features": "write tls and auth into the [listener] section",
	"clt_features": "write the TLS policy of the next hop into its [route] section",
	"authinfo":     "write the password of the next hop into its [route] section",
	"certissuer":   "client certificates are not taken from this file",
	"certsubject":  "client certificates are not taken from this file",
}

// cutTag splits "From:example.com". An IPv6 item has colons, too.
func cutTag(left string) (Tag, string, error) {
	name, item, ok := strings.Cut(left, ":")
	if !ok || left[0] == '[' || strings.EqualFold(name+":", prefixV6) {
		return Untagged, left, nil
	}
	for t, known := range tagNames[:Untagged] {
		t := Tag(t)
		switch {
		case !strings.EqualFold(name+":", known):
		case item == "" && !t.hasDefault():
			return 0, "", fmt.Errorf("nothing stands behind %s without a blank; write it like %sexample.com", known, known)
		default:
			return t, item, nil
		}
	}
	if do := otherTags[strings.ToLower(name)]; do != "" {
		return 0, "", fmt.Errorf("the tag %q has no effect here; remove the line: %s", name, do)
	}
	if _, err := netip.ParseAddr(left); err == nil {
		return 0, "", fmt.Errorf("an IPv6 address needs its prefix; write IPv6:%s", left)
	}
	return 0, "", fmt.Errorf("the tag %q is unknown; write Connect:, From: or To: before the key", name)
}

// kind is what an item names.
type kind int

const (
	kindDomain  kind = iota
	kindAddress      // of a client, or a prefix
	kindMailbox      // u@domain and u@
	kindDefault      // nothing: all others
)

// fits refuses what could never be found under its tag: a line without effect
// is a hole in what its author believes.
func (k kind) fits(t Tag) error {
	switch {
	case k == kindAddress && (t == From || t == To || t == Spam):
		return errors.New("a mail address holds no client address; use the tag Connect")
	case k == kindMailbox && t != From && t != To && t != Spam && t != Untagged:
		return errors.New("a client is no mail address; use the tag From or To")
	case k == kindDomain && (t == ClientRate || t == ClientConn):
		return errors.New("only the address of a client is asked for here; write one like 192.0.2")
	}
	return nil
}
